"""Commands: what somebody wants done to a purchase order in its ERP, and the key under which it is found again.

    bytes of a topic, or of POST /v1/commands -> read_command -> Create | Update | AddLines | ... | Reject

A command says what is to be, in the names of the canonical order (`vendor.code`, `lines[].quantity`). A field that is
left out stays as it is; null empties it. Which fields one system takes, and until when, is in its capabilities.
"""

import base64
import datetime as dt
import hashlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import orjson
from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from relay.domain.errors import UserError
from relay.domain.orders import Address, Amount, CustomFields, OrderType, RemoteId, Text, Value

MOST_LINES: Final = 1000
MARK: Final = "rl-"
"""How the keys begin that relay makes for itself."""
OWN_FIELDS: Final = "The system's own fields, by their names there."

CommandId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[!-~]+$")]
"""The sender's own id: the same one twice is one command."""
Reference = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]


class CommandType(StrEnum):
    """What is to be done."""

    CREATE = "create"
    UPDATE = "update"
    ADD_LINES = "add_lines"
    UPDATE_LINES = "update_lines"
    CANCEL_LINES = "cancel_lines"
    CANCEL = "cancel"
    CLOSE = "close"
    APPROVE = "approve"
    REJECT = "reject"


class VendorGiven(Value):
    """A vendor, by the system's own key or by its code (with the site, where codes have one)."""

    remote_id: Text | None = None
    code: Text | None = None
    site_code: Text | None = None


class TermsGiven(Value):
    """Payment terms, by the system's own key or by their code."""

    remote_id: Text | None = None
    code: Text | None = None


class UnitGiven(Value):
    """A company or branch, by the system's own key."""

    remote_id: Text


class ItemGiven(Value):
    """What is bought, by the system's own key or by its code; a description is the line's own text."""

    remote_id: Text | None = None
    code: Text | None = None
    description: Text | None = None


class LineGiven(Value):
    """What is said of a line."""

    item: ItemGiven = Field(default_factory=ItemGiven)
    quantity: Amount | None = None
    unit: Text | None = Field(default=None, description="UN/ECE Recommendation 20 code.")
    unit_raw: Text | None = Field(default=None, description="The system's own unit, instead of `unit`.")
    unit_price: Amount | None = None
    discount: Amount | None = None
    required_date: dt.date | None = None
    promised_date: dt.date | None = None
    warehouse: Text | None = None
    cost_center: Text | None = None
    account: Text | None = None
    project: Text | None = None
    custom_fields: CustomFields = Field(default={}, description=OWN_FIELDS)


class LineChanged(LineGiven):
    """What a line that is there shall be."""

    remote_id: RemoteId = Field(description="Which line: its key in the ERP, as in events.")


class OrderGiven(Value):
    """What is said of an order, its lines aside."""

    type: OrderType = OrderType.STANDARD
    company: UnitGiven | None = None
    branch: UnitGiven | None = None
    vendor: VendorGiven | None = None
    buyer: Text | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = Field(
        default=None, description="ISO 4217 code."
    )
    currency_raw: Text | None = Field(default=None, description="The system's own currency, instead of `currency`.")
    exchange_rate: Amount | None = None
    order_date: dt.date | None = None
    required_date: dt.date | None = None
    delivery_date: dt.date | None = None
    payment_terms: TermsGiven | None = None
    incoterm: Text | None = None
    freight_type: Text | None = None
    ship_to: Address | None = None
    bill_to: Address | None = None
    discount_total: Amount | None = None
    freight_total: Amount | None = None
    notes: Text | None = None
    custom_fields: CustomFields = Field(default={}, description=OWN_FIELDS)


class CommandHead(Value):
    """What every command says."""

    command_id: CommandId = Field(description="Your own id: the same one twice is one command.")
    connection_id: Text = Field(description="Whose ERP: `con_...`.")
    external_reference: Reference | None = Field(
        default=None, description="Your own key of the order; a new order keeps it where its system has a place for it."
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="Not done any more after this; a setting says how long when it is left out."
    )
    dry_run: bool = Field(default=False, description="Check it and say what would be sent; write nothing.")


class OfOrder(CommandHead):
    """A command for an order that is there."""

    remote_id: RemoteId = Field(description="The order's key in its ERP, as in events.")
    expected_version: Text | None = Field(
        default=None, description="The order's `remote_version` that you saw; another one now is a conflict."
    )


