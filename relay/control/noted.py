"""Noted: what this machine's administrator changes without the control API is in the audit log all the same."""

import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from relay.domain.callers import LOCAL
from relay.domain.errors import UserError
from relay.store.audit import AuditStore
from relay.store.database import Database

Done = TypeVar("Done")


async def noted(
    database: Database,
    action: str,
    change: Callable[[], Awaitable[Done]],
    *,
    subject: str | None = None,
    customer: str | None = None,
) -> Done:
    """What `change` gives. One that breaks off has no outcome in the log. Raises what `change` raises."""
    audit = AuditStore(database)
    request_id = f"cmd_{secrets.token_hex(12)}"
    position = await audit.begin(
        LOCAL, request_id=request_id, address=LOCAL.id, action=action, subject=subject, customer=customer
    )
    try:
        done = await change()
    except UserError:
        await audit.end(position, HTTPStatus.BAD_REQUEST, subject, customer)
        raise
    await audit.end(position, HTTPStatus.OK, subject, customer)
    return done
