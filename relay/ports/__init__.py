"""The borders between rooms: what a connector is, and what the stages ask of store, Kafka and sender."""

from relay.ports.clock import Clock, Dice
from relay.ports.connectors import Connector, ConnectorKind, Found, Mappings, Pace, Page, Rejected, Sample
from relay.ports.deliveries import Bite, Deliveries, Heads, ReplayLook, Replays, Rules, Space, Verifying
from relay.ports.events import Admissions, FormerMappings, Orders, Outbox, OutboxEntry, OutboxRow, Syncs
from relay.ports.intake import Intake, Kept, NewCommand, Overdue, Standing, expired_letter
from relay.ports.leases import Claimed, Leasing, Renewed, Watching
from relay.ports.wires import Asking, Publishing, Sending
from relay.ports.writing import Commands, Ended, OpenCommand, Prepared, Writer

__all__ = [
    "Admissions",
    "Asking",
    "Bite",
    "Claimed",
    "Clock",
    "Commands",
    "Connector",
    "ConnectorKind",
    "Deliveries",
    "Dice",
    "Ended",
    "FormerMappings",
    "Found",
    "Heads",
    "Intake",
    "Kept",
    "Leasing",
    "Mappings",
    "NewCommand",
    "OpenCommand",
    "Orders",
    "Outbox",
    "OutboxEntry",
    "OutboxRow",
    "Overdue",
    "Pace",
    "Page",
    "Prepared",
    "Publishing",
    "Rejected",
    "Renewed",
    "ReplayLook",
    "Replays",
    "Rules",
    "Sample",
    "Sending",
    "Space",
    "Standing",
    "Syncs",
    "Verifying",
    "Watching",
    "Writer",
    "expired_letter",
]
