"""The two spellings of vendors: the published contract writes CostumerVendorCode, some answers CustomerVendorCode."""

from collections.abc import Mapping
from typing import Any, Final

MISSPELT: Final = "Costumer"
SPELT: Final = "Customer"


def mended(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the names that the rules know."""
    return {name.replace(MISSPELT, SPELT, 1): value for name, value in record.items()}


def spelt(body: Mapping[str, Any], spelling: str) -> dict[str, Any]:
    """The body with the names of one of the spellings."""
    return {name.replace(SPELT, spelling, 1): value for name, value in body.items()}


def spelling_of(record: Mapping[str, Any]) -> str | None:
    """How a record is spelt; None when it does not show."""
    return next((each for each in (MISSPELT, SPELT) if any(name.startswith(each) for name in record)), None)
