"""CloudEvents 1.0 on Kafka: attributes to headers and back (the Kafka protocol binding, binary and structured mode).

    binary       ce_id, ce_source, ce_type ... headers, content-type: application/json, value = data     what we write
    structured   content-type: application/cloudevents+json, value = the whole event                     read too

Data is never parsed and written again: the bytes of a structured event's `data` are cut out as they stand, so that a
number keeps its digits.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NoReturn

from relay.domain.messages import BadMessage, Headers, Reason

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
SPEC_VERSION = "1.0"
PREFIX = "ce_"

_REQUIRED = ("specversion", "id", "source", "type")
_CORE = frozenset((*_REQUIRED, "time", "subject", "dataschema", "datacontenttype"))
_EXTENSION = re.compile(r"[a-z0-9]+")
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event as it came. `data` is None for a tombstone or an event without data."""

    id: str
    source: str
    type: str
    key: bytes | None = None
    time: datetime | None = None
    subject: str | None = None
    dataschema: str | None = None
    datacontenttype: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    data: bytes | None = field(default=None, repr=False)


def cloudevent_headers(  # noqa: PLR0913  the attributes of the specification
    *,
    id: str,  # noqa: A002  the attribute's own name
    source: str,
    type: str,  # noqa: A002  the attribute's own name
    time: datetime,
    subject: str | None = None,
    dataschema: str | None = None,
    extensions: Mapping[str, str] = MappingProxyType({}),
) -> tuple[tuple[str, bytes], ...]:
    """Headers of a binary-mode event with JSON data.

    Raises ValueError for a time without zone and for extension names other than lower-case letters and digits (section
    3.1 of the specification) or equal to an attribute's.
    """
    if time.tzinfo is None:
        raise ValueError("ce_time needs a time zone")
    for name in extensions:
        if not _EXTENSION.fullmatch(name) or name in _CORE:
            raise ValueError(f"not a CloudEvents extension name: {name!r}")
    attributes = {
        "specversion": SPEC_VERSION,
        "id": id,
        "source": source,
        "type": type,
        "time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "subject": subject,
        "dataschema": dataschema,
        **extensions,
    }
    told = ((PREFIX + name, value.encode()) for name, value in attributes.items() if value is not None)
    return (*told, ("content-type", JSON.encode()))


def read_cloudevent(key: bytes | None, value: bytes | None, headers: Headers) -> CloudEvent:
    """The event in one Kafka message, of either mode. Raises BadMessage with the reason and the attribute's name."""
    content_type = _content_type(headers)
    if content_type is not None and content_type.split(";")[0].strip().lower() == STRUCTURED:
        attributes, data = _structured(value)
    else:
        attributes, data = _binary(headers), value
        if content_type is not None:
            attributes["datacontenttype"] = content_type
    return _event(key, attributes, data)


def _content_type(headers: Headers) -> str | None:
    found = [value for name, value in headers if name.lower() == "content-type"]
    return _text("content-type", found[-1]) if found else None


def _binary(headers: Headers) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, value in headers:
        if not name.startswith(PREFIX):
            continue
        attribute = name.removeprefix(PREFIX)
        if attribute in attributes:
            _refuse(f"header {name} comes twice")
        attributes[attribute] = _text(name, value)
    return attributes


def _text(name: str, value: bytes | None) -> str:
    if value is None:
        _refuse(f"header {name} has no value")
    try:
        return value.decode()
    except UnicodeDecodeError:
        _refuse(f"header {name} is not UTF-8")


def _structured(value: bytes | None) -> tuple[dict[str, str], bytes | None]:
    """Attributes and data bytes of a structured-mode value."""
    if value is None:
        raise BadMessage(Reason.UNREADABLE, "a structured CloudEvent has no value")
    attributes: dict[str, str] = {}
    data: list[bytes] = []
    try:
        for name, parsed, source in _members(value.decode()):
            if name == "data":
                data.append(source.encode())
            elif name == "data_base64":
                data.append(base64.b64decode(parsed, validate=True))
            elif parsed is not None:
                attributes[name] = source if isinstance(parsed, int | float) else _string(name, parsed)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise BadMessage(Reason.UNREADABLE, "the value is not one JSON object of a CloudEvent") from error
    if len(data) > 1:
        _refuse("both data and data_base64 are given")
    return attributes, data[0] if data else None


def _string(name: str, parsed: object) -> str:
    if not isinstance(parsed, str):
        _refuse(f"attribute {name} must be text, a number or a boolean")
    return parsed


def _members(text: str) -> Iterator[tuple[str, Any, str]]:
    """Name, parsed value and source text of each member of the one JSON object in `text`; ValueError if it is none."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    names: set[str] = set()
    at = _after(text, _skip(text, 0), "{")
    while not text.startswith("}", at := _skip(text, at)):
        if names:
            at = _skip(text, _after(text, at, ","))
        name, at = decoder.raw_decode(text, at)
        if not isinstance(name, str) or name in names:
            raise ValueError("a member's name is no string, or comes twice")
        names.add(name)
        start = _skip(text, _after(text, _skip(text, at), ":"))
        parsed, at = decoder.raw_decode(text, start)
        yield name, parsed, text[start:at]
    if _skip(text, at + 1) != len(text):
        raise ValueError("text after the object")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, expected: str) -> int:
    if not text.startswith(expected, at):
        raise ValueError(f"expected {expected} at {at}")
    return at + 1


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _event(key: bytes | None, attributes: dict[str, str], data: bytes | None) -> CloudEvent:
    for name in _REQUIRED:
        if not attributes.get(name):
            _refuse(f"CloudEvents attribute {name} is absent or empty (in binary mode, header {PREFIX}{name})")
    if attributes["specversion"] != SPEC_VERSION:
        raise BadMessage(Reason.UNSUPPORTED_VERSION, f"CloudEvents attribute specversion must be {SPEC_VERSION}")
    return CloudEvent(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        key=key,
        time=_time(attributes.get("time")),
        subject=attributes.get("subject"),
        dataschema=attributes.get("dataschema"),
        datacontenttype=attributes.get("datacontenttype"),
        extensions={name: value for name, value in attributes.items() if name not in _CORE},
        data=data,
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        _refuse("CloudEvents attribute time must be RFC 3339 with a zone, as 2026-01-31T12:00:00Z")
    return time


def _refuse(message: str) -> NoReturn:
    raise BadMessage(Reason.NOT_A_CLOUDEVENT, message)
