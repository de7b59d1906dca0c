"""JSON with exact numbers: decimals are written with their own digits, and never pass through a float."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def exact_json(value: Any) -> str:
    """JSON text of a tree that may hold decimals."""
    match value:
        case Decimal():
            return format(value, "f")
        case Mapping():
            return "{" + ",".join(f"{json.dumps(str(name))}:{exact_json(each)}" for name, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(exact_json, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)


def shown(value: Any) -> Any:
    """The same tree as people may see it: decimals as text, because readers of JSON make floats of them."""
    match value:
        case Decimal():
            return format(value, "f")
        case Mapping():
            return {name: shown(each) for name, each in value.items()}
        case list() | tuple():
            return [shown(each) for each in value]
        case _:
            return value
