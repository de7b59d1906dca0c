"""What one system gives and takes, field by field: the data behind the field mapping."""

from typing import Literal

from relay.domain.commands import CommandType
from relay.domain.orders import Status, Value


class FieldCapability(Value):
    """One canonical field in one system. `path` is the canonical path, lines as `lines[].quantity`."""

    path: str
    source: str | None = None
    rule: str = ""
    type: Literal["text", "amount", "date", "datetime", "boolean", "code", "object"] = "text"
    max_length: int | None = None
    decimals: int | None = None
    readable: bool = True
    creatable: bool = False
    required: bool = False
    """A new order cannot be without it."""
    updatable: bool = False
    updatable_until: Status | None = None
    """The last status in which the system still takes a new value."""
    allowed: tuple[str, ...] = ()
    """The only values that it takes, when there are few."""
    reference: str | None = None
    """The system's list in which a value must be, such as `vendors`: looked up there before anything is written."""


class CommandCapability(Value):
    """One command that the system has, and in which statuses it takes it; none: in any."""

    type: CommandType
    statuses: tuple[Status, ...] = ()
    note: str = ""
    """What people should know of it, in one sentence."""


class SourceField(Value):
    """A field of the ERP's own records that no rule reads, with some values as they were met, shortened."""

    source: str
    per_line: bool
    samples: tuple[str, ...] = ()


class Capabilities(Value):
    """Everything that is known of one connection's system."""

    connector: str
    fields: tuple[FieldCapability, ...]
    commands: tuple[CommandCapability, ...] = ()
    """None: nothing can be written."""
    custom_fields: bool = False
    """Whether other source fields than those of `fields` are taken, under their own names in `custom_fields`."""

    def unreadable(self) -> tuple[str, ...]:
        """Canonical paths that this system cannot give: an order's `field_presence`."""
        return tuple(each.path for each in self.fields if not each.readable)
