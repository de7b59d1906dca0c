"""The client of relay's control API: what the command line is made of, and programs in Python may use.

    http = httpx.AsyncClient(base_url="https://relay.example.com", headers={"authorization": "Bearer rlyk_..."})
    async with http:
        print(await Client(http).endpoint("acme/portal"))

Things are named as people name them: by id, name, or customer/name. Answers are the views of `relay.control`; refusals
are the errors that the operations themselves raise.
"""

from relay.client.callers import CallerCalls
from relay.client.commands import CommandCalls
from relay.client.connections import ConnectionCalls
from relay.client.customers import CustomerCalls
from relay.client.deliveries import DeliveryCalls
from relay.client.endpoints import EndpointCalls
from relay.client.keys import KeyCalls
from relay.client.mappings import MappingCalls
from relay.client.orders import OrderCalls
from relay.client.syncs import SyncCalls

__all__ = ["Client"]


class Client(
    CustomerCalls,
    ConnectionCalls,
    MappingCalls,
    SyncCalls,
    OrderCalls,
    CommandCalls,
    EndpointCalls,
    DeliveryCalls,
    KeyCalls,
    CallerCalls,
):
    """Everything that the control API does."""
