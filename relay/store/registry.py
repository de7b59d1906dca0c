"""What people keep: connections, endpoints, and a look at deliveries. One call per command."""

from relay.store.connections import KeptConnections
from relay.store.delivery_list import DeliveryList
from relay.store.endpoints import KeptEndpoints


class Registry(KeptConnections, KeptEndpoints, DeliveryList):
    """Connections and endpoints. Names may be given as id, name, or customer/name."""
