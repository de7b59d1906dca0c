"""What a receiver has received: a request read as a webhook, and what it is about.

headers, body -> problem -> webhook_of -> Received(event | test | challenge)       headers -> handshake_of

A test and a challenge are known by what is signed, never by a header that anybody could add.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from relay.domain.results import RESULT_TYPES
from relay.domain.samples import TEST_PREFIX
from relay.domain.signing import ATTEMPT, DELIVERY, ID, TIMESTAMP, SignatureRefused, VerifyingKey, verify
from relay.domain.verification import CHALLENGE_TYPE, REQUEST_ORIGIN

LONGEST_NUMBER = 18


class Kind(StrEnum):
    """What a request is about."""

    EVENT = "event"
    TEST = "test"
    """A sample that a person sent: nothing has happened."""
    CHALLENGE = "challenge"
    HANDSHAKE = "handshake"


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came. `problem` says why `verified` is false."""

    event_id: str
    delivery: str
    attempt: int
    timestamp: int
    """The attempt's time as signed, unix seconds."""
    type: str
    """"?" when the body is not an event."""
    order_id: str
    sequence: int
    body: bytes
    verified: bool
    problem: str = ""
    kind: Kind = Kind.EVENT
    asked_by: str = ""
    """The sender's name in a handshake, which is not signed."""


def problem(secrets: Sequence[VerifyingKey], headers: dict[str, str], body: bytes, tolerance: int) -> str:
    """What is wrong with a webhook's signature; empty when it is good."""
    try:
        verify(secrets, headers, body, int(time.time()), tolerance)
    except SignatureRefused as refused:
        return str(refused)
    return ""


def webhook_of(headers: dict[str, str], body: bytes, problem: str) -> Received:
    """A POST, whatever it holds."""
    kind, order_id, sequence = _event(body)
    message_id = headers.get(ID, "")
    return Received(
        event_id=message_id,
        delivery=headers.get(DELIVERY, ""),
        attempt=_number(headers.get(ATTEMPT, "")),
        timestamp=_number(headers.get(TIMESTAMP, "")),
        type=kind,
        order_id=order_id,
        sequence=sequence,
        body=body,
        verified=not problem,
        problem=problem,
        kind=_kind(kind, message_id),
    )


def handshake_of(headers: dict[str, str]) -> Received:
    """An OPTIONS request. One without the sender's name asks for nothing."""
    asked_by = headers.get(REQUEST_ORIGIN, "")
    return Received("", "", 0, 0, "?", "", 0, b"", verified=False, kind=Kind.HANDSHAKE, asked_by=asked_by)


def challenge_of(body: bytes) -> str:
    """The text of a challenge."""
    challenge = _table(_table(orjson.loads(body)).get("data")).get("challenge")
    return challenge if isinstance(challenge, str) else ""


def _kind(event_type: str, message_id: str) -> Kind:
    """By what is signed: anybody could set a header beside it."""
    if event_type == CHALLENGE_TYPE:
        return Kind.CHALLENGE
    return Kind.TEST if message_id.startswith(TEST_PREFIX) else Kind.EVENT


def _event(body: bytes) -> tuple[str, str, int]:
    """The type, order id and sequence of an event; "?", "" and 0 for what is none.

    A command's result is none of its order's events, which are counted.
    """
    try:
        event = _table(orjson.loads(body))
    except orjson.JSONDecodeError:
        return "?", "", 0
    data = _table(event.get("data"))
    kind, order_id, sequence = event.get("type"), data.get("order_id"), data.get("sequence")
    if kind in RESULT_TYPES:
        return str(kind), "", 0
    return (
        kind if isinstance(kind, str) else "?",
        order_id if isinstance(order_id, str) else "",
        sequence if isinstance(sequence, int) else 0,
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else 0