Lines = Annotated[tuple[LineGiven, ...], Field(min_length=1, max_length=MOST_LINES)]
ChangedLines = Annotated[tuple[LineChanged, ...], Field(min_length=1, max_length=MOST_LINES)]


class Create(CommandHead):
    """A new order, with its lines in one step."""

    type: Literal[CommandType.CREATE]
    order: OrderGiven
    lines: Lines


class Update(OfOrder):
    """Other values in the order's header, and in lines that are there, in one step."""

    type: Literal[CommandType.UPDATE]
    order: OrderGiven = Field(default_factory=OrderGiven)
    lines: Annotated[tuple[LineChanged, ...], Field(max_length=MOST_LINES)] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.order.model_fields_set and not self.lines:
            raise ValueError("it changes nothing: give fields in `order`, or `lines`")
        return self


class AddLines(OfOrder):
    """More lines."""

    type: Literal[CommandType.ADD_LINES]
    lines: Lines


class UpdateLines(OfOrder):
    """Other values in lines that are there."""

    type: Literal[CommandType.UPDATE_LINES]
    lines: ChangedLines


class CancelLines(OfOrder):
    """Lines that are not wanted any more, by their `remote_id`."""

    type: Literal[CommandType.CANCEL_LINES]
    lines: Annotated[tuple[RemoteId, ...], Field(min_length=1, max_length=MOST_LINES)] = Field(
        description="The lines' keys in the ERP."
    )


class Cancel(OfOrder):
    """The whole order is not wanted any more."""

    type: Literal[CommandType.CANCEL]
    reason: Text | None = Field(default=None, description="Kept where the system has a place for it.")


class Close(OfOrder):
    """Nothing more is expected of the order."""

    type: Literal[CommandType.CLOSE]
    reason: Text | None = Field(default=None, description="Kept where the system has a place for it.")


class Approve(OfOrder):
    """The order is approved."""

    type: Literal[CommandType.APPROVE]


class Reject(OfOrder):
    """The order is not approved."""

    type: Literal[CommandType.REJECT]
    reason: Text | None = Field(default=None, description="Kept where the system has a place for it.")


Command: TypeAlias = Create | Update | AddLines | UpdateLines | CancelLines | Cancel | Close | Approve | Reject
COMMAND: Final[TypeAdapter[Command]] = TypeAdapter(Annotated[Command, Field(discriminator="type")])


class BadCommand(UserError):
    """A command that nobody can work with: `field` says where, the text what to change; no value is quoted."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def read_command(given: Any) -> Command:
    """The command in parsed JSON; numbers with a fraction must be text there. Raises BadCommand."""
    try:
        return COMMAND.validate_python(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        if first["type"].startswith("union_tag"):
            raise BadCommand(f"type: expected one of {', '.join(CommandType)}", field="type") from None
        # The first step is the type, which pydantic puts before the field's own path.
        place = first["loc"][1:] if len(first["loc"]) > 1 else first["loc"]
        path = ".".join(map(str, place))
        raise BadCommand(f"{path}: {first['msg'].removeprefix('Value error, ')}", field=path) from None


def command_key(connection_id: str, command_id: str) -> str:
    """Relay's own id of a command; the same for the same command, whichever way and however often it comes."""
    return "cmd_" + hashlib.sha256(orjson.dumps([connection_id, command_id])).hexdigest()[:32]


def mark(command: Command) -> str:
    """The key under which a new order is found again in its ERP: the sender's reference, or else one of 15 letters."""
    if command.external_reference:
        return command.external_reference
    key = command_key(command.connection_id, command.command_id).removeprefix("cmd_")
    return MARK + base64.b32encode(bytes.fromhex(key))[:12].decode().lower()


def lane(command: Command) -> str:
    """Commands of one lane are done one after the other: those of one order, and each new order by itself."""
    match command:
        case Create():
            return command_key(command.connection_id, command.command_id)
        case _:
            return command.remote_id


def given(value: Value, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every field that was given, in the model's order; custom fields as `custom_fields.NAME`.

    A line's own `remote_id` says which line is meant, and is no field.
    """
    for name in type(value).model_fields:
        if name not in value.model_fields_set or (name == "remote_id" and not prefix):
            continue
        inner, path = getattr(value, name), f"{prefix}{name}"
        if isinstance(inner, Value):
            yield from given(inner, f"{path}.")
        elif name == "custom_fields":
            yield from ((f"{path}.{each}", content) for each, content in inner.items())
        else:
            yield path, inner
