"""What came of attempts: recorded for several runners in one transaction, and what may be sent next.

leases held -> deliveries locked -> their states, attempts, health -> the next heads of the lanes that may go on
"""

from collections.abc import Container, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt, Delivery, DeliveryId, DeliveryState, Outcome
from relay.domain.errors import LeaseLost
from relay.ports import Heads, Rules
from relay.store.columns import column
from relay.store.database import Database
from relay.store.health import save_health
from relay.store.together import Recording, Together
from relay.store.trouble import storable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# Admission holds heads for milliseconds, and is waited for: in the order of lanes, as it locks them itself, so that the
# two never wait for each other in a ring. But one customer's rows that are being removed, say, must not hold up the
# recording of all others: after a moment what others hold is passed over.
BRIEFLY = "SET LOCAL lock_timeout = '100ms'"
THERE = r"SELECT id FROM deliveries WHERE id = ANY(string_to_array($1, E'\n', ''))"
LOCK = f"{THERE} ORDER BY endpoint_id, lane FOR UPDATE"
LOCK_FREE = f"{LOCK} SKIP LOCKED"
RECORD = r"""
    UPDATE deliveries AS d
    SET state = CASE WHEN d.state = 'superseded' AND row.state = 'waiting' THEN d.state ELSE row.state END,
        attempts = row.number, last_status = row.status, last_error = coalesce(row.error, ''),
        -- The head of a lane is always due at some time, or nothing would ever come behind it.
        due_at = CASE WHEN row.state = 'waiting' AND d.state <> 'superseded'
                      THEN coalesce(row.due_at, d.due_at, now()) END,
        done_at = CASE WHEN row.state = 'waiting' AND d.state <> 'superseded' THEN NULL ELSE now() END
    FROM unnest(string_to_array($1, E'\n', ''), string_to_array($2, E'\n', ''),
                string_to_array($3, E'\n', '')::timestamptz[], string_to_array($4, E'\n', '')::int[],
                string_to_array($5, E'\n', '')::int[], string_to_array($6, E'\n', ''))
         AS row(id, state, due_at, number, status, error)
    WHERE d.id = row.id
"""
# They are copied in, which costs both sides half of what as many arrays do.
ATTEMPT_COLUMNS = (
    *("delivery_id", "number", "started_at", "seconds", "outcome", "status", "error", "detail", "excerpt", "address"),
    *("resolve_seconds", "answer_seconds"),
)
OURS = r"""
    SELECT e.id
    FROM endpoints AS e,
         unnest(string_to_array($1, E'\n', ''), string_to_array($2, E'\n', ''),
                string_to_array($3, E'\n', '')::bigint[]) AS row(id, owner, epoch)
    WHERE e.id = row.id AND e.lease_owner = row.owner AND e.lease_epoch = row.epoch
"""
# Passes over what others hold: two groups, or a group and the renewing of leases, then never wait in a ring.
HOLD = f"{OURS} FOR NO KEY UPDATE OF e SKIP LOCKED"
# A statement of its own after RECORD: it sees what admission put behind the heads while RECORD waited.
PROMOTE = r"""
    WITH promoted AS (
        UPDATE deliveries AS d SET due_at = now()
        WHERE d.id = ANY (ARRAY(
            SELECT (SELECT n.id FROM deliveries AS n
                    WHERE n.endpoint_id = ended.endpoint_id AND n.lane = ended.lane AND n.state = 'waiting'
                    ORDER BY n.position LIMIT 1)
            FROM unnest(string_to_array($1, E'\n', ''), string_to_array($2, E'\n', ''))
                 AS ended(endpoint_id, lane)
        )) AND d.due_at IS NULL
        RETURNING d.id, d.endpoint_id, d.lane, d.position, d.due_at, d.attempts, d.number, d.replay_id
    ), sized AS (
        SELECT promoted.*, o.event_id, o.body,
               sum(octet_length(o.body)) OVER (PARTITION BY promoted.endpoint_id ORDER BY position)
                   - octet_length(o.body) AS before,
               count(*) OVER (PARTITION BY promoted.endpoint_id) AS found
        FROM promoted JOIN outbox AS o USING (position)
    )
    SELECT sized.*
    FROM sized
    JOIN unnest(string_to_array($3, E'\n', ''), string_to_array($4, E'\n', '')::bigint[])
         AS room(endpoint_id, bytes) USING (endpoint_id)
    WHERE before < room.bytes
"""
# In each lane only the newest that waits stays; when its head was refused, it takes over the head's time.
SUPERSEDE = """
    WITH waiting AS (
        SELECT d.id, d.position, max(d.position) OVER lanes AS newest, max(d.due_at) OVER lanes AS due
        FROM unnest($1::text[], $2::text[]) AS row(endpoint_id, lane)
        JOIN deliveries AS d ON d.endpoint_id = row.endpoint_id AND d.lane = row.lane AND d.state = 'waiting'
        WINDOW lanes AS (PARTITION BY d.endpoint_id, d.lane)
    ), older AS (
        UPDATE deliveries AS d SET state = 'superseded', due_at = NULL, done_at = now() FROM waiting AS w
        WHERE d.id = w.id AND w.position < w.newest
    )
    UPDATE deliveries AS d SET due_at = w.due FROM waiting AS w
    WHERE d.id = w.id AND w.position = w.newest AND d.due_at IS DISTINCT FROM w.due
"""
AFTER = {
    Outcome.DELIVERED: DeliveryState.DELIVERED,
    Outcome.DEAD: DeliveryState.DEAD,
    Outcome.RETRY: DeliveryState.WAITING,
    Outcome.GONE: DeliveryState.WAITING,
}
"""Where a delivery stands after an attempt."""


