"""Redrives: dead letters that are sent again to the topics they came from, as they came and in their order.

    letters -> Wanted chooses -> again: original key, bytes and headers, and one header that names the redrive

What is redriven is written down first, with the digest of its bytes: the header alone gives nobody any right. A
redriven command that is signed may be old, and one that had expired is a new command with an id made of the old one:
its first result stands, and redriving the same letter twice is still that one command.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from relay.domain.dead_letters import OURS
from relay.domain.intake import Given
from relay.domain.messages import Headers, Incoming, Message, Reason

HEADER: Final = "relay-redriven"
LONGEST_ID: Final = 91
"""Characters of the old id in a new one."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: the message as it came, why it is here, and since when. `offset` -1: it never was in a topic."""

    message: Incoming
    reason: str
    detail: str
    at: datetime

    @property
    def id(self) -> str:
        """Of its redrive: the same for the same letter."""
        came = self.message
        seed = f"{came.topic}\n{came.partition}\n{came.offset}\n".encode() + (came.value or b"")
        return "rdv_" + hashlib.sha256(seed).hexdigest()[:32]

    @property
    def can_go(self) -> bool:
        """Whether it can be sent again: it came from a topic, and its bytes are here."""
        return self.message.offset >= 0 and self.message.value is not None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are looked for; what is not given narrows nothing."""

    reasons: frozenset[str] = frozenset()
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and self.topic in {None, letter.message.topic}
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Redrive:
    """What is written down of one redrive. `expires_at` is given to a command that had expired."""

    id: str
    digest: bytes
    expires_at: datetime | None = None

    def fits(self, value: bytes | None) -> bool:
        """Whether these are the bytes that were redriven."""
        return value is not None and digest_of(value) == self.digest


def read_letter(message: Incoming, at: datetime) -> Letter:
    """What a message on the dead-letters topic tells; where it lacks our headers it is its own original."""
    names = tuple(name for name, _ in message.headers[-len(OURS) :])
    if names != OURS:
        return Letter(replace(message, offset=-1), "?", "", at)
    ours = {name: (value or b"").decode(errors="replace") for name, value in message.headers[-len(OURS) :]}
    came = Incoming(
        ours["relay-original-topic"],
        _number(ours["relay-original-partition"]),
        _number(ours["relay-original-offset"]),
        message.key,
        message.value,
        _without_redrive(message.headers[: -len(OURS)]),
    )
    return Letter(came, ours["relay-reason"], ours["relay-detail"], at)


def in_order(letters: Iterable[Letter]) -> list[Letter]:
    """Each message once, in the order in which it came: a batch that was read twice has left two letters."""
    found = {(each.message.topic, each.message.partition, each.message.offset): each for each in letters}
    return [found[place] for place in sorted(found)]


def redrives(letters: Sequence[Letter], expires_at: datetime | None) -> list[Redrive]:
    """What is written down of these."""
    return [
        Redrive(each.id, digest_of(each.message.value or b""), expires_at if each.reason == Reason.EXPIRED else None)
        for each in letters
    ]


def again(letter: Letter) -> Message:
    """The message as it goes to its topic again."""
    came = letter.message
    return Message(came.topic, came.key or b"", came.value, (*came.headers, (HEADER, letter.id.encode())))


def redrive_named(headers: Headers) -> str | None:
    """The redrive that a message says it is of."""
    return next((_named(value) for name, value in reversed(headers) if name == HEADER and value), None)


def renewed(given: Given, redrive: Redrive) -> Given:
    """The command once more: the same, or when it had expired a new one, with the time that it is given."""
    if redrive.expires_at is None:
        return given
    command_id = f"{given.command_id[:LONGEST_ID]}~{redrive.id.removeprefix('rdv_')[:8]}"
    tree = {**given.tree, "command_id": command_id, "expires_at": redrive.expires_at.isoformat()}
    return replace(given, tree=tree, command_id=command_id, content=given.content + redrive.id.encode())


def digest_of(value: bytes) -> bytes:
    """Of a message's bytes."""
    return hashlib.sha256(value).digest()


def _named(value: bytes) -> str:
    return value.decode(errors="replace").replace("\x00", "?")


def _without_redrive(headers: Headers) -> Headers:
    return tuple((name, value) for name, value in headers if name != HEADER)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1
