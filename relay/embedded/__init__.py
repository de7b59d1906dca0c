"""PostgreSQL and a Kafka-protocol broker from wheels, so that nothing has to be installed.

    postgres(data) -> DSN          one server per directory, shared by every relay process on it
    broker(data)   -> Broker       tansu on an objects server of our own (SQLite), or in memory

The wheels are the optional extra `erp-relay[embedded]`; without them both raise a UserError that says so.
"""

from relay.embedded.broker import Broker, broker
from relay.embedded.postgres import postgres

__all__ = ["Broker", "broker", "postgres"]