class AttemptStore:
    """Records what came of attempts, those of several runners together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._together = Together(self._write)

    async def record(self, lease: Lease, attempts: Sequence[Attempt], rules: Rules) -> Heads:
        """Store attempts and what follows from them; the next heads of the lanes that may go on.

        Attempts at deliveries that were removed meanwhile leave no trace.
        """
        return await self._together.record(Recording(lease, attempts, rules))

    async def _write(self, some: Sequence[Recording]) -> dict[str, Heads | LeaseLost]:
        if not any(each.left_out for each in some):
            with suppress(asyncpg.LockNotAvailableError):
                return await self._write_with(some, LOCK)
        return await self._write_with(some, LOCK_FREE)

    async def _write_with(self, some: Sequence[Recording], lock: str) -> dict[str, Heads | LeaseLost]:
        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> dict[str, Heads | LeaseLost]:
            if lock == LOCK:
                await connection.execute(BRIEFLY)
            leases = _lease_columns([each.lease for each in some])
            held = {row["id"] for row in await connection.fetch(HOLD, *leases)}
            found: dict[str, Heads | LeaseLost] = {}
            if len(held) < len(some):
                ours = {row["id"] for row in await connection.fetch(OURS, *leases)} | held
                lost = [each.lease.subject for each in some if each.lease.subject not in ours]
                found |= {each: LeaseLost(f"{each}: another worker has taken over") for each in lost}
            mine = [each for each in some if each.lease.subject in held]
            return {**found, **await _recorded(connection, mine, lock)}

        return await self._database.transact(work)


def cut(rows: "Sequence[asyncpg.Record]") -> bool:
    """Whether the limit of bytes kept some back."""
    return bool(rows) and rows[0]["found"] > len(rows)


def delivery_of(row: "asyncpg.Record") -> Delivery:
    """A head as it was read."""
    return Delivery(
        id=DeliveryId(row["id"]),
        event_id=row["event_id"],
        lane=row["lane"],
        position=row["position"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        body=row["body"],
        number=row["number"],
        replay=row["replay_id"] or "",
    )


async def _recorded(
    connection: "PoolConnectionProxy[asyncpg.Record]", some: Sequence[Recording], lock: str
) -> dict[str, Heads]:
    """Record what runners made, whose leases are held; the next heads of each, but of those whose rows others hold."""
    known, busy = await _locked(connection, some, lock)
    some = [each for each in some if not any(attempt.delivery.id in busy for attempt in each.attempts)]
    made = [attempt for each in some for attempt in each.attempts if attempt.delivery.id in known]
    last = {each.delivery.id: each for each in made}
    await connection.execute(RECORD, *_state_columns(list(last.values())))
    await connection.copy_records_to_table("attempts", records=map(_attempt_row, made), columns=ATTEMPT_COLUMNS)
    if newest := [pair for each in some if each.rules.latest_only for pair in _lanes(each)]:
        await connection.execute(SUPERSEDE, *map(list, zip(*newest, strict=True)))
    for each in some:
        if each.rules.verdict:
            await save_health(connection, each.lease.subject, each.rules.verdict)
    over = {id(each) for each in last.values() if _state(each) is not DeliveryState.WAITING}
    ended = [pair for each in some for pair in _lanes(each, over)]
    found: dict[str, list[asyncpg.Record]] = {each.lease.subject: [] for each in some}
    if ended:
        bytes_left = [each.rules.bytes for each in some]
        columns = map(column, (*zip(*ended, strict=True), found, bytes_left))
        for row in await connection.fetch(PROMOTE, *columns):
            found[row["endpoint_id"]].append(row)
    return {subject: Heads(tuple(map(delivery_of, rows)), more=cut(rows)) for subject, rows in found.items()}


async def _locked(
    connection: "PoolConnectionProxy[asyncpg.Record]", some: Sequence[Recording], lock: str
) -> tuple[set[str], set[str]]:
    """The deliveries that are locked now, and those that are there and others hold."""
    ids = {attempt.delivery.id for each in some for attempt in each.attempts}
    locked = {row["id"] for row in await connection.fetch(lock, column(ids))}
    left = ids - locked
    return locked, {row["id"] for row in await connection.fetch(THERE, column(left))} if left else set()


def _lanes(recording: Recording, only: Container[int] | None = None) -> list[tuple[str, str]]:
    """(endpoint, lane) of its attempts, or of those among `only`."""
    return [
        (recording.lease.subject, each.delivery.lane) for each in recording.attempts if only is None or id(each) in only
    ]


def _state(attempt: Attempt) -> DeliveryState:
    return AFTER[attempt.outcome]


def _lease_columns(leases: Sequence[Lease]) -> list[str]:
    return [
        column([each.subject for each in leases]),
        column([each.owner for each in leases]),
        column([each.epoch for each in leases]),
    ]


def _state_columns(attempts: Sequence[Attempt]) -> list[str]:
    return [
        column([each.delivery.id for each in attempts]),
        column([_state(each) for each in attempts]),
        column([each.due_at for each in attempts]),
        column([each.number for each in attempts]),
        column([each.answer.status for each in attempts]),
        column([each.answer.error for each in attempts]),
    ]


def _attempt_row(each: Attempt) -> tuple[object, ...]:
    """The values of ATTEMPT_COLUMNS."""
    answer = each.answer
    return (
        each.delivery.id,
        each.number,
        each.started_at,
        each.seconds,
        each.outcome,
        answer.status,
        answer.error,
        storable(answer.detail),
        answer.excerpt,
        storable(answer.address),
        answer.resolve_seconds,
        answer.answer_seconds,
    )
