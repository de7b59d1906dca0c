"""An endpoint's health: written with the attempts that it was seen by, and with the notice that tells of it."""

from typing import TYPE_CHECKING

from relay.domain.health import Verdict
from relay.domain.notices import Notice
from relay.store.notices import add_notices

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

# Not of one that a person has disabled meanwhile: what was in flight then must not enable it again.
HEALTH = """
    UPDATE endpoints SET failing_since = $2, noticed = $3, suspended_at = $4, state = coalesce($5, state), problem = $6
    WHERE id = $1 AND state <> 'disabled' RETURNING customer_id, name
"""


async def save_health(connection: "PoolConnectionProxy[asyncpg.Record]", endpoint_id: str, verdict: Verdict) -> None:
    """Write how the endpoint is, and tell of it where it has turned."""
    health, notice = verdict.health, verdict.notice
    row = await connection.fetchrow(
        HEALTH,
        endpoint_id,
        health.failing_since,
        health.noticed,
        health.suspended_at,
        verdict.state,
        verdict.problem,
    )
    if row is not None and notice:
        since = health.failing_since
        told = Notice(
            notice,
            row["customer_id"],
            endpoint_id,
            row["name"],
            verdict.at,
            verdict.problem or "",
            since,
            verdict.after,
        )
        await add_notices(connection, [told])
