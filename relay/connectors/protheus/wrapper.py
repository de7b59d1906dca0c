"""What a person says about the way into one Protheus: the customer's endpoint around MATA120, or the EAI's `Order`.

    routes (path, method) per operation, the shape of the body, columns as SX3 has them, how an answer is understood

Nothing here is code: another customer's wrapper is another declaration.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from relay.domain.commands import CommandType
from relay.domain.results import RefusalReason

OBS: Final = "C7_OBS"
OBS_LENGTH: Final = 30
SHORTEST_MARK: Final = 15
"""Characters of the key that relay makes for an order whose sender gave no reference."""
EAI_PATH: Final = "/totvseai/standardmessage/v1/contents/Order_4_009"
_PLACES: Final = ("{branch}", "{number}", "{remote_id}")

OwnColumn = Annotated[str, StringConstraints(to_upper=True, pattern=r"^C7_[A-Z0-9_]{1,12}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]
Steps = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x20\x7f]+$")]
"""Where a value is in JSON: `Content.Numbers.0.Value`."""
Scalar = str | int | bool | None


def _known_places(path: str) -> str:
    rest = path
    for place in _PLACES:
        rest = rest.replace(place, "")
    if "{" in rest or "}" in rest:
        raise ValueError(f"a path may hold {', '.join(_PLACES)} and no other braces")
    return path


class Declared(BaseModel):
    """A part of the declaration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Route(Declared):
    """One operation's call. `{number}`, `{branch}` and `{remote_id}` in its path are the order's."""

    path: Annotated[str, StringConstraints(max_length=300, pattern=r"^/[!-~]*$"), AfterValidator(_known_places)]
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    fields: dict[Name, JsonValue] = Field(default={}, max_length=50, description="Fields that every such call carries.")
    reason: Name | None = Field(default=None, description="The field that carries the command's reason.")


class ColumnDeclared(Declared):
    """A column as SX3 describes it here; what is left out stays as it usually is."""

    type: Literal["C", "N", "D", "L"] | None = None
    length: int | None = Field(default=None, ge=1, le=1000)
    decimals: int | None = Field(default=None, ge=0, le=12)
    required: bool | None = None
    allowed: tuple[Name, ...] = Field(default=(), max_length=200, description="X3_CBOX: the only values it takes.")
    create: bool | None = None
    update: bool | None = None
    line: bool = Field(default=False, description="Of a customer's own column: whether each line has its own value.")


class Answer(Declared):
    """How an answer is understood. What is left out is as the shape usually has it."""

    number: Steps | None = Field(default=None, description="Where a new order's number is.")
    status: Steps | None = Field(default=None, description="Where the wrapper says whether it was done.")
    done: tuple[Name, ...] = Field(default=("200", "201", "OK"), max_length=20, description="What it says then.")
    said: tuple[Steps, ...] = Field(
        default=(), max_length=10, description="Where its words are, before the usual ones."
    )


class Phrase(Declared):
    """Words by which this ERP says no: what they mean. Case and accents do not count."""

    says: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200)]
    reason: RefusalReason = RefusalReason.VALIDATION
    column: OwnColumn | None = None


class Wrapper(Declared):
    """The way into one Protheus."""

    shape: Literal["flat", "execauto", "eai"] = Field(description="How its bodies look.")
    create: Route | None = None
    change: Route | None = None
    cancel: Route | None = None
    close: Route | None = None
    approve: Route | None = None
    reject: Route | None = None
    names: dict[OwnColumn, Name] = Field(default={}, description="Flat: other names of columns in the body.")
    lines: Name = Field(default="ITENS", description="Flat: the name of the list of lines.")
    away: tuple[Name, Scalar] = Field(default=("AUTODELETA", "S"), description="Flat: what takes a line away.")
    header_fields: dict[Name, JsonValue] = Field(default={}, description="Fields that every header carries.")
    line_fields: dict[Name, JsonValue] = Field(default={}, description="Fields that every line carries.")
    numbers: Literal["number", "text"] = "number"
    dates: Literal["YYYYMMDD", "YYYY-MM-DD", "DD/MM/YYYY"] = "YYYYMMDD"
    charset: Literal["utf-8", "cp1252"] = "utf-8"
    every_line: bool = Field(default=False, description="Send all lines with every change, not only those it is about.")
    shared: bool = Field(default=False, description="SC7 is shared: C7_FILIAL is blank.")
    columns: dict[OwnColumn, ColumnDeclared] = Field(default={}, max_length=300)
    mark: OwnColumn | None = Field(default=OBS, description="The column that keeps a new order's own key.")
    answer: Answer = Answer()
    refusals: tuple[Phrase, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _stands(self) -> Self:
        if not any(self.route(each) for each in CommandType):
            raise ValueError("it has no operation: give create, change or cancel a path")
        if self.create and any(place in self.create.path for place in ("{number}", "{remote_id}")):
            raise ValueError("create: a new order has no number yet, so its path cannot hold it")
        if self.mark and self.mark != OBS and not self.declared(self.mark).length:
            raise ValueError(f"columns: say how long {self.mark} is, which keeps the mark")
        if self.mark and self.mark_length < SHORTEST_MARK:
            raise ValueError(f"mark: {self.mark} is too short for a key of {SHORTEST_MARK} characters")
        return self

    @property
    def mark_length(self) -> int:
        """Characters that the column of the mark holds."""
        return self.declared(self.mark).length or OBS_LENGTH if self.mark else 0

    def declared(self, column: str) -> ColumnDeclared:
        """What is said of a column."""
        return self.columns.get(column, ColumnDeclared())

    def route(self, type: CommandType) -> Route | None:  # noqa: A002 - the command's own word
        """The call that does it; None: this way in has none."""
        match type:
            case CommandType.CREATE:
                return self.create or self._message
            case CommandType.CANCEL:
                return self.cancel or self._message
            case CommandType.CLOSE:
                return self.close
            case CommandType.APPROVE:
                return self.approve
            case CommandType.REJECT:
                return self.reject
            case _:
                return self.change or self._message

    @property
    def _message(self) -> Route | None:
        # One message includes, changes and deletes.
        named = self.create or self.change or self.cancel
        return (named or Route(path=EAI_PATH)) if self.shape == "eai" else None

    def column_name(self, column: str) -> str:
        """A column's name in a flat body."""
        return self.names.get(column, column)


_ORDERS: Final = Route(path="/pedidos")
EVERYTHING: Final = Wrapper(
    shape="flat", create=_ORDERS, change=_ORDERS, cancel=_ORDERS, close=_ORDERS, approve=_ORDERS, reject=_ORDERS
)
"""A way in that has every operation: with it the connector is shown."""
NUMBER_AT: Final = {
    "flat": "C7_NUM",
    "execauto": "C7_NUM",
    "eai": "Content.ReturnContent.ListOfInternalId.0.Destination",
}
STATUS_AT: Final = {"flat": "Status", "execauto": "Status", "eai": "Content.ProcessingInformation.Status"}


def at(content: Any, steps: str) -> Any:
    """The value at these steps of JSON; None when it is not there."""
    for step in steps.split("."):
        if isinstance(content, list) and step.isdecimal() and int(step) < len(content):
            content = content[int(step)]
        elif isinstance(content, dict):
            content = content.get(step)
        else:
            return None
    return content
