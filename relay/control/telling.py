"""Telling: where something stands now, why, and what happens next. Pure: facts and the time in, sentences out.

Each sentence names the next thing that will happen, or what a person has to do for anything to happen.
"""

from dataclasses import dataclass
from datetime import datetime

from relay.domain.connections import ConnectionState
from relay.domain.deliveries import DeliveryState
from relay.domain.endpoints import EndpointState, Verification
from relay.domain.verification import proof
from relay.store.explain import ConnectionFacts, DeliveryFacts, EndpointFacts, EventFacts, OrderFacts, SnapshotFacts

MINUTE, HOUR, DAY = 60, 3600, 86400
HELD_BACK = 10
"""Seconds after which a delivery that is due is said to be held back."""
NO_WORKER = "no worker works on it: is `relay worker` running?"
NOT_WANTED, NOT_YET = "not wanted", "not yet"


@dataclass(frozen=True, slots=True)
class Said:
    """A state in one word, the sentence about it, and when the next thing happens by itself (None: not foreseen)."""

    state: str
    sentence: str
    next_at: datetime | None = None


def ago(then: datetime, now: datetime) -> str:
    """How long ago `then` was."""
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 1 else f"{span(seconds)} ago"


def ahead(then: datetime, now: datetime) -> str:
    """How far ahead `then` is."""
    seconds = (then - now).total_seconds()
    return "now" if seconds < 1 else f"in {span(seconds)}"


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit, rounded down."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        # Two of a unit tell more than one of the next: 90 min, 36 h.
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def connection(facts: ConnectionFacts) -> Said:
    """How the ERP is being read."""
    name = f"{facts.customer_id}/{facts.name}"
    if facts.state == ConnectionState.PAUSED:
        return Said("paused", f"Nothing is read from {name}: it is paused. `relay connections resume {name}` goes on.")
    if facts.state == ConnectionState.NEEDS_RECONNECT:
        return Said(
            "needs_reconnect",
            f"Nothing is read from {name}: {_clause(facts.problem, 'the ERP refused the login')}."
            f" `relay connections reconnect {name}` with good credentials goes on.",
        )
    if facts.state == ConnectionState.DISCONNECTED:
        return Said(
            "disconnected",
            f"Nothing is read from {name}: it is disconnected. `relay connections reconnect {name}` connects it again.",
        )
    polled = "it was never read well yet" if facts.polled_at is None else f"last read {ago(facts.polled_at, facts.now)}"
    if not facts.held:
        return Said(
            "no worker", f"{name} should be read every {span(facts.poll_every.total_seconds())}, but {NO_WORKER}"
        )
    coming = f"next poll {ahead(facts.due_at, facts.now)}"
    if facts.failures:
        failed = f"{_times(facts.failures, 'poll')} in a row failed: {_clause(facts.problem, 'unknown')}"
        return Said("failing", f"{name}: {failed}; {polled}, {coming}.", facts.due_at)
    problem = f" Problem: {_clause(facts.problem)}." if facts.problem else ""
    every = span(facts.poll_every.total_seconds())
    return Said("polled", f"{name} is read every {every}: {polled}, {coming}.{problem}", facts.due_at)


def snapshot(facts: SnapshotFacts | None, now: datetime) -> Said:
    """What relay holds of the order."""
    if facts is None:
        return Said("unknown", "No state of this order is stored: its record could not be read, see below.")
    known = (
        f"sequence {facts.sequence}, changed {ago(facts.changed_at, now)}, seen first {ago(facts.first_seen_at, now)}"
    )
    if facts.deleted:
        return Said("deleted", f"Deleted in the ERP: {known}.")
    if facts.missing_passes:
        missing = f"missing in the last {_times(facts.missing_passes, 'full pass', 'full passes')}"
        return Said("missing", f"{known[0].upper()}{known[1:]}; {missing}: it is told as deleted if it stays away.")
    return Said("known", f"Status {facts.tree.get('status')}, {known}.")


def event(facts: EventFacts, order: OrderFacts) -> Said:
    """How far an event is on its way through Kafka."""
    now = order.connection.now
    if facts.stream == "dead-letters":
        told = "told as a dead letter" if facts.state == "relayed" else "about to be told as a dead letter"
        return Said("rejected", f"The ERP's record could not be used: {_clause(facts.problem, 'unknown')}; {told}.")
    refused = f" The broker refused it: {_clause(facts.problem)}." if facts.problem else ""
    if facts.published_at is None and facts.state == "relayed":
        # Our consumer may be faster than the broker's acknowledgement.
        return Said("admitted", f"Published, and back from Kafka.{refused}")
    if facts.published_at is None:
        who = "a worker publishes it as soon as the broker takes it" if order.connection.held else NO_WORKER[:-1]
        return Said("stored", f"Stored {ago(facts.created_at, now)}, not yet published: {who}.{refused}")
    often = f"{_often(facts.publishes)}, last " if facts.publishes > 1 else ""
    published = f"Published {often}{ago(facts.published_at, now)}"
    if facts.state == "relayed":
        return Said("admitted", f"{published}, and back from Kafka.{refused}")
    if facts.sequence > order.admitted + 1:
        return Said("early", f"{published}; it waits for sequence {order.admitted + 1}, which comes first.{refused}")
    return Said("published", f"{published}; not back from Kafka yet, else it is published again.{refused}")


