"""Runners: one connection's or one endpoint's work, from claimed to released.

ConnectionRunner   poll, commands -> outbox -> publish     everything that touches one ERP, in one place
EndpointRunner     verify, then lanes -> send -> record    everything that is sent to one URL, in one place
"""

from relay.runners.clock import utc_now
from relay.runners.connection import ConnectionParts, ConnectionRunner, connector_of
from relay.runners.endpoint import EndpointParts, EndpointRunner

__all__ = ["ConnectionParts", "ConnectionRunner", "EndpointParts", "EndpointRunner", "connector_of", "utc_now"]
