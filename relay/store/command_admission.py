"""How commands come in: each kept once, in the order of its lane, with what is told of it, in one transaction.

locked lanes -> rows that are new -> results in the outbox -> audit log -> runners woken
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from relay.domain.connections import ConnectionState
from relay.domain.redrives import Redrive
from relay.domain.results import Outcome
from relay.ports import Kept, NewCommand, OutboxEntry, Overdue, Standing
from relay.store.commands import ALONE, PROMOTE
from relay.store.database import Database
from relay.store.named import NOTIFY
from relay.store.orders import outbox_columns
from relay.store.redrives import RedriveStore
from relay.store.syncs import ASKED
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

TOPIC = "topic"
"""The source of commands that came from Kafka."""

STANDINGS = "SELECT id, customer_id, state, command_key FROM connections WHERE id = ANY($1::text[])"
ADD = """
    WITH new AS (
        SELECT row.*, c.customer_id
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::bytea[],
                    $9::bytea[], $10::text[], $11::timestamptz[], $12::text[], $13::text[], $14::bytea[], $15::bytea[],
                    $16::bytea[])
             WITH ORDINALITY AS row(id, connection_id, command_id, type, remote_id, lane, dry_run, body, digest,
                                    outcome, expires_at, source, caller, raw, origin, result, place)
        JOIN connections AS c ON c.id = row.connection_id
        WHERE NOT EXISTS (SELECT 1 FROM commands AS k WHERE k.id = row.id)
    ), busy AS (
        SELECT connection_id, lane FROM (SELECT DISTINCT connection_id, lane FROM new) AS lanes
        WHERE EXISTS (SELECT 1 FROM commands AS k
                      WHERE k.connection_id = lanes.connection_id AND k.lane = lanes.lane AND k.state <> 'done')
    )
    INSERT INTO commands (id, connection_id, customer_id, command_id, type, remote_id, lane, state, outcome, dry_run,
                          body, digest, source, caller, raw, origin, due_at, expires_at, result, done_at)
    SELECT id, connection_id, customer_id, command_id, type, remote_id, lane,
           CASE WHEN outcome IS NULL THEN 'waiting' ELSE 'done' END, outcome, dry_run, body, digest, source, caller,
           raw, origin,
           CASE WHEN outcome IS NULL AND busy.lane IS NULL
                 AND row_number() OVER (PARTITION BY connection_id, lane, outcome IS NULL ORDER BY place) = 1
                THEN now() END,
           expires_at, result, CASE WHEN outcome IS NOT NULL THEN now() END
    FROM new LEFT JOIN busy USING (connection_id, lane)
    ORDER BY place ON CONFLICT DO NOTHING
    RETURNING id, customer_id
"""
DIGESTS = "SELECT id, digest FROM commands WHERE id = ANY($1::text[])"
TELL = """
    INSERT INTO outbox (event_id, stream, customer_id, connection_id, remote_id, sequence, type, occurred_at, body,
                        problem, origin)
    SELECT event_id, stream, customer_id, connection_id, remote_id, sequence, type, occurred_at, body, problem, origin
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::timestamptz[],
                $9::bytea[], $10::text[], $11::bytea[])
         WITH ORDINALITY AS row(customer_id, connection_id, event_id, stream, remote_id, sequence, type, occurred_at,
                                body, problem, origin, place)
    ORDER BY place ON CONFLICT (event_id) DO NOTHING
"""
# What comes by the control API is noted there.
AUDIT = """
    WITH noted AS (
        INSERT INTO audit (request_id, caller_kind, caller_id, caller_name, address, action, subject, customer_id)
        SELECT id, 'kafka', caller, caller, 'kafka', 'command ' || type, connection_id, customer_id
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
             AS row(id, caller, type, connection_id, customer_id)
        RETURNING position, subject, customer_id
    )
    INSERT INTO audit_outcomes (position, status, subject, customer_id)
    SELECT position, 202, subject, customer_id FROM noted
"""
# Their runner tells of those of a connection that it works on; a minute later nobody else will.
OVERDUE = """
    SELECT k.id, k.customer_id, k.connection_id, k.body, k.attempts, k.raw, k.origin
    FROM commands AS k JOIN connections AS c ON c.id = k.connection_id
    WHERE k.state = 'waiting' AND k.expires_at < now()
      AND (c.state <> 'active' OR k.expires_at < now() - interval '1 minute')
    ORDER BY k.expires_at LIMIT $1
"""
EXPIRE = """
    UPDATE commands AS k SET state = 'done', outcome = 'expired', result = row.result, done_at = now(), due_at = NULL,
        problem = NULL
    FROM unnest($1::text[], $2::bytea[]) AS row(id, result)
    WHERE k.id = row.id AND k.state = 'waiting' RETURNING k.id, k.connection_id, k.lane
