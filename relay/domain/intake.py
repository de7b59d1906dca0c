"""Intake: what came in as a command, read and judged before anything is stored.

    message | body of a call -> Given (who it is for, under which id) -> Judged (accepted, rejected or expired)

What cannot be told to its sender is a BadMessage: unreadable, without an id, for a connection that is not there. All
other faults are results. Numbers are read exactly, and what JSON leaves open (the same name twice) is refused.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NoReturn

from relay.domain.cloudevents import PREFIX, STRUCTURED, read_cloudevent
from relay.domain.commands import BadCommand, Command, CommandType, command_key, lane, read_command
from relay.domain.connections import ConnectionState
from relay.domain.messages import BadMessage, Incoming, Reason
from relay.domain.orders import order_key
from relay.domain.results import Outcome, Refusal, RefusalReason, ResultData

TYPE_PREFIX: Final = "purchase_order.command."
"""How the CloudEvents types of commands begin: `purchase_order.command.create`."""
DEEPEST: Final = 32
LONGEST: Final = timedelta(days=366)
"""How far ahead a command may expire."""
LONGEST_MESSAGE: Final = 1000

_COMMAND_ID = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, slots=True)
class Given:
    """A command whose sender can be told what becomes of it. `content` is the same for the same command."""

    tree: dict[str, Any] = field(repr=False)
    connection_id: str
    command_id: str
    content: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Relay's own id of it."""
        return command_key(self.connection_id, self.command_id)

    @property
    def digest(self) -> bytes:
        """Of its content: the same id with another one is another command, and refused."""
        return hashlib.sha256(self.content).digest()

    @property
    def type(self) -> CommandType | None:
        """Its type, if it has one."""
        found = self.tree.get("type")
        return CommandType(found) if found in tuple(CommandType) else None

    @property
    def remote_id(self) -> str | None:
        """The order that it names; a new one has none yet."""
        found = self.tree.get("remote_id")
        return found if isinstance(found, str) and self.type is not CommandType.CREATE else None


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of a command as it comes in: ACCEPTED, or over at once, with the reasons."""

    outcome: Outcome
    expires_at: datetime
    command: Command | None = None
    refusals: tuple[Refusal, ...] = ()

    def lane(self, given: Given) -> str:
        """Where it waits."""
        return lane(self.command) if self.command else given.id

    def result(self, given: Given, customer_id: str) -> ResultData:
        """What is told of it."""
        command = self.command
        return ResultData(
            id=given.id,
            command_id=given.command_id,
            type=given.type,
            customer_id=customer_id,
            connection_id=given.connection_id,
            outcome=self.outcome,
            dry_run=command.dry_run if command else False,
            external_reference=command.external_reference if command else None,
            remote_id=getattr(command, "remote_id", None),
            refusals=self.refusals,
        )


def given_message(message: Incoming, largest: int) -> Given:
    """The command in a message: a CloudEvent of either mode, or JSON by itself. Raises BadMessage."""
    size = len(message.value or b"")
    if size > largest:
        raise BadMessage(Reason.TOO_LARGE, f"the command has {size} bytes: {largest} are taken")
    if not _is_cloudevent(message):
        return _given(parsed(message.value or b""))
    event = read_cloudevent(message.key, message.value, message.headers)
    if not event.type.startswith(TYPE_PREFIX):
        raise BadMessage(Reason.UNKNOWN_TYPE, f"types of commands begin with {TYPE_PREFIX}, as {TYPE_PREFIX}create")
    tree = parsed(event.data or b"")
    if isinstance(tree, dict):
        tree.setdefault("command_id", event.id)
        _same_type(tree, event.type.removeprefix(TYPE_PREFIX))
    return _given(tree)


def given_body(body: bytes, largest: int) -> Given:
    """The command in the body of a call. Raises BadMessage."""
    if len(body) > largest:
        raise BadMessage(Reason.TOO_LARGE, f"the command has {len(body)} bytes: {largest} are taken")
    return _given(parsed(body))


def parsed(text: bytes) -> Any:
    """JSON with exact numbers. Raises BadMessage: it is none, a name comes twice, or it is nested too deeply."""
    try:
        tree = json.loads(
            text.decode(), parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_each_name_once
        )
    except (ValueError, RecursionError, ArithmeticError) as error:
        why = str(error) if isinstance(error, _Refused) else "it is not JSON in UTF-8"
        raise BadMessage(Reason.UNREADABLE, f"the command cannot be read: {why}") from None
    if _depth(tree) > DEEPEST:
        raise BadMessage(Reason.UNREADABLE, f"the command cannot be read: it is nested deeper than {DEEPEST}")
    return tree


def check_key(given: Given, key: bytes | None) -> None:
    """Commands of one order are in one partition, so its key says which. Raises BadMessage for another key."""
    names = [name for name in (given.remote_id, given.command_id) if name]
    if key and key not in {order_key(given.connection_id, name).encode() for name in names}:
        raise BadMessage(
            Reason.WRONG_KEY,
            "the message key must be connection|remote_id of the order, or connection|command_id, or absent",
        )


def judge(given: Given, state: ConnectionState, now: datetime, expire_after: timedelta) -> Judged:
    """What becomes of it. Whether its system can do it is asked later, by who does it."""
    try:
        command = read_command(given.tree)
        expires_at = _expiry(command, now, expire_after)
    except BadCommand as bad:
        refusal = Refusal(
            reason=RefusalReason.VALIDATION, message=_short(str(bad)), field=_short(bad.field) if bad.field else None
        )
        return Judged(Outcome.REJECTED, now, refusals=(refusal,))
    if expires_at <= now:
        return Judged(Outcome.EXPIRED, max(expires_at, now - LONGEST), command)
    if state in {ConnectionState.DISCONNECTED, ConnectionState.NEEDS_RECONNECT}:
        refusal = Refusal(
            reason=RefusalReason.AUTH_REQUIRED,
            message=f"the connection is {state.replace('_', ' ')}: its system cannot be reached",
            fix="give it new credentials (relay connections reconnect), then send the command anew under another id",
        )
        return Judged(Outcome.REJECTED, expires_at, command, (refusal,))
    return Judged(Outcome.ACCEPTED, expires_at, command)


def _is_cloudevent(message: Incoming) -> bool:
    def structured(name: str, value: bytes | None) -> bool:
        return name.lower() == "content-type" and (value or b"").strip().lower().startswith(STRUCTURED.encode())

    return any(name.startswith(PREFIX) or structured(name, value) for name, value in message.headers)


def _same_type(tree: dict[str, Any], told: str) -> None:
    if tree.setdefault("type", told) != told:
        raise BadMessage(Reason.UNKNOWN_TYPE, "the CloudEvent's type and that of the command are not the same")


def _given(tree: Any) -> Given:
    if not isinstance(tree, dict):
        raise BadMessage(Reason.UNREADABLE, "the command cannot be read: it is no JSON object")
    try:
        content = json.dumps(tree, sort_keys=True, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadMessage(Reason.UNREADABLE, "the command cannot be read: half a character stands in it") from None
    command_id, connection_id = tree.get("command_id"), tree.get("connection_id")
    if not isinstance(command_id, str) or not _COMMAND_ID.fullmatch(command_id):
        raise BadMessage(Reason.NO_COMMAND_ID, "command_id must be 1 to 100 visible ASCII characters")
    if not isinstance(connection_id, str) or not connection_id:
        raise BadMessage(Reason.UNKNOWN_CONNECTION, "connection_id must name a connection (con_...)")
    return Given(tree, connection_id, command_id, content)


class _Refused(ValueError):
    """Text for people, without content."""


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused("a name comes twice in one object")
    return found


def _depth(tree: Any) -> int:
    depth, level = 0, [tree]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _expiry(command: Command, now: datetime, expire_after: timedelta) -> datetime:
    if command.expires_at is None:
        return now + expire_after
    if command.expires_at > now + LONGEST:
        raise BadCommand(f"expires_at: at most {LONGEST.days} days ahead", field="expires_at")
    return command.expires_at


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"
