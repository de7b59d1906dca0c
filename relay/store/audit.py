"""The audit log: who changed what, when, from where, and how it ended. The database itself refuses to change it.

    begun (committed before the change) -> the change -> ended

A row without an end tells of a change that broke off: the process died, or the database went away.
"""

from typing import Any

from relay.domain.callers import Caller
from relay.domain.paging import Key
from relay.store.database import Database

BEGIN = """
    INSERT INTO audit (request_id, caller_kind, caller_id, caller_name, address, action, subject, customer_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce(
        $8, (SELECT customer_id FROM connections WHERE id = $7), (SELECT customer_id FROM endpoints WHERE id = $7)))
    RETURNING position
"""
END = "INSERT INTO audit_outcomes (position, status, subject, customer_id) VALUES ($1, $2, $3, $4)"
ENTRIES = """
    SELECT a.position, a.at, a.request_id, a.caller_kind, a.caller_id, a.caller_name, a.address, a.action,
           coalesce(o.subject, a.subject) AS subject, coalesce(o.customer_id, a.customer_id) AS customer_id,
           o.status, o.at AS ended_at
    FROM {those} LEFT JOIN audit_outcomes AS o USING (position)
    WHERE a.position < $1 AND ($3::text IS NULL OR a.caller_id = $3)
    ORDER BY a.position DESC LIMIT $2
"""
# Newest first, down the primary key.
LIST = ENTRIES.format(those="audit AS a")
# The same, of one caller: its own index.
OF_CALLER = LIST.replace("($3::text IS NULL OR a.caller_id = $3)", "a.caller_id = $3")
# One of the two halves of a change names its subject: a new one's id is known only at the end.
OF_SUBJECT = ENTRIES.format(
    those="""(
        SELECT position FROM audit WHERE subject = $4 UNION SELECT position FROM audit_outcomes WHERE subject = $4
    ) AS found JOIN audit AS a USING (position)"""
)
NEWEST = 2**63 - 1
"""A position that no change reaches."""


class AuditStore:
    """The audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(  # noqa: PLR0913 - one per column
        self, caller: Caller, *, request_id: str, address: str, action: str, subject: str | None, customer: str | None
    ) -> int:
        """Note that a change begins; its place in the log. The customer of a connection or endpoint is looked up."""
        who = (caller.kind, caller.id, caller.name)
        async with self._database.session() as connection:
            position: int = await connection.fetchval(BEGIN, request_id, *who, address, action, subject, customer)
        return position

    async def end(self, position: int, status: int, subject: str | None, customer: str | None) -> None:
        """Note how it ended."""
        async with self._database.session() as connection:
            await connection.execute(END, position, status, subject, customer)

    async def entries(
        self, after: Key | None, most: int, *, subject: str | None = None, caller: str | None = None
    ) -> list[dict[str, Any]]:
        """What was changed, the latest first."""
        before = after[0] if after else NEWEST
        statement, more = (OF_CALLER if caller else LIST, ()) if subject is None else (OF_SUBJECT, (subject,))
        async with self._database.session() as connection:
            rows = await connection.fetch(statement, before, most, caller, *more)
        return [dict(row) for row in rows]
