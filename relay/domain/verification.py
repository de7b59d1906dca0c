"""Verification: an endpoint says that it wants webhooks, before the first one that tells of anything.

    challenge      signed POST with a random text    -> 2xx, and the text comes back
    cloudevents    OPTIONS, WebHook-Request-Origin   -> 2xx, WebHook-Allowed-Origin is ours or *, and a rate

The second is section 4 of CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery", version 1.0.2. What was proved holds
for one URL and one kind of verification: `proof` names the two, and another of either is to be proved anew.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import orjson

from relay.domain.advice import advice
from relay.domain.deliveries import Answer
from relay.domain.endpoints import Endpoint, EndpointOptions, Verification
from relay.domain.retry import next_attempt, schedule_of

CHALLENGE_TYPE = "endpoint.challenge"
ORIGIN = "relay"
"""What relay calls itself in a handshake, unless it is told another name."""
LONGEST_WAIT = timedelta(hours=1)
"""Between two tries: somebody may be waiting in front of a screen."""

REQUEST_ORIGIN, REQUEST_RATE = "webhook-request-origin", "webhook-request-rate"
ALLOWED_ORIGIN, ALLOWED_RATE = "webhook-allowed-origin", "webhook-allowed-rate"
PERMISSION: Mapping[str, str] = MappingProxyType({"origin": ALLOWED_ORIGIN, "rate": ALLOWED_RATE, "allow": "allow"})
"""The headers of a handshake's answer, by the fields of `Permission`."""

_RATE = re.compile(r"[1-9][0-9]{0,8}")
_SECONDS_PER_MINUTE = 60
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Permission:
    """What came back from a handshake: the answer, and those of its headers that count; empty ones are missing."""

    answer: Answer
    origin: str = ""
    rate: str = ""
    allow: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an endpoint has proved itself: it has when there is no `problem`."""

    answer: Answer
    problem: str = ""
    """What is wrong, and what a person does about it."""
    per_minute: int | None = None
    """The most webhooks that it wants; None: it sets no limit."""


def proof(verification: Verification, url: str) -> str:
    """What an endpoint with this verification and URL proves; empty for one that need not prove anything."""
    if verification is Verification.NONE:
        return ""
    return hashlib.sha256(f"{verification}\n{url}".encode()).hexdigest()


def limit(endpoint: Endpoint) -> float | None:
    """The most attempts per second: what a person allows, or what the endpoint does when that is less."""
    allowed = endpoint.allowed_per_minute
    limits = [endpoint.options.per_second, None if allowed is None else allowed / _SECONDS_PER_MINUTE]
    return min((each for each in limits if each is not None), default=None)


def challenge_body(challenge: str, now: datetime) -> bytes:
    """The body of a challenge: shaped as an event, so that receivers need no second way to read."""
    body = {"type": CHALLENGE_TYPE, "timestamp": now, "data": {"challenge": challenge}}
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def handshake_headers(origin: str, options: EndpointOptions) -> dict[str, str]:
    """The headers that ask for permission; for a rate only where a person has set one."""
    headers = {REQUEST_ORIGIN: origin}
    if options.per_second is not None:
        headers[REQUEST_RATE] = str(_per_minute(options.per_second))
    return headers


def judge_challenge(challenge: str, answer: Answer) -> Verdict:
    """Whether the answer holds the challenge: `{"challenge": "..."}`, or the bare text."""
    if refused := _refused(answer):
        return Verdict(answer, f"the challenge was not answered: {refused}")
    if challenge in _held(answer.excerpt):
        return Verdict(answer)
    return Verdict(
        answer,
        f"the challenge was answered {answer.status} without its text: answer webhooks of type {CHALLENGE_TYPE} with "
        '{"challenge": ...} and the text from data.challenge, as `relay listen` does',
    )


def judge_handshake(origin: str, options: EndpointOptions, permission: Permission) -> Verdict:
    """Whether permission was given. Consent is in the headers: a status alone says nothing (section 4.2)."""
    answer = permission.answer
    if refused := _refused(answer):
        return Verdict(answer, f"the OPTIONS handshake failed: {refused}")
    if problem := _withheld(origin, options, permission):
        return Verdict(answer, f"the OPTIONS handshake was answered {answer.status}, but {problem}")
    return Verdict(answer, per_minute=int(permission.rate) if _RATE.fullmatch(permission.rate) else None)


def next_try(
    tries: int, options: EndpointOptions, *, now: datetime, dice: float, retry_after: float | None
) -> datetime:
    """When an endpoint is asked again: its own schedule, whose last wait repeats, and no wait above an hour."""
    waits = [min(each, LONGEST_WAIT) for each in schedule_of(options)[1:]] or [LONGEST_WAIT]
    at = next_attempt(
        attempts=min(tries, len(waits)), now=now, dice=dice, retry_after=retry_after, schedule=(timedelta(0), *waits)
    )
    assert at is not None
    return at


def _per_minute(per_second: float) -> int:
    return max(1, math.floor(per_second * _SECONDS_PER_MINUTE))


def _refused(answer: Answer) -> str:
    """Why an answer is no consent whatever it holds; empty when it may be one."""
    if not answer.error and answer.status is not None and 200 <= answer.status <= 299:  # noqa: PLR2004 - success
        return ""
    return advice(answer)


def _held(body: bytes) -> tuple[str, ...]:
    """The texts that a body may give as the challenge."""
    text = body.decode(errors="replace").strip()
    try:
        read: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return (text,)
    held = read.get("challenge") if isinstance(read, dict) else read
    return (text, held) if isinstance(held, str) else (text,)


def _withheld(origin: str, options: EndpointOptions, permission: Permission) -> str:
    if permission.origin != "*" and permission.origin.lower() != origin.lower():
        said = f"is {_shown(permission.origin)}" if permission.origin else "is missing"
        return f"WebHook-Allowed-Origin {said}: it must be {origin!r} or '*'"
    if not permission.rate and options.per_second is not None:
        return "WebHook-Allowed-Rate is missing: it must be a number of webhooks per minute, or '*'"
    if permission.rate not in {"", "*"} and not _RATE.fullmatch(permission.rate):
        return f"WebHook-Allowed-Rate is {_shown(permission.rate)}: it must be a number of webhooks per minute, or '*'"
    if permission.allow and "POST" not in {each.strip() for each in permission.allow.upper().split(",")}:
        return f"Allow is {_shown(permission.allow)}: it must hold POST, or be left out"
    return ""


def _shown(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "...")
