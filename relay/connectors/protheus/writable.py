"""What one Protheus takes, by field and by command: MATA120's own rules, as far as the wrapper lets them through.

The columns are those that are read (`mapping.py`): one table for both ways. A wrapper's declaration narrows it (its
shape, its routes, columns that are not there) and says what SX3 says here: lengths, decimals, allowed values, columns
of the customer's own.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from relay.connectors.kit.mapping import LINES, FieldType, Writable
from relay.connectors.protheus.codes import CURRENCIES, Codes
from relay.connectors.protheus.mapping import FREIGHT, header_rules, line_rules
from relay.connectors.protheus.settings import ProtheusSettings
from relay.connectors.protheus.wrapper import OBS, OBS_LENGTH, ColumnDeclared
from relay.domain.capabilities import Capabilities, CommandCapability, FieldCapability
from relay.domain.commands import CommandType
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import Status

CUSTOM: Final = "custom_fields."
_ALWAYS: Final = Writable(required=True, until=Status.APPROVED)
_WHILE_OPEN: Final = Writable(until=Status.APPROVED)

WRITABLE: Final[Mapping[str, Writable]] = {
    **dict.fromkeys(("order_date", "vendor.code"), Writable(required=True)),
    **dict.fromkeys(("vendor.remote_id", "vendor.site_code", "currency", "currency_raw", "exchange_rate"), Writable()),
    "payment_terms.code": _ALWAYS,
    **dict.fromkeys(("payment_terms.remote_id", "ship_to.location_code", "freight_type", "notes"), _WHILE_OPEN),
    "lines[].item.code": Writable(required=True),
    "lines[].item.remote_id": Writable(),
    "lines[].item.description": _WHILE_OPEN,
    **dict.fromkeys(("lines[].quantity", "lines[].unit_price"), _ALWAYS),
    **dict.fromkeys(("lines[].required_date", "lines[].warehouse", "lines[].cost_center"), _WHILE_OPEN),
    **dict.fromkeys(("lines[].account", "lines[].discount"), _WHILE_OPEN),
}
"""What MATA120 takes, as far as it is known: a change is refused once something of the order was received."""

_MADE: Final = {"currency": "C7_MOEDA", "notes": OBS}
"""Columns of fields that are made of several values, or of a code."""
KEYS: Final = {
    "vendor.remote_id": "C7_FORNECE",
    "payment_terms.remote_id": "C7_COND",
    "lines[].item.remote_id": "C7_PRODUTO",
}
"""Columns of the system's own keys, which say the same as the codes: a vendor's is `code|store`."""
REFERENCES: Final = {"C7_FORNECE": "vendors", "C7_COND": "payment terms", "C7_PRODUTO": "products"}
EAI_COLUMNS: Final = frozenset(
    (
        *("C7_EMISSAO", "C7_FORNECE", "C7_LOJA", "C7_COND", "C7_TPFRETE", OBS),
        *("C7_PRODUTO", "C7_DESCRI", "C7_QUANT", "C7_PRECO", "C7_VLDESC", "C7_CC", "C7_DATPRF", "C7_LOCAL"),
    )
)
"""The columns that the message `Order` has a field for; a customer's own ride along in its header."""
_TYPES: Final[Mapping[str, FieldType]] = {"C": "text", "N": "amount", "D": "date", "L": "boolean"}

BEFORE_RECEIPT: Final = (Status.PENDING_APPROVAL, Status.REJECTED, Status.APPROVED)
_OPEN: Final = (*BEFORE_RECEIPT, Status.PARTIALLY_RECEIVED)
_TAKEN_IN: Final[Mapping[CommandType, tuple[Status, ...]]] = {
    CommandType.CREATE: (),
    CommandType.CLOSE: _OPEN,
    CommandType.APPROVE: (Status.PENDING_APPROVAL, Status.REJECTED),
    CommandType.REJECT: (Status.PENDING_APPROVAL,),
}
_UNTOUCHED: Final = "Until something of the order was received, pre-received or eliminated"
_NOTES: Final[Mapping[CommandType, str]] = {
    CommandType.CREATE: "All of it in one call of MATA120, by the way in that the setting `writing` declares",
    CommandType.CANCEL: "MATA120 deletes the order: all its rows are marked, and it is read as deleted",
    CommandType.CLOSE: "Where a wrapper of the customer's own is declared: what is still open is eliminated",
    CommandType.APPROVE: "Where a wrapper of the customer's own is declared: the approval is released",
    CommandType.REJECT: "Where a wrapper of the customer's own is declared: the approval is refused",
}


