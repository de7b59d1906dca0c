"""What people keep: customers, connections, endpoints, and a look at deliveries. One call per command."""

from relay.domain.errors import NotFound
from relay.store.connections import KeptConnections
from relay.store.delivery_list import DeliveryList
from relay.store.endpoints import KeptEndpoints

ADD_CUSTOMER = "INSERT INTO customers (id, wrapped_key) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
CUSTOMER_KEY = "SELECT wrapped_key FROM customers WHERE id = $1"


class Registry(KeptConnections, KeptEndpoints, DeliveryList):
    """Customers, connections and endpoints. Names may be given as id, name, or customer/name."""

    async def customer_key(self, customer_id: str, new_key: bytes | None = None) -> bytes:
        """The customer's wrapped data key; with `new_key` the customer is made when it is not there.

        Raises:
            NotFound: no such customer, and no key to make it with.
        """
        async with self._database.session() as connection:
            if new_key is not None:
                await connection.execute(ADD_CUSTOMER, customer_id, new_key)
            found = await connection.fetchval(CUSTOMER_KEY, customer_id)
        if found is None:
            raise NotFound(f"there is no customer {customer_id!r}")
        return bytes(found)
