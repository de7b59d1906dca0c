"""The canonical purchase order: what every connector gives, whatever the ERP.

    PurchaseOrder ── lines[] ── schedules[]
         └ OrderDocument: the same with relay's own identity; the value on the state topic and in events

Money and quantities are `Decimal` and travel as strings; dates without a zone stay dates; a field that the system
cannot give is listed in `field_presence`, so that null never means two things. The source's own names and values are
kept beside the canonical ones (`*_raw`, `custom_fields`), so nothing the ERP says is dropped.
"""

import datetime as dt
import hashlib
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StrictBool,
    StringConstraints,
    field_validator,
)

Tree: TypeAlias = dict[str, Any]
"""A JSON-shaped purchase order: what `diff` compares and snapshots hold."""

VOLATILE = frozenset({"remote_updated_at", "remote_version", "field_presence", "raw"})
"""Fields that may move without the order having changed: outside the content hash and the diff."""


def _no_float(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("floats are not exact: give a Decimal or its text")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def _plain(value: Decimal) -> str:
    return format(value, "f")


Amount = Annotated[
    Decimal,
    BeforeValidator(_no_float),
    PlainSerializer(_plain, return_type=str, when_used="json"),
    Field(max_digits=30, decimal_places=12),
]
"""Money or quantity with the source's own precision: "1.2500" stays "1.2500"."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
RemoteId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A system's own key; composite keys are joined by `|`."""


class Status(StrEnum):
    """Where an order stands. A source value outside the map is OTHER, with the original in `status_raw`."""

    DRAFT = "draft"
    PENDING_APPROVAL = "pending_approval"
    REJECTED = "rejected"
    APPROVED = "approved"
    PARTIALLY_RECEIVED = "partially_received"
    RECEIVED = "received"
    CLOSED = "closed"
    ON_HOLD = "on_hold"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    OTHER = "other"


class OrderType(StrEnum):
    """What kind of purchase order it is."""

    STANDARD = "standard"
    BLANKET = "blanket"
    CONTRACT_RELEASE = "contract_release"
    SERVICE = "service"
    RETURN = "return"
    OTHER = "other"


class ApprovalStatus(StrEnum):
    """Where the approval stands."""

    NOT_REQUIRED = "not_required"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class ReceiptStatus(StrEnum):
    """How much has been received."""

    NONE = "none"
    PARTIAL = "partial"
    FULL = "full"
    CLOSED_SHORT = "closed_short"


class InvoiceStatus(StrEnum):
    """How much has been invoiced."""

    NONE = "none"
    PARTIAL = "partial"
    FULL = "full"


class LineStatus(StrEnum):
    """Where a line stands."""

    OPEN = "open"
    PARTIALLY_RECEIVED = "partially_received"
    RECEIVED = "received"
    INVOICED = "invoiced"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    OTHER = "other"


class Value(BaseModel):
    """A frozen part of the model. Its errors quote nothing: tracebacks reach the log, payloads must not."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Named(Value):
    """A company or branch."""

    remote_id: Text
    name: Text | None = None


class Vendor(Value):
    """Who sells. Systems with a store or site beside the code put it in `site_code` (Protheus: C7_LOJA)."""

    remote_id: Text
    code: Text | None = None
    site_code: Text | None = None
    name: Text | None = None
    tax_id: Text | None = None
    tax_id_type: Text | None = None


class PaymentTerms(Value):
    """How it is paid."""

    remote_id: Text
    code: Text | None = None
    description: Text | None = None


class Address(Value):
    """Where goods or bills go; `country` is ISO 3166-1 alpha-2."""

    name: Text | None = None
    line1: Text | None = None
    line2: Text | None = None
    line3: Text | None = None
    city: Text | None = None
    region: Text | None = None
    postal_code: Text | None = None
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = None
    location_code: Text | None = None


class Item(Value):
    """What is bought."""

    remote_id: Text | None = None
    code: Text | None = None
    vendor_code: Text | None = None
    description: Text | None = None


class Schedule(Value):
    """A dated part of a line's quantity."""

    remote_id: RemoteId
    quantity: Amount | None = None
    date: dt.date | None = None
    received_quantity: Amount | None = None


# The limit also makes pydantic look inside: text that UTF-8 cannot carry would break the content hash.
CustomText = Annotated[str, StringConstraints(max_length=1_000_000)]
CustomFields = dict[CustomText, CustomText | StrictBool | None]
"""Source name -> value; numbers as decimal text, dates as ISO text. A bare number is refused, never read as a truth."""


def _natural(part: "Line | Schedule") -> tuple[int, str]:
    # Ids that are numbers sort as numbers ("9" before "10"), padded ones as text: one rule for every system.
    return len(part.remote_id), part.remote_id


class Line(Value):
    """One line, known by the system's own id, never by its position."""

    remote_id: RemoteId
    line_number: Text | None = None
    status: LineStatus = LineStatus.OPEN
    item: Item = Item()
    quantity: Amount | None = None
    unit: Text | None = Field(default=None, description="UN/ECE Recommendation 20 code, or null when unmapped.")
    unit_raw: Text | None = None
    unit_price: Amount | None = None
    price_per: Amount | None = Field(default=None, description="Base quantity of the price; null means 1.")
    discount: Amount | None = None
    tax: Amount | None = None
    amount: Amount | None = None
    required_date: dt.date | None = None
    promised_date: dt.date | None = None
    warehouse: Text | None = None
    cost_center: Text | None = None
    account: Text | None = None
    project: Text | None = None
    received_quantity: Amount | None = None
    invoiced_quantity: Amount | None = None
    cancelled_quantity: Amount | None = None
    open_quantity: Amount | None = None
    schedules: tuple[Schedule, ...] = ()
    source_request: Text | None = None
    remote_was_deleted: bool = False
    custom_fields: CustomFields = {}

    @field_validator("schedules")
    @classmethod
    def _sorted_schedules(cls, parts: tuple[Schedule, ...]) -> tuple[Schedule, ...]:
        return _known_by_id(parts, "schedules")


class PurchaseOrder(Value):
    """A whole purchase order as a connector gives it. Lines are kept in the order of their ids."""

    remote_id: RemoteId
    number: Text | None = None
    revision: Text | None = None
    type: OrderType = OrderType.STANDARD
    status: Status
    status_raw: Text | None = None
    approval_status: ApprovalStatus | None = None
    receipt_status: ReceiptStatus | None = None
    invoice_status: InvoiceStatus | None = None
    company: Named | None = None
    branch: Named | None = None
    vendor: Vendor | None = None
    buyer: Text | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = Field(
        default=None, description="ISO 4217, or null when the source's code is not mapped (see currency_raw)."
    )
    currency_raw: Text | None = None
    exchange_rate: Amount | None = None
    order_date: dt.date | None = None
    required_date: dt.date | None = None
    delivery_date: dt.date | None = None
    payment_terms: PaymentTerms | None = None
    incoterm: Text | None = None
    freight_type: Text | None = None
    ship_to: Address | None = None
    bill_to: Address | None = None
    subtotal: Amount | None = None
    discount_total: Amount | None = None
    tax_total: Amount | None = None
    freight_total: Amount | None = None
    total: Amount | None = None
    notes: Text | None = None
    lines: tuple[Line, ...] = ()
    custom_fields: CustomFields = {}
    remote_created_at: AwareDatetime | None = None
    remote_updated_at: AwareDatetime | None = None
    remote_was_deleted: bool = False
    remote_version: Text | None = Field(default=None, description="ETag, _timestamp or row stamp.")
    field_presence: tuple[str, ...] = Field(
        default=(), description="Fields that this system cannot give: null there means unsupported, not empty."
    )
    raw: JsonValue = Field(default=None, description="The source records, when the connection asks for them.")

    @field_validator("raw")
    @classmethod
    def _storable(cls, raw: JsonValue) -> JsonValue:
        try:
            orjson.dumps(raw)
        except TypeError as error:
            # Half a surrogate, say: it would break the event later, and its page with it.
            raise ValueError(f"the source record cannot be told as JSON: {error}") from None
        return raw

    @field_validator("lines")
    @classmethod
    def _sorted_lines(cls, parts: tuple[Line, ...]) -> tuple[Line, ...]:
        return _known_by_id(parts, "lines")

    def tree(self) -> Tree:
        """The order as JSON-shaped values, volatile fields left out: what is hashed and compared."""
        return self.model_dump(mode="json", exclude=set(VOLATILE))

    def deleted(self) -> "PurchaseOrder":
        """The same order, gone from its system."""
        return self.model_copy(update={"status": Status.DELETED, "remote_was_deleted": True})


class OrderDocument(PurchaseOrder):
    """A purchase order with relay's own identity: the value of the state topic, and `data.order` of an event."""

    id: Text = Field(description="Stable for ever: derived from the connection and the remote id.")
    connection_id: Text
    customer_id: Text
    sequence: int = Field(ge=1, description="Number of the order's latest change event, without gaps from 1.")
    content_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    first_seen_at: AwareDatetime
    observed_at: AwareDatetime


def _known_by_id(parts: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    if len({part.remote_id for part in parts}) != len(parts):
        raise ValueError(f"two {what} share one remote_id")
    return tuple(sorted(parts, key=_natural))


def content_hash(tree: Tree) -> str:
    """SHA-256 (hex) of the canonical JSON of an order's tree."""
    return hashlib.sha256(orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)).hexdigest()


def order_key(connection_id: str, remote_id: str) -> str:
    """The Kafka key of everything about one purchase order."""
    return f"{connection_id}|{remote_id}"


def order_id(connection_id: str, remote_id: str) -> str:
    """The order's stable id in relay."""
    return "po_" + hashlib.sha256(order_key(connection_id, remote_id).encode()).hexdigest()[:32]