class Table:
    """Which canonical field goes into which column of one Protheus, and what it takes there."""

    def __init__(self, settings: ProtheusSettings, own: MappingOverrides) -> None:
        self._settings = settings
        self._wrapper = settings.writing
        self._codes = Codes(own)
        rules = {rule.path: rule for rule in (*header_rules(own), *line_rules(own))}
        read = {path: rule.source for path, rule in rules.items() if path in WRITABLE.keys() - KEYS.keys()}
        self.columns: dict[str, str] = read | _MADE | KEYS | dict(self._customers())
        """Column by canonical path."""
        self.paths: dict[str, str] = {column: path for path, column in reversed(self.columns.items())}
        """Canonical path by column, the first of several."""
        self._decimals = {rule.source: rule.reader.decimals for rule in rules.values()}

    def is_number(self, column: str) -> bool:
        """Whether a column holds numbers."""
        declared = self._declared(column).type
        return declared == "N" if declared else self._decimals.get(column) is not None or column == "C7_MOEDA"

    def capabilities(self, known: Capabilities) -> Capabilities:
        """The same with what is written, and how."""
        fields = [self._field(each) for each in known.fields]
        there = {each.path for each in fields}
        unread = (
            FieldCapability(path=path, source=column, rule="own column", readable=False)
            for path, column in self._customers()
            if path not in there
        )
        fields += [self._field(each) for each in unread]
        return known.model_copy(update={"fields": tuple(fields), "commands": tuple(self._commands())})

    def _field(self, known: FieldCapability) -> FieldCapability:
        column = self.columns.get(known.path)
        if column is None:
            return self._branch(known) if known.path == "branch.remote_id" else known
        rule = self._rule(known.path, column)
        declared = self._declared(column)
        changes = {
            "creatable": rule.create,
            "required": rule.create and rule.required,
            "updatable": rule.until is not None,
            "updatable_until": rule.until,
            "type": _TYPES[declared.type] if declared.type else known.type,
            "max_length": declared.length or known.max_length,
            "decimals": known.decimals if declared.decimals is None else declared.decimals,
            "allowed": declared.allowed,
            "reference": REFERENCES.get(column),
        }
        return known.model_copy(update=changes | self._coded(known.path, declared))

    def _coded(self, path: str, declared: ColumnDeclared) -> dict[str, object]:
        """What differs where the canonical value is another text than the column's."""
        match path:
            case "freight_type":
                codes = declared.allowed or tuple(FREIGHT)
                return {"max_length": None, "allowed": tuple(FREIGHT.get(each, each) for each in codes)}
            case "currency":
                return {
                    "max_length": None,
                    "allowed": tuple(sorted({*CURRENCIES.values(), *self._codes.own.currencies.values()})),
                }
            case "vendor.remote_id":
                return {"max_length": None}
            case "notes":
                return {"max_length": declared.length or OBS_LENGTH}
            case _:
                return {}

    def _rule(self, path: str, column: str) -> Writable:
        """MATA120's rule, as far as this connection's wrapper lets it through."""
        declared = self._declared(column)
        usual = WRITABLE.get(path, _WHILE_OPEN)
        create = usual.create if declared.create is None else declared.create
        update = usual.until is not None if declared.update is None else declared.update
        required = usual.required if declared.required is None else declared.required
        if column in self._settings.absent_columns or not self._carried(path, column):
            return Writable(create=False)
        if self._wrapper:
            create = create and self._wrapper.route(CommandType.CREATE) is not None
            update = update and self._wrapper.route(CommandType.UPDATE) is not None
        return Writable(create, required, (usual.until or Status.APPROVED) if update else None)

    def _carried(self, path: str, column: str) -> bool:
        if self._wrapper is None or self._wrapper.shape != "eai":
            return True
        return not path.startswith(LINES) if CUSTOM in path else column in EAI_COLUMNS

    def _branch(self, known: FieldCapability) -> FieldCapability:
        """A new order is of the tenant's branch, or of any when all are read."""
        creates = self._wrapper is not None and self._wrapper.route(CommandType.CREATE) is not None
        own = self._settings.branch
        allowed = (own,) if own and creates and not self._settings.all_branches else ()
        return known.model_copy(update={"creatable": creates, "allowed": allowed})

    def _commands(self) -> Iterator[CommandCapability]:
        for type_ in CommandType:
            if self._wrapper and self._wrapper.route(type_):
                yield CommandCapability(
                    type=type_, statuses=tuple(self._statuses(type_)), note=_NOTES.get(type_, _UNTOUCHED)
                )

    def _statuses(self, type_: CommandType) -> Iterable[Status]:
        # A code that the mapping gives another status is still the ERP's code: B is blocked, whatever it is called.
        usual = _TAKEN_IN.get(type_, BEFORE_RECEIPT)
        blocked = {Status.PENDING_APPROVAL: "B", Status.REJECTED: "R", Status.APPROVED: "L"}
        renamed = (self._codes.statuses[blocked[each]] for each in usual if each in blocked)
        return dict.fromkeys((*usual, *renamed))

    def _customers(self) -> Iterator[tuple[str, str]]:
        """Columns of the customer's own that the wrapper takes."""
        standard = {rule.source for rule in (*header_rules(_USUAL), *line_rules(_USUAL))} | {*_MADE.values()}
        for column, declared in (self._wrapper.columns if self._wrapper else {}).items():
            if column not in standard and self._wrapper and column != self._wrapper.mark:
                yield f"{LINES if declared.line else ''}{CUSTOM}{column}", column

    def _declared(self, column: str) -> ColumnDeclared:
        return self._wrapper.declared(column) if self._wrapper else _UNDECLARED


_UNDECLARED: Final = ColumnDeclared()
_USUAL: Final = MappingOverrides()
