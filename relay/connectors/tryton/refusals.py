"""What Tryton's no means: which class of reason, which field, and what to do. Its own words are the message.

    {"error": ["UserError", ["A value is required for field "Party" in record ...", ...]]} -> validation, vendor

Refusals are asked for in English, so that they can be told apart. They come after Tryton has rolled back.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.connectors.tryton.bodies import LABELLED, LINE_LABELLED, Values
from relay.connectors.tryton.rpc import ErpSaidNo
from relay.connectors.tryton.schema import Definitions
from relay.domain.results import Refusal, RefusalReason, WriteRefused

_FIELD: Final = re.compile(
    r'field "(?P<field>[^"]+)"(?P<record> in record ".*?")? (?:of|in) "(?P<model>Purchase(?: Line)?)"', re.IGNORECASE
)
_VALUE: Final = re.compile(r"""^The (?:number of digits in the )?value "'?(?P<value>.*?)'?" for field """)
_ON_LINE: Final = "purchase line"

_READ_AGAIN: Final = "read the order again, and send a new command if it is still wanted"
_STATE: Final = "see which commands and fields the order's state allows; a quotation goes back to draft in Tryton"
_RIGHTS: Final = "give relay's user in Tryton the group Purchase and the order's company, or let somebody else do it"
_ANSWER: Final = "do it in Tryton by hand, or answer its warning there as relay's user with 'always ignore'"
_VALUE_FIX: Final = "correct the value and send a new command"

_SIGNS: Final[Sequence[tuple[re.Pattern[str], RefusalReason, str | None, str]]] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason, field, fix)
    for pattern, reason, field, fix in (
        (r'^You can ?not call "', RefusalReason.WORKFLOW_STATE, None, _STATE),
        (r'^You are not allowed to modify the field "[^"]*" in record', RefusalReason.WORKFLOW_STATE, None, _STATE),
        (r'^You are not allowed to modify the field "[^"]*" of', RefusalReason.NOT_WRITABLE_FIELD, None, _RIGHTS),
        (r"^You can ?not add lines to purchase", RefusalReason.WORKFLOW_STATE, "lines", _STATE),
        (r"^To delete line .*you must cancel or reset to draft", RefusalReason.WORKFLOW_STATE, "lines", _STATE),
        (r"^To delete purchase", RefusalReason.WORKFLOW_STATE, None, _STATE),
        (r"^To get a quote .*enter a warehouse", RefusalReason.VALIDATION, "ship_to.location_code", "give a warehouse"),
        (r'^You are trying to \w+(?: to)? records .* of "Purchase( Line)?"', RefusalReason.CONFLICT, None, _READ_AGAIN),
        (r"^You are not allowed to ", RefusalReason.NOT_PERMITTED, None, _RIGHTS),
        (r"^Calling button ", RefusalReason.NOT_PERMITTED, None, _RIGHTS),
    )
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a refusal may be about: the labels of this Tryton's fields, and the lines that were sent, by their place."""

    header: Definitions
    line: Definitions
    lines: Mapping[str, Values]


def refused(error: ErpSaidNo, sent: Sent) -> WriteRefused:
    """The refusal that Tryton's error is."""
    said = error.said or str(error)
    match error.kind:
        case "ConcurrencyException":
            message = "the order was changed in Tryton after it was read"
            told = Refusal(reason=RefusalReason.CONFLICT, message=message, fix=_READ_AGAIN)
        case "UserWarning":
            message = f"Tryton asks back: {said}"
            told = Refusal(reason=RefusalReason.VALIDATION, message=message, fix=_ANSWER)
        case _:
            told = _told(said, sent)
    return WriteRefused([told], said=said)


def _told(said: str, sent: Sent) -> Refusal:
    for sign, reason, field, fix in _SIGNS:
        if sign.search(said):
            return Refusal(reason=reason, message=said, field=field or _field(said, sent), fix=fix)
    return Refusal(reason=RefusalReason.VALIDATION, message=said, field=_field(said, sent), fix=_VALUE_FIX)


def _field(said: str, sent: Sent) -> str | None:
    match = _FIELD.search(said)
    if match is None:
        return None
    if match["model"].lower() != _ON_LINE:
        names = _names(match["field"], sent.header)
        return next((LABELLED.get(name, f"custom_fields.{name}") for name in names), None)
    names = _names(match["field"], sent.line)
    path = next((LINE_LABELLED.get(name, f"custom_fields.{name}") for name in names), None)
    return path and f"{_place(names, said, sent.lines)}.{path}"


def _names(label: str, fields: Definitions) -> list[str]:
    return [name for name, each in fields.items() if each.label == label]


def _place(names: Sequence[str], said: str, lines: Mapping[str, Values]) -> str:
    """The line that is meant, when only one of those sent can be."""
    found = _VALUE.search(said)
    suspects = [place for place, values in lines.items() if not found or _holds(values, names, found["value"])]
    if not found and said.startswith("A value is required"):
        suspects = [place for place in suspects if all(lines[place].get(name) is None for name in names)]
    return suspects[0] if len(suspects) == 1 else "lines[]"


def _holds(values: Values, names: Sequence[str], value: Any) -> bool:
    return any(str(values.get(name)) == value for name in names)
