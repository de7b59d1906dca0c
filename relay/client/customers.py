"""Customers, as `relay.control` has them, over HTTP."""

from relay.client.calls import Calls, segment
from relay.control.customers import CustomerView


class CustomerCalls(Calls):
    """What people do with customers."""

    async def add_customer(self, customer: str) -> CustomerView:
        """Add a customer; a new connection or endpoint does so, too."""
        return await self._post(CustomerView, "/v1/customers", {"id": customer})

    async def customers(self) -> list[CustomerView]:
        """All customers, by id."""
        return await self._list(CustomerView, "/v1/customers")

    async def customer(self, customer: str) -> CustomerView:
        """One customer."""
        return await self._get(CustomerView, f"/v1/customers/{segment(customer)}")

    async def remove_customer(self, customer: str) -> CustomerView:
        """Remove a customer that has nothing left; what it was."""
        return await self._delete(CustomerView, f"/v1/customers/{segment(customer)}")
