"""What RM's own codes mean: the usual ones, and which of them a connection's mapping may override."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.connectors.kit.units import BRAZILIAN
from relay.domain.mapping import MappingOverrides, Names, Overridable, ReaderName
from relay.domain.orders import Status

STATUSES: Final[Mapping[str, Status]] = {
    "A": Status.APPROVED,
    "B": Status.PENDING_APPROVAL,
    "C": Status.CANCELLED,
    "F": Status.RECEIVED,
    "G": Status.PARTIALLY_RECEIVED,
}
"""TMOV.STATUS of purchase orders; installations give letters of their own other meanings."""
CURRENCIES: Final[Mapping[str, str]] = {"R$": "BRL"}
"""RM holds the symbol that somebody typed."""
FIELDS: Final = dict.fromkeys(("FreeField1", "FreeField2", "FreeField3"), ReaderName.AUTO)
"""Fields that are passed through unless a mapping omits them."""
COMPLEMENTARY: Final = "complementaryFields"
"""Where RM shows the customer's own columns (TMOVCOMPL), if it is set up to."""

_COLUMN: Final = Names(
    f"field of RM, like OrderNumber or {COMPLEMENTARY}.PRIORITY", r"[A-Za-z][A-Za-z0-9_]{0,60}(\.[A-Za-z0-9_]{1,60})?"
)
OVERRIDABLE: Final[Overridable] = {
    "currencies": Names("currency symbol of RM, like US$", r"\S.{0,19}"),
    "units": Names("unit (CODUND), like CX", r"\S.{0,9}"),
    "statuses": Names("status of a movement (TMOV.STATUS), like A", r"\S"),
    "fields": _COLUMN,
    "line_fields": _COLUMN,
    "decimals": Names("numeric field of RM, like UnitPrice", r"[A-Za-z][A-Za-z0-9_]{0,60}"),
}
_ISO_LETTERS: Final = 3


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of one connection: the usual ones, and its own before them."""

    own: MappingOverrides

    def currency(self, symbol: str | None) -> str | None:
        """The ISO 4217 code of a symbol, or None: not mapped."""
        if symbol is None:
            return None
        known = self.own.currencies.get(symbol) or CURRENCIES.get(symbol)
        iso = len(symbol) == _ISO_LETTERS and symbol.isascii() and symbol.isalpha() and symbol.isupper()
        return known or (symbol if iso else None)

    def unit(self, raw: str | None) -> str | None:
        """The Rec 20 code of a unit, or None: not mapped."""
        return self.own.units.get(raw or "") or BRAZILIAN.get(raw or "")

    def status(self, letter: str | None) -> Status | None:
        """The status of a letter, or None: not mapped."""
        return self.own.statuses.get(letter or "") or STATUSES.get(letter or "")

    def places(self, name: str, usual: int) -> int:
        """Decimals of a field here."""
        return self.own.decimals.get(name, usual)

    @property
    def fields(self) -> Mapping[str, ReaderName]:
        """Extra fields of the order: those passed through anyway, and the mapping's."""
        return {**FIELDS, **self.own.fields}
