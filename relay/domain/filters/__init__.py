"""Conditions on events, as people write them for an endpoint: `data.order.total > 1000 and changed(delivery_date)`.

parse(text) -> Condition        Condition.holds(event) -> bool
"""

from relay.domain.filters.conditions import Condition
from relay.domain.filters.parser import LONGEST, parse

__all__ = ["LONGEST", "Condition", "parse"]
