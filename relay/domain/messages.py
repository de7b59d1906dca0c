"""Messages: what goes to a topic, what came of publishing it, and why one cannot be taken.

Message -> Published(acknowledged=n, error)      the first n are safe in the broker; of the others nothing is promised
BadMessage(reason)                               one message that nobody can work with: to the dead letters
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from relay.domain.errors import Permanent, Transient, UserError

Headers = Sequence[tuple[str, bytes | None]]
"""Header names with their bytes, in order; a name may come twice."""

DETAIL_LIMIT = 500

_SECRETS = re.compile(
    r"""(?ix) (?P<name> passw(?:or)?d | secret | token | authorization | api[-_]?key ) (?P<sep> ["']? \s* [:=] \s* )
        (?: (?: bearer | basic ) \s+ )? [^\s,;&"']* ["']? [^\s,;&"']*"""
)
_USER_INFO = re.compile(r"//[^/@\s]+@")


class Reason(StrEnum):
    """Why a message became a dead letter: the closed vocabulary of the `relay-reason` header."""

    UNREADABLE = "unreadable"
    """The bytes are not what their content type promises."""
    NOT_A_CLOUDEVENT = "not_a_cloudevent"
    """A required attribute is absent, empty or not text."""
    UNSUPPORTED_VERSION = "unsupported_version"
    """Another major version of CloudEvents."""
    UNKNOWN_TYPE = "unknown_type"
    """An event type that nobody here handles."""
    UNKNOWN_EVENT = "unknown_event"
    """A change event that relay did not make: nothing is known of its purchase order."""
    TOO_LARGE = "too_large"
    """Bigger than the topic takes."""
    REFUSED_BY_BROKER = "refused_by_broker"
    """The broker will never take it, for another reason than its size."""
    REJECTED_RECORD = "rejected_record"
    """The ERP's own record could not be read."""
    NO_COMMAND_ID = "no_command_id"
    """A command without an id that its result could be told under."""
    UNKNOWN_CONNECTION = "unknown_connection"
    """A command for a connection that is not there."""
    WRONG_KEY = "wrong_key"
    """A command whose message key is not that of its order or itself: its order among others would be lost."""
    UNAUTHORISED = "unauthorised"
    """A command that is not signed, or not by the key of its connection, or too long ago."""
    REUSED_ID = "reused_id"
    """Another command came under this id before, with other content."""
    EXPIRED = "expired"
    """A command that was not done in time."""


class BadMessage(UserError):
    """One message that nobody can work with; the text names the field and never quotes the payload."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MessageRefused(Permanent):
    """The broker can never take the message at `index` of the published sequence."""

    def __init__(self, reason: Reason, index: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.index = index


@dataclass(frozen=True, slots=True)
class Message:
    """One message for one topic. The key decides the partition, so the order; value None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None = field(repr=False)
    headers: tuple[tuple[str, bytes | None], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as it came from a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)


@dataclass(frozen=True, slots=True)
class Published:
    """What came of publishing a sequence: only its first `acknowledged` messages are known to be in the broker.

    Later ones may be there too: publishing them again makes duplicates with the same id, never gaps. `error` is None
    when all are in, `Transient` when the rest may be tried again, `MessageRefused` when the next never will be in.
    """

    acknowledged: int
    error: Transient | MessageRefused | None = None


def without_secrets(text: str) -> str:
    """The text on one line, with credentials in URLs and after telling names masked, cut to 500 characters."""
    line = " ".join(text.split())
    line = _USER_INFO.sub("//***@", line)
    line = _SECRETS.sub(r"\g<name>\g<sep>***", line)
    return line if len(line) <= DETAIL_LIMIT else line[: DETAIL_LIMIT - 1] + "…"
