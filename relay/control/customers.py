"""Customers: whose data it is. Each has a data key of its own, which is made when something is first sealed."""

from dataclasses import dataclass
from datetime import datetime

from relay.control.at_hand import AtHand
from relay.control.given import name_given
from relay.control.views import View
from relay.store.customers import CustomerStore


class CustomerView(View):
    """A customer, and how many connections and endpoints it has."""

    id: str
    created_at: datetime
    connections: int
    endpoints: int


@dataclass(frozen=True, slots=True)
class CustomerOperations(AtHand):
    """What people do with customers."""

    async def add_customer(self, customer: str) -> CustomerView:
        """Add a customer; a new connection or endpoint does so, too. Raises UserError, AlreadyThere."""
        name_given("customer", customer)
        await self._customers.add(customer)
        return await self.customer(customer)

    async def customer_page(self, after: str, most: int) -> list[CustomerView]:
        """Up to `most` customers that follow one, by id."""
        return [CustomerView.model_validate(row) for row in await self._customers.customers(after, most)]

    async def customer(self, customer: str) -> CustomerView:
        """One customer. Raises NotFound."""
        return CustomerView.model_validate(await self._customers.customer(customer))

    async def remove_customer(self, customer: str) -> CustomerView:
        """Remove a customer that has nothing left, and its data key; what it was. Raises NotFound, UserError."""
        seen = await self.customer(customer)
        await self._customers.remove(customer)
        return seen

    @property
    def _customers(self) -> CustomerStore:
        return CustomerStore(self.registry.database)
