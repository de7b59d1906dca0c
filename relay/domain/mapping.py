"""A connection's own mapping: what people override of a connector's rules, and which mapping an order was read with.

    overrides (maps and columns by name) -> honoured(...) checks the names -> the connector maps with them

Maps and column names only, each column with a named reader: nothing here is evaluated.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from relay.domain.errors import UserError
from relay.domain.orders import Status


class ReaderName(StrEnum):
    """How the value of an extra column is read."""

    AUTO = "auto"
    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    CODE = "code"
    BOOLEAN = "boolean"
    OMIT = "omit"


READERS: Final[Mapping[ReaderName, str]] = {
    ReaderName.AUTO: "as it comes: text without padding, numbers as decimal text, dates as ISO text",
    ReaderName.TEXT: "text without padding; a number as text",
    ReaderName.NUMBER: "an exact decimal number, also one that comes as text",
    ReaderName.DATE: "a date without zone (YYYYMMDD or YYYY-MM-DD); blanks and zeros are null",
    ReaderName.CODE: "a code: text or whole number, without blanks around it",
    ReaderName.BOOLEAN: "true or false, also as S/N, Y/N, T/F, .T./.F. or 1/0; blank is null",
    ReaderName.OMIT: "not at all: leaves out a field that the connector passes through by itself",
}


def _no_deleted(status: Status) -> Status:
    if status is Status.DELETED:
        raise ValueError("an order is deleted when its system says so, not by a code")
    return status


def _all_auto(value: Any) -> Any:
    """A list of names is short for {name: "auto"}."""
    listed = isinstance(value, Iterable) and not isinstance(value, (str, Mapping))
    return dict.fromkeys(value, ReaderName.AUTO) if listed else value


Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Unit = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2,3}$")]
Columns = Annotated[dict[Name, ReaderName], BeforeValidator(_all_auto), Field(max_length=100)]


class MappingOverrides(BaseModel):
    """What a connection maps otherwise than its connector does, or beyond it. The same parts for every connector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currencies: Annotated[dict[Name, Currency], Field(max_length=300)] = Field(
        default={}, description="ISO 4217 code by the ERP's own currency."
    )
    units: Annotated[dict[Name, Unit], Field(max_length=1000)] = Field(
        default={}, description="UN/ECE Rec 20 code by the ERP's own unit."
    )
    statuses: Annotated[dict[Name, Annotated[Status, AfterValidator(_no_deleted)]], Field(max_length=100)] = Field(
        default={}, description="Status by the ERP's own code."
    )
    fields: Columns = Field(default={}, description="Extra columns of the order, each with how it is read.")
    line_fields: Columns = Field(default={}, description="Extra columns of each line, each with how it is read.")
    decimals: Annotated[dict[Name, Annotated[int, Field(ge=0, le=12)]], Field(max_length=100)] = Field(
        default={}, description="Decimals of columns that are wider here than usual."
    )

    def told(self) -> dict[str, Any]:
        """The parts that say something, JSON-shaped: what is stored."""
        return {part: names for part, names in self.model_dump(mode="json").items() if names}


@dataclass(frozen=True, slots=True)
class Names:
    """How the ERP's own names look in one part of the overrides: in words, and as a pattern."""

    words: str
    pattern: str
    upper: bool = False


Overridable = Mapping[str, Names]
"""The parts of the overrides that a connector honours; it knows nothing of the others."""


def honoured(overridable: Overridable, overrides: MappingOverrides) -> MappingOverrides:
    """The overrides with their names as the ERP writes them. Raises UserError naming every one that cannot be used."""
    checked: dict[str, dict[str, Any]] = {}
    wrong = list(_not_honoured(overridable, overrides))
    for part, names in overridable.items():
        given: Mapping[str, Any] = getattr(overrides, part)
        told = {(name.strip().upper() if names.upper else name.strip()): value for name, value in given.items()}
        wrong += [f"{part}: {name!r} is no {names.words}" for name in told if not re.fullmatch(names.pattern, name)]
        checked[part] = told
    if wrong:
        raise UserError("\n".join(["the mapping cannot be used:", *(f"  {each}" for each in wrong)]))
    return MappingOverrides(**checked)


def _not_honoured(overridable: Overridable, overrides: MappingOverrides) -> Iterator[str]:
    known = ", ".join(overridable) or "none"
    for part in overrides.told():
        if part not in overridable:
            yield f"{part}: this connector takes none; it takes {known}"


@dataclass(frozen=True, slots=True)
class Edition:
    """Which mapping an order was read with: the connector's own rules, and the version of the overrides."""

    rules: int = 1
    version: int = 0


class Retold(StrEnum):
    """How an order is told that only a changed mapping shows otherwise."""

    MAPPING_CHANGED = "mapping_changed"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class MappingVersion:
    """One version of a connection's overrides; number 0 has none."""

    number: int = 0
    overrides: MappingOverrides = field(default_factory=MappingOverrides)
    retold: Retold = Retold.MAPPING_CHANGED


@dataclass(frozen=True, slots=True)
class Revisions:
    """The versions of a connector's own rules, and which canonical paths each one after the first changed.

    A path is as in capabilities (`lines[].unit`), or `*` for all of them.
    """

    changed: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The newest version."""
        return max(self.changed, default=1)

    def since(self, version: int) -> frozenset[str]:
        """The paths that were changed after this version."""
        return frozenset(path for number, paths in self.changed.items() if number > version for path in paths)
