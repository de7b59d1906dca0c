"""Endpoints as people keep them: added, seen with counts, changed, given new secrets and tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from relay.domain.endpoints import Endpoint, EndpointState
from relay.domain.errors import UserError
from relay.store.leases import endpoint_of
from relay.store.named import CHANGED, LIST, NOTIFY, Named, Sighting

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

ADD_ENDPOINT = """
    WITH numbers AS (INSERT INTO endpoint_numbers (endpoint_id, last) VALUES ($1, 0))
    INSERT INTO endpoints (id, customer_id, name, url, sealed, event_types, connections, at_once, deadline, options,
                           access, public_keys)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
SET_ENDPOINT = """
    UPDATE endpoints SET state = $2, problem = NULL, failing_since = NULL, noticed = '0', suspended_at = NULL,
        version = version + 1
    WHERE id = $1
"""
SET_SIGNING = """
    UPDATE endpoints SET sealed = $3, public_keys = $4, public_keys_until = $5, version = version + 1
    WHERE id = $1 AND sealed = $2 RETURNING id
"""
SET_PULL_TOKEN = "UPDATE endpoints SET pull_token = $2 WHERE id = $1"  # noqa: S105 - a statement
LOCK_ENDPOINT = "SELECT * FROM endpoints WHERE id = $1 FOR NO KEY UPDATE"
# A new address must prove itself anew.
CHANGE_ENDPOINT = """
    UPDATE endpoints SET url = $2, event_types = $3, connections = $4, at_once = $5, deadline = $6, options = $7,
        access = $8, verified_at = CASE WHEN url = $2 THEN verified_at END, version = version + 1
    WHERE id = $1
"""
ENDPOINT_COUNTS = """
    SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
           count(*) FILTER (WHERE state = 'delivered') AS delivered,
           count(*) FILTER (WHERE state = 'dead') AS dead,
           count(*) FILTER (WHERE state = 'superseded') AS superseded
    FROM deliveries WHERE endpoint_id = $1
"""
# Of what waits for another try and what is dead. Thousands may wait: those that are due first and last are looked at.
LAST_ATTEMPT = """
    WITH waiting AS (
        SELECT id, due_at FROM deliveries WHERE endpoint_id = $1 AND state = 'waiting' AND least(attempts, 1) = 1
    ), tried AS (
        (SELECT id FROM waiting ORDER BY due_at LIMIT 100)
        UNION (SELECT id FROM waiting ORDER BY due_at DESC LIMIT 100)
        UNION (SELECT id FROM deliveries WHERE endpoint_id = $1 AND state = 'dead' ORDER BY done_at DESC LIMIT 1)
    )
    SELECT a.number, a.started_at, a.seconds, a.outcome, a.status, a.error, a.detail, a.excerpt, a.address,
           a.resolve_seconds, a.answer_seconds
    FROM tried JOIN attempts AS a ON a.delivery_id = tried.id ORDER BY a.started_at DESC LIMIT 1
"""


class KeptEndpoints(Named):
    """The endpoints of all customers."""

    async def add_endpoint(self, new: Endpoint, public_keys: Sequence[str] = ()) -> None:
        """Store an endpoint; workers are woken. Raises AlreadyThere when the customer has one of that name."""
        await self._add(
            f"{new.customer_id} already has an endpoint {new.name!r}: choose another --name",
            ADD_ENDPOINT,
            *(new.id, new.customer_id, new.name, new.url, new.sealed, list(new.event_types), list(new.connections)),
            *(new.at_once, new.deadline, new.options.model_dump(mode="json", exclude_defaults=True)),
            *(new.access, list(public_keys)),
        )

    async def endpoint(self, name: str) -> Sighting:
        """One endpoint and its counts. Raises NotFound, or UserError when several have that name."""
        row = await self._find("endpoints", name)
        counts = await self._counts(ENDPOINT_COUNTS, row["id"])
        last = await self._last_attempt(row["id"]) if row["failing_since"] else None
        return Sighting(endpoint_of(row), row["problem"], counts, last_attempt=last)

    async def endpoints(self) -> list[Sighting]:
        """All endpoints, by customer and name, without counts."""
        async with self._database.session() as connection:
            rows = await connection.fetch(LIST.format(table="endpoints"))
        return [Sighting(endpoint_of(row), row["problem"], {}) for row in rows]

    async def endpoint_page(
        self, after: tuple[str, str], most: int, *, customer: str | None, name: str | None
    ) -> list[Sighting]:
        """Up to `most` endpoints that follow (customer, name), without counts."""
        rows = await self._page("endpoints", after, most, customer=customer, name=name)
        return [Sighting(endpoint_of(row), row["problem"], {}) for row in rows]

    async def set_endpoint(self, endpoint_id: str, state: EndpointState) -> None:
        """Enable or disable; what waits goes on waiting."""
        await self._change(SET_ENDPOINT, endpoint_id, state)

    async def change_endpoint(self, before: Endpoint, after: Endpoint) -> None:
        """Put one value of an endpoint in the place of another; its runner starts anew. State and secrets stay.

        Raises:
            UserError: It is not as `before` any more; nothing was stored.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            row = await connection.fetchrow(LOCK_ENDPOINT, before.id)
            stored = None if row is None else endpoint_of(row)
            # An access that stays may have been sealed anew meanwhile; so it is not compared, and kept as it is.
            if stored and after.access == before.access:
                stored, after_access = replace(stored, access=before.access), stored.access
            else:
                after_access = after.access
            if stored is None or _given(stored) != _given(before):
                raise UserError(f"endpoint {before.name!r} was changed by somebody else at the same time: try again")
            await connection.execute(
                CHANGE_ENDPOINT,
                *(after.id, after.url, list(after.event_types), list(after.connections), after.at_once, after.deadline),
                *(after.options.model_dump(mode="json", exclude_defaults=True), after_access),
            )
            await connection.execute(NOTIFY, CHANGED, before.id)

        await self._database.transact(work)

    async def set_signing(
        self, endpoint_id: str, before: bytes, sealed: bytes, public_keys: Mapping[str, datetime | None]
    ) -> None:
        """Put new signing secrets in the place of those read before; the runner starts anew with them.

        `public_keys` are those that receivers may ask for, each with its end if it has one.

        Raises:
            UserError: Somebody else changed or removed them meanwhile; nothing was stored.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            listed = list(public_keys), list(public_keys.values())
            if await connection.fetchval(SET_SIGNING, endpoint_id, before, sealed, *listed) is None:
                raise UserError("the signing secrets were changed by somebody else at the same time: try again")
            await connection.execute(NOTIFY, CHANGED, endpoint_id)

        await self._database.transact(work)

    async def set_pull_token(self, endpoint_id: str, digest: bytes | None) -> None:
        """Put the digest of a pull token, or none, in the place of the one before."""
        async with self._database.session() as connection:
            await connection.execute(SET_PULL_TOKEN, endpoint_id, digest)

    async def _last_attempt(self, endpoint_id: str) -> dict[str, Any] | None:
        async with self._database.session() as connection:
            row = await connection.fetchrow(LAST_ATTEMPT, endpoint_id)
        return dict(row) if row else None


def _given(endpoint: Endpoint) -> tuple[object, ...]:
    """What people give an endpoint and can change."""
    narrowed = (endpoint.event_types, endpoint.connections)
    return (endpoint.url, *narrowed, endpoint.at_once, endpoint.deadline, endpoint.options, endpoint.access)
