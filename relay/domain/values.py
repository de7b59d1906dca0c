"""Values that are made for every delivery: immutable to whoever writes code, as the type checker sees to it.

A dataclass that is frozen at run time sets each of its fields by a call of its own, which makes it three times as
expensive: for what a delivery needs, 7 % of a worker's work.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

Made = TypeVar("Made")


@dataclass_transform(frozen_default=True)
def value(cls: type[Made]) -> type[Made]:
    """A dataclass with slots whose fields nobody sets again."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
