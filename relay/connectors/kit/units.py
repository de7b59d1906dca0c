"""Units of measure as systems in Brazil usually write them, by UN/ECE Recommendation 20."""

from collections.abc import Mapping
from typing import Final

BRAZILIAN: Final[Mapping[str, str]] = {
    "UN": "C62",
    "PC": "H87",
    "KG": "KGM",
    "GR": "GRM",
    "TN": "TNE",
    "TL": "TNE",
    "MT": "MTR",
    "M": "MTR",
    "M2": "MTK",
    "M3": "MTQ",
    "LT": "LTR",
    "L": "LTR",
    "ML": "MLT",
    "HR": "HUR",
    "DZ": "DZN",
    "PR": "PR",
}
"""Boxes and the like are the customer's own: a connection maps them."""
