"""Commands as people see them: what was asked, where it stands, what it waits for, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import orjson
from pydantic import Field

from relay.control.views import View
from relay.domain.commands import command_key
from relay.domain.connections import ConnectionState
from relay.domain.errors import UserError
from relay.domain.orders import order_id
from relay.domain.results import Outcome
from relay.store.command_list import NEWEST, CommandList, Wanted

WAITING, SENDING, DONE = "waiting", "sending", "done"
STATES = (WAITING, SENDING, DONE)


class CommandView(View):
    """One command. `command` and `result` are null in lists, but for one that is asked for by its sender's id."""

    id: str = Field(description="relay's own id, `cmd_...`: derived from the connection and the sender's id.")
    command_id: str = Field(description="The sender's own id.")
    connection_id: str
    connection: str
    customer: str
    type: str | None = Field(description="Null: it was no command that is known.")
    remote_id: str | None = Field(description="The order's; of a new one once it is there.")
    order_id: str | None
    state: str = Field(description="waiting, sending (its outcome is open), or done.")
    outcome: Outcome = Field(description="`accepted` until it is over.")
    dry_run: bool
    waits_for: str | None = Field(description="What has to happen next, in a sentence; null: it is over.")
    why: str | None = Field(description="Why it was refused, or the last problem that it met, in a sentence.")
    attempts: int = Field(description="How often it was sent to the ERP.")
    due_at: datetime | None = Field(description="When it is tried next; null: not before another one is over.")
    sent_at: datetime | None = Field(description="Since when its outcome is open.")
    expires_at: datetime
    source: str = Field(description="How it came: `api`, or `topic`.")
    caller: str
    created_at: datetime
    done_at: datetime | None
    command: dict[str, Any] | None = Field(default=None, description="What was asked, as it was given.")
    result: dict[str, Any] | None = Field(
        default=None, description="The result that was told when it was over: command-result.v1 of the catalogue."
    )
    position: int = Field(default=0, exclude=True)

    @classmethod
    def of(cls, row: Mapping[str, Any], now: datetime) -> Self:
        """The view of a row of the store."""
        result = orjson.loads(row["result"]) if row["result"] else None
        remote_id = row["remote_id"]
        return cls.model_validate(
            {
                **row,
                "customer": row["customer_id"],
                "order_id": remote_id and order_id(row["connection_id"], remote_id),
                "outcome": row["outcome"] or Outcome.ACCEPTED,
                "waits_for": _waits_for(row, now),
                "why": _why(result) or row["problem"],
                "command": orjson.loads(row["body"]) if "body" in row else None,
                "result": result if "body" in row else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Commands:
    """What people read of commands. Connections are named by their ids."""

    kept: CommandList

    async def commands(
        self, connection_id: str | None, wanted: Wanted, *, before: int = NEWEST, most: int = 50
    ) -> list[CommandView]:
        """The latest first; None: of all connections. Raises UserError for an order without its connection."""
        if wanted.remote_id is not None and connection_id is None:
            raise UserError("remote_id: name the connection, too: other systems may have an order of this id")
        now = datetime.now(UTC)
        found = await self.kept.commands(connection_id, wanted, before=before, most=most)
        return [CommandView.of(row, now) for row in found]

    async def command(self, id: str, connection_id: str | None = None) -> CommandView:  # noqa: A002 - as in the store
        """One by relay's own id; with `connection_id` only one of its own. Raises NotFound."""
        return CommandView.of(await self.kept.command(id, connection_id), datetime.now(UTC))


def key_of(connection_id: str | None, command_id: str) -> str:
    """Relay's own id of a sender's command. Raises UserError without a connection."""
    if connection_id is None:
        raise UserError("command_id: name the connection, too: senders' ids are their own")
    return command_key(connection_id, command_id)


def _waits_for(row: Mapping[str, Any], now: datetime) -> str | None:
    state, due_at = row["state"], row["due_at"]
    if state == DONE:
        return None
    if row["connection_state"] != ConnectionState.ACTIVE:
        return f"its connection, which is {row['connection_state'].replace('_', ' ')}"
    if state == SENDING:
        return "word from the ERP whether it was done"
    if due_at is None:
        return "an earlier command for the same order"
    return "its next try" if due_at > now else "its turn"


def _why(result: Mapping[str, Any] | None) -> str | None:
    data = result["data"] if result else {}
    told = [f"{each['reason']}: {each['message']}" for each in data.get("refusals", ())]
    return "; ".join(told) or data.get("said")
