"""Leases: which worker works on which connection or endpoint now.

    free or expired --claim--> held (epoch + 1) --renew--> held --release--> free

Times are the database's, so workers' clocks need not agree.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from relay.domain.connections import Connection, ConnectionId, ConnectionState, Cursor, CustomerId, Lease
from relay.domain.endpoints import Endpoint, EndpointId, EndpointOptions, EndpointState, Health
from relay.domain.mapping import MappingOverrides, MappingVersion, Retold
from relay.domain.schedules import Schedule
from relay.domain.verification import proof
from relay.ports import Claimed, Renewed
from relay.store.database import Database

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

HEARTBEAT = """
    INSERT INTO workers (id, seen_at) VALUES ($1, now()) ON CONFLICT (id) DO UPDATE SET seen_at = now()
"""
FORGET_WORKERS = "DELETE FROM workers WHERE seen_at < now() - $1::interval OR id = $2"
WORKED_ON = {"connections": "true", "endpoints": "state IN ('active', 'suspended')"}
"""A connection that is not polled is held all the same: what was read from it before is still to be published."""
SHARE = """
    SELECT (SELECT count(*) FROM {table} WHERE {worked_on}) AS subjects,
           (SELECT count(*) FROM workers WHERE seen_at > now() - $1::interval) AS workers
"""
CLAIM = """
    WITH free AS (
        SELECT id FROM {table}
        WHERE {worked_on} AND (lease_until IS NULL OR lease_until < now()) AND id <> ALL($4::text[])
        ORDER BY lease_until NULLS FIRST LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE {table} AS subject
    SET lease_owner = $1, lease_epoch = lease_epoch + 1, lease_until = now() + $2::interval
    FROM free WHERE subject.id = free.id RETURNING subject.*
"""
# Locks as it goes: nobody who holds one of these rows waits for another of them, but for a renewal that was given up
# and meets the next, which is then run again. To lock them in a first step would be worse, because a row that changed
# meanwhile is then locked twice, with others queueing in between.
RENEW = """
    UPDATE {table} SET lease_until = now() + $3::interval
    WHERE lease_owner = $1 AND id = ANY($2::text[]) RETURNING id, lease_epoch, version
"""
RELEASE = """
    UPDATE {table} AS subject SET lease_owner = NULL, lease_until = NULL
    FROM unnest($2::text[], $3::bigint[]) AS given(id, epoch)
    WHERE subject.id = given.id AND lease_owner = $1 AND lease_epoch = given.epoch
"""


class LeaseStore:
    """Leases over one table: `connections` or `endpoints`."""

    def __init__(self, database: Database, table: str, ttl: timedelta) -> None:
        self._database, self._table, self._ttl = database, table, ttl
        self._share = SHARE.format(table=table, worked_on=WORKED_ON[table])
        self._claim = CLAIM.format(table=table, worked_on=WORKED_ON[table])

    async def share(self, owner: str) -> int:
        """Say that `owner` lives; how many subjects are its fair share, rounded up."""
        async with self._database.session() as connection:
            await connection.execute(HEARTBEAT, owner)
            row = await connection.fetchrow(self._share, self._ttl)
        assert row is not None
        return -(-int(row["subjects"]) // max(1, int(row["workers"])))

    async def claim(self, owner: str, most: int, without: Collection[str] = ()) -> list[Claimed]:
        """Up to `most` free subjects, now held by `owner`, longest free first; none of `without`."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> "list[asyncpg.Record]":
            return await connection.fetch(self._claim, owner, self._ttl, max(0, most), list(without))

        rows = await self._database.transact(work)
        build = connection_of if self._table == "connections" else endpoint_of
        return [Claimed(Lease(row["id"], owner, row["lease_epoch"]), row["version"], build(row)) for row in rows]

    async def renew(self, held: Sequence[Claimed]) -> Renewed:
        """Keep these for another term; what is in neither set has been lost."""
        if not held:
            return Renewed(frozenset(), frozenset())
        owner, subjects = held[0].lease.owner, [each.lease.subject for each in held]

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> "list[asyncpg.Record]":
            return await connection.fetch(RENEW.format(table=self._table), owner, subjects, self._ttl)

        rows = await self._database.transact(work)
        found = {(row["id"], row["lease_epoch"]): row["version"] for row in rows}
        ours = {each.lease.subject: each for each in held if (each.lease.subject, each.lease.epoch) in found}
        same = {subject for subject, each in ours.items() if found[subject, each.lease.epoch] == each.version}
        return Renewed(held=frozenset(same), changed=frozenset(ours.keys() - same))

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give leases of one owner back; nothing happens to those that are no longer ours."""
        given = [each.subject for each in leases], [each.epoch for each in leases]
        async with self._database.session() as connection:
            await connection.execute(RELEASE.format(table=self._table), leases[0].owner, *given)

    async def leave(self, owner: str) -> None:
        """Forget a worker that ends, and those that have been silent for ten times the lease's length."""
        async with self._database.session() as connection:
            await connection.execute(FORGET_WORKERS, self._ttl * 10, owner)


def connection_of(row: Any) -> Connection:
    """A row of `connections` as a value."""
    return Connection(
        id=ConnectionId(row["id"]),
        customer_id=CustomerId(row["customer_id"]),
        name=row["name"],
        connector=row["connector"],
        settings=row["settings"],
        mapping=mapping_of(row),
        rules=row["rules"],
        state=ConnectionState(row["state"]),
        poll_every=row["poll_every"],
        reconcile_every=row["reconcile_every"],
        cursor=None if row["cursor"] is None else Cursor(row["cursor"]),
        failures=row["failures"],
        due_at=row["due_at"],
        due_why=row["due_why"],
        quiet=row["quiet"],
        reconcile_due_at=row["reconcile_due_at"],
        compare_due_at=row["compare_due_at"],
        history_from=row["history_from"],
        schedule=Schedule.model_validate(row["schedule"]),
        synced=row["synced_at"] is not None,
        sealed=row["sealed"],
    )


def mapping_of(row: Any) -> MappingVersion:
    """The mapping of a row of `connections`; names that this version of relay does not know are left out."""
    known = {part: names for part, names in row["mapping"].items() if part in MappingOverrides.model_fields}
    return MappingVersion(row["mapping_version"], MappingOverrides.model_validate(known), Retold(row["mapping_retold"]))


def endpoint_of(row: Any) -> Endpoint:
    """A row of `endpoints` as a value."""
    options = EndpointOptions.model_validate(row["options"])
    proved = proof(options.verification, row["url"])
    verified = proved in {"", row["proof"]}
    return Endpoint(
        id=EndpointId(row["id"]),
        customer_id=row["customer_id"],
        name=row["name"],
        url=row["url"],
        state=EndpointState(row["state"]),
        event_types=tuple(row["event_types"]),
        connections=tuple(row["connections"]),
        at_once=row["at_once"],
        deadline=row["deadline"],
        options=options,
        problem=row["problem"],
        health=Health(row["failing_since"], row["noticed"], row["suspended_at"]),
        verified=verified,
        allowed_per_minute=row["allowed_per_minute"] if proved and verified else None,
        access=row["access"],
        sealed=row["sealed"],
    )