def delivery(facts: EventFacts, endpoint: EndpointFacts, order: OrderFacts) -> Said:
    """Where an event stands with one endpoint."""
    now = order.connection.now
    found = order.deliveries.get((endpoint.id, facts.position))
    if found is None:
        return _none(facts, endpoint, order.connection.id)
    if found.state == DeliveryState.WAITING:
        return _waiting(found, endpoint, order)
    done = "" if found.done_at is None else f" {ago(found.done_at, now)}"
    if found.state == DeliveryState.DELIVERED:
        return Said("delivered", f"delivered{done} on attempt {found.attempts}{_answer(found)}")
    if found.state == DeliveryState.SUPERSEDED:
        return Said("superseded", f"left out{done}: a newer event of this order went instead (ordering latest_only)")
    tried = f"{_times(found.attempts, 'attempt')}{_answer(found)}"
    return Said("dead", f"given up{done} after {tried}: `relay deliveries retry {found.id}` sends it again")


def _none(facts: EventFacts, endpoint: EndpointFacts, connection_id: str) -> Said:
    if endpoint.connections and connection_id not in endpoint.connections:
        return Said(NOT_WANTED, "not wanted: it takes only other connections")
    if facts.state != "relayed":
        return Said(NOT_YET, "not yet: the event is on its way through Kafka")
    if endpoint.event_types and facts.type not in endpoint.event_types:
        return Said(NOT_WANTED, f"not wanted: it takes only {', '.join(endpoint.event_types)}")
    if endpoint.created_at > facts.created_at:
        return Said(NOT_WANTED, "not sent: the endpoint was added later; `relay replay start` sends older events")
    if where := endpoint.options.get("where"):
        return Said(NOT_WANTED, f"not wanted: its condition does not hold: {where}")
    return Said(NOT_WANTED, "not wanted when the event came: the endpoint's filters have changed since")


def _waiting(found: DeliveryFacts, endpoint: EndpointFacts, order: OrderFacts) -> Said:
    head = order.heads.get(endpoint.id, found)
    if head.id == found.id or found.due_at is not None:
        said = _head(found, endpoint, order.connection.now)
        again = "sent again by a replay: " if found.replay_id else ""
        return Said(said.state, again + said.sentence, said.next_at)
    said = _head(head, endpoint, order.connection.now)
    return Said("blocked", f"waits behind sequence {head.sequence} of this order, which {said.sentence}", said.next_at)


def _head(head: DeliveryFacts, endpoint: EndpointFacts, now: datetime) -> Said:
    name, problem = f"{endpoint.customer_id}/{endpoint.name}", _clause(endpoint.problem)
    tried = f"was refused {_often(head.attempts)}{_answer(head)}" if head.attempts else "was not tried yet"
    because = f" ({problem})" if problem else ""
    if endpoint.state == EndpointState.DISABLED:
        return Said("waiting", f"{tried}; the endpoint is disabled{because}: `relay endpoints enable {name}`")
    if _unproved(endpoint):
        return Said(
            "waiting",
            f"{tried}; the endpoint has not yet proved that it wants webhooks, and is asked again:"
            f" `relay endpoints show {name}` says what is wrong",
        )
    if not endpoint.held:
        return Said("waiting", f"{tried}; {NO_WORKER}")
    if endpoint.state == EndpointState.SUSPENDED:
        since = (
            "" if endpoint.failing_since is None else f" since {span((now - endpoint.failing_since).total_seconds())}"
        )
        return Said(
            "waiting", f"{tried}; the endpoint fails{since} and is only probed now and then{because}", head.due_at
        )
    if head.due_at is not None and (late := (now - head.due_at).total_seconds()) > HELD_BACK:
        # The flow is in its runner's memory: what it holds back shows only in time.
        why = "held back by the endpoint's limits, or by its circuit breaker after failures"
        return Said("waiting", f"{tried}; due for {span(late)}: {why}{because}", head.due_at)
    coming = "unknown" if head.due_at is None else ahead(head.due_at, now)
    return Said("waiting", f"{tried}; next attempt {coming}{because}", head.due_at)


def _unproved(endpoint: EndpointFacts) -> bool:
    asked = endpoint.options.get("verification", Verification.NONE)
    return asked in set(Verification) and endpoint.proof != proof(Verification(asked), endpoint.url)


def _answer(found: DeliveryFacts) -> str:
    answer = found.last_error or found.last_status
    return f" ({answer})" if answer else ""


def _clause(text: str | None, otherwise: str = "") -> str:
    return (text or otherwise).rstrip(". ")


def _often(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _times(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
