"""Customers' data keys: each is wrapped by a master key, and has a version that the values sealed with it name."""

from dataclasses import dataclass, field

FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """One version of a customer's data key, as it is stored: wrapped."""

    customer_id: str
    version: int
    wrapped: bytes = field(repr=False)