"""


class CommandIntake:
    """Where commands are kept until their connection's runner does them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, connection_ids: Collection[str]) -> dict[str, Standing]:
        """Of those connections that there are."""
        askable = [each for each in connection_ids if storable(each) == each]
        async with self._database.session() as connection:
            rows = await connection.fetch(STANDINGS, askable)
        return {
            row["id"]: Standing(row["customer_id"], ConnectionState(row["state"]), row["command_key"]) for row in rows
        }

    async def redrives(self, ids: Collection[str]) -> dict[str, Redrive]:
        """Those of these redrives that were written down."""
        return await RedriveStore(self._database).known(ids) if ids else {}

    async def keep(self, commands: Sequence[NewCommand]) -> dict[str, Kept]:
        """Keep those that are not known, with all that is told of them, all or nothing; by id, what is known now."""
        if not commands:
            return {}

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> dict[str, Kept]:
            await connection.execute(ALONE, [each.connection_id for each in commands])
            customers = {row["id"]: row["customer_id"] for row in await connection.fetch(ADD, *_columns(commands))}
            new = [each for each in commands if each.id in customers]
            owned = [(customers[each.id], each.connection_id, entry) for each in new for entry in each.entries]
            await _tell(connection, owned)
            await _note(connection, new, customers)
            await _wake(connection, {each.connection_id for each in new})
            digests = await connection.fetch(DIGESTS, [each.id for each in commands])
            return {row["id"]: Kept(row["id"] in customers, row["digest"]) for row in digests}

        return await self._database.transact(work)

    async def overdue(self, most: int) -> list[Overdue]:
        """Commands that wait past their time with nobody to do them: those in doubt are never among them."""
        async with self._database.session() as connection:
            return [Overdue(**dict(row)) for row in await connection.fetch(OVERDUE, most)]

    async def save_overdue(self, expired: Sequence[tuple[Overdue, Sequence[OutboxEntry]]]) -> int:
        """They are over, those that still wait, and their entries are told; how many."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> int:
            await connection.execute(ALONE, [each.connection_id for each, _ in expired])
            results = [entries[0].body for _, entries in expired]
            rows = await connection.fetch(EXPIRE, [each.id for each, _ in expired], results)
            over = {row["id"] for row in rows}
            await connection.execute(PROMOTE, [row["connection_id"] for row in rows], [row["lane"] for row in rows])
            told = [(each, entry) for each, entries in expired if each.id in over for entry in entries]
            await _tell(connection, [(each.customer_id, each.connection_id, entry) for each, entry in told])
            await _wake(connection, {row["connection_id"] for row in rows})
            return len(rows)

        return await self._database.transact(work)


async def _tell(
    connection: "PoolConnectionProxy[asyncpg.Record]", owned: Sequence[tuple[str, str, OutboxEntry]]
) -> None:
    if owned:
        customers, origins = [customer for customer, _, _ in owned], [origin for _, origin, _ in owned]
        await connection.execute(TELL, customers, origins, *outbox_columns([entry for _, _, entry in owned]))


async def _note(
    connection: "PoolConnectionProxy[asyncpg.Record]", new: Sequence[NewCommand], customers: Mapping[str, str]
) -> None:
    noted = [each for each in new if each.source == TOPIC]
    if noted:
        await connection.execute(
            AUDIT,
            [each.id for each in noted],
            [each.caller for each in noted],
            [each.type or "?" for each in noted],
            [each.connection_id for each in noted],
            [customers[each.id] for each in noted],
        )


async def _wake(connection: "PoolConnectionProxy[asyncpg.Record]", connection_ids: Iterable[str]) -> None:
    for each in sorted(connection_ids):
        await connection.execute(NOTIFY, ASKED, each)


def _columns(commands: Sequence[NewCommand]) -> tuple[list[object], ...]:
    over = [each.outcome is not Outcome.ACCEPTED for each in commands]
    return (
        [each.id for each in commands],
        [each.connection_id for each in commands],
        [each.command_id for each in commands],
        [each.type for each in commands],
        [each.remote_id for each in commands],
        [each.lane for each in commands],
        [each.dry_run for each in commands],
        [each.body for each in commands],
        [each.digest for each in commands],
        [each.outcome if done else None for each, done in zip(commands, over, strict=True)],
        [each.expires_at for each in commands],
        [each.source for each in commands],
        [each.caller for each in commands],
        [each.raw for each in commands],
        [each.origin for each in commands],
        [each.entries[0].body if done else None for each, done in zip(commands, over, strict=True)],
    )
