"""What of a movement as it was read goes back with a change, so that nothing is lost that the change does not name."""

from collections.abc import Mapping
from typing import Any, Final

from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.codes import COMPLEMENTARY
from relay.connectors.rm.contract import COMPUTED_OF_ITEM

PRODUCT: Final = ("ProductId", "ProductCodeValue")
"""A product's own number and its code: the one loses the other."""
_NAMING_A_LINE: Final = frozenset({"CompanyId", "MovementId", fields_of.LINE_ID, "SequentialNumber"})


def stays(value: Any) -> bool:
    """Whether a value as it was read goes back with a change: collapsed lists and empty fields do not."""
    return value is not None and not isinstance(value, list)


def is_kept(name: str, value: Any) -> bool:
    """Whether a field of a line goes back: what names the line, and what RM does not compute."""
    return stays(value) and not name.startswith("_") and (name in _NAMING_A_LINE or name not in COMPUTED_OF_ITEM)


def merged(before: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with the complementary ones that they do not name."""
    own = fields.get(COMPLEMENTARY)
    if own is None:
        return dict(fields)
    return {**fields, COMPLEMENTARY: {**(before.get(COMPLEMENTARY) or {}), **own}}


def changed_line(line: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The line with other values; another product by its number loses its old code, and the other way round."""
    other = {one for one, instead in (PRODUCT, PRODUCT[::-1]) if instead in fields and one not in fields}
    return {**{name: value for name, value in line.items() if name not in other}, **merged(line, fields)}
