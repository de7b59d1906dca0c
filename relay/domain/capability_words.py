"""What a system takes, in words for people: the same ones in every table."""

from collections.abc import Iterable

from relay.domain.capabilities import Capabilities, CommandCapability, FieldCapability
from relay.domain.commands import CommandType

FIELD_COLUMNS = ("field", "in a new order", "changed", "type", "values")
COMMAND_COLUMNS = ("command", "in which status", "note")
READ_ONLY = "Nothing is written to it: it takes no commands."
OWN_FIELDS = "Other fields of the system are taken under their own names, in `custom_fields`."


def taken(each: FieldCapability) -> tuple[str, str]:
    """Whether a new order takes it, and until when it may change; empty: not at all."""
    new = "needed" if each.required else "taken" if each.creatable else ""
    until = f"until {each.updatable_until}" if each.updatable_until else "in any status"
    return new, until if each.updatable else ""


def typed(each: FieldCapability) -> str:
    """Its type with its bounds: `text, at most 6`, `amount, 2 decimals`."""
    length = f", at most {each.max_length}" if each.max_length else ""
    decimals = "" if each.decimals is None else f", {each.decimals} decimals"
    return f"{each.type}{length}{decimals}"


def values(each: FieldCapability) -> str:
    """Which values are taken, when not all of its type are."""
    if each.allowed:
        return f"one of {', '.join(each.allowed)}"
    return f"in the list {each.reference}" if each.reference else ""


def field_rows(known: Capabilities) -> Iterable[tuple[str, ...]]:
    """Under FIELD_COLUMNS, every field that is written."""
    for each in known.fields:
        if each.creatable or each.updatable:
            yield each.path, *taken(each), typed(each), values(each)


def command_rows(commands: Iterable[CommandCapability]) -> Iterable[tuple[str, str, str]]:
    """Under COMMAND_COLUMNS, every command that there is."""
    for each in commands:
        statuses = "" if each.type is CommandType.CREATE else ", ".join(each.statuses) or "any"
        yield each.type, statuses, each.note
