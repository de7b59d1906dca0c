"""Prometheus metrics, each named once. Labels are few and closed: never an id, so that series stay countable."""

from prometheus_client import Counter, Gauge, Histogram

POLLS = Counter("relay_polls", "Polls of ERPs.", ["result"])
EVENTS_MADE = Counter("relay_events_made", "Change events written to the outbox.")
RECORDS_REJECTED = Counter("relay_records_rejected", "ERP records that could not be read.")
EVENTS_PUBLISHED = Counter("relay_events_published", "Events that the broker acknowledged.")
EVENTS_ADMITTED = Counter("relay_events_admitted", "Events that came back from the topic and became deliveries.")
COMMANDS_TAKEN = Counter("relay_commands_taken", "Commands that came in from Kafka.", ["outcome"])
COMMANDS_EXPIRED = Counter("relay_commands_expired", "Commands that ran out of time with nobody to do them.")
DEAD_LETTERS = Counter("relay_dead_letters", "Messages that nobody could work with.")
COMMANDS = Counter("relay_commands", "Commands that a connection's runner ended.", ["outcome"])
COMMAND_SECONDS = Histogram(
    "relay_command_seconds",
    "From a command's coming in to its end.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400),
)
ATTEMPTS = Counter("relay_delivery_attempts", "Attempts to deliver a webhook.", ["outcome"])
ATTEMPT_SECONDS = Histogram(
    "relay_delivery_attempt_seconds",
    "How long attempts took.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
)
LEASES = Gauge("relay_leases_held", "Leases that this worker holds.", ["kind"])
