"""What Protheus's own codes and columns mean: the usual ones, and which of them a connection's mapping may override."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.connectors.kit.units import BRAZILIAN
from relay.connectors.protheus import legend
from relay.domain.mapping import MappingOverrides, Names, Overridable
from relay.domain.orders import Status

CURRENCIES: Final[Mapping[str, str]] = {"1": "BRL"}
"""MV_MOEDA1 is the local currency."""
DECIMALS: Final[Mapping[str, int]] = {"C7_TXMOEDA": 4}
"""Standard decimals where they are not 2."""

_COLUMN: Final = Names("column of SC7, like C7_XPRIOR", r"C7_[A-Z0-9_]{1,12}", upper=True)
OVERRIDABLE: Final[Overridable] = {
    "currencies": Names("currency index (C7_MOEDA), like 2", r"[1-9][0-9]?"),
    "units": Names("unit (C7_UM), like CX", r"\S.{0,9}"),
    "statuses": Names("approval code (C7_CONAPRO), like X", r"\S"),
    "fields": _COLUMN,
    "line_fields": _COLUMN,
    "decimals": _COLUMN,
}


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of one connection: the usual ones, and its own before them."""

    own: MappingOverrides

    def currency(self, index: str | None) -> str | None:
        """The ISO 4217 code of a currency index, or None: not mapped."""
        return self.own.currencies.get(index or "") or CURRENCIES.get(index or "")

    def unit(self, raw: str | None) -> str | None:
        """The Rec 20 code of a unit, or None: not mapped."""
        return self.own.units.get(raw or "") or BRAZILIAN.get(raw or "")

    def places(self, column: str) -> int:
        """Decimals of a column here."""
        return self.own.decimals.get(column, DECIMALS.get(column, 2))

    @property
    def statuses(self) -> Mapping[str, Status]:
        """The status of an open order by C7_CONAPRO."""
        return {**legend.STATUSES, **self.own.statuses}
