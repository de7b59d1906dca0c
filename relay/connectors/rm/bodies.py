"""Bodies of RM's requests, from commands: which field of the contract each canonical one goes to, and as what.

    Create                                          -> MovementType: header and lines
    Update, AddLines, UpdateLines, CancelLines      -> MovementUpdateType: the movement as it was just read, changed

A change holds everything that may be changed as RM has it now, lines too: installations differ in what becomes of what
is left out. `places` says which line of the command each line of the body is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.connectors.kit.mapping import Rule
from relay.connectors.kit.units import BRAZILIAN
from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.codes import COMPLEMENTARY, CURRENCIES
from relay.connectors.rm.contract import (
    COMPUTED,
    COMPUTED_OF_ITEM,
    ITEM,
    MOVEMENT,
    MOVEMENT_UPDATE,
    SET_ONCE,
    Properties,
)
from relay.connectors.rm.kept import PRODUCT, changed_line, is_kept, merged, stays
from relay.connectors.rm.settings import RmSettings
from relay.connectors.rm.spelling import spelt
from relay.connectors.rm.values import emptied, exact, wired
from relay.domain.commands import AddLines, CancelLines, Create, LineGiven, OrderGiven, Update, UpdateLines, given, mark
from relay.domain.mapping import MappingOverrides, ReaderName
from relay.domain.orders import Value
from relay.domain.results import Refusal, RefusalReason, WriteRefused

Body = dict[str, Any]
Changing = Update | AddLines | UpdateLines | CancelLines

NEW_ID: Final = -1
"""What RM calls a movement that has no id yet."""
OPEN: Final = "A"
_CUSTOM: Final = "custom_fields."
_VENDOR: Final = ("CustomerVendorCompanyId", "CustomerVendorCode")
_WHOLE: Final[Mapping[str, tuple[str, ...]]] = {
    "vendor": _VENDOR,
    "payment_terms": ("PaymentTermCode",),
    "branch": ("BranchId",),
    "ship_to": ("DeliveryWarehouseCode",),
    "item": PRODUCT,
}
"""Objects that a command may empty as a whole."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A body, and which line of the command each of its lines is, by its place."""

    body: Body
    places: Mapping[int, int] = field(default_factory=dict)


@dataclass
class _Part:
    """A header or a line in the making: its fields so far, and what is wrong with it."""

    place: str
    properties: Properties
    fields: Body = field(default_factory=dict)
    wrong: list[Refusal] = field(default_factory=list)

    def refuse(self, path: str, rule: str, fix: str, reason: RefusalReason = RefusalReason.VALIDATION) -> None:
        name = self.place + path
        self.wrong.append(Refusal(reason=reason, field=name, message=f"{name} {rule}", fix=fix))


class Drafting:
    """Makes bodies as one connection's settings and mapping say."""

    def __init__(self, settings: RmSettings, own: MappingOverrides) -> None:
        self._settings = settings
        self._own = own
        rules = (*fields_of.header_rules(own), *fields_of.line_rules(own))
        self._sources = {rule.path: rule.source for rule in rules if _is_plain(rule)}
        self._symbols = {code: symbol for symbol, code in reversed([*own.currencies.items(), *CURRENCIES.items()])}
        self._units = {code: unit for unit, code in reversed([*own.units.items(), *BRAZILIAN.items()])}

    def created(self, command: Create, spelling: str) -> Drafted:
        """The body of a new movement. Raises WriteRefused with everything that is wrong."""
        header = self._header(command.order, MOVEMENT)
        kept_in = self._settings.reference_field
        if kept_in and kept_in in header.fields:
            header.refuse(f"{_CUSTOM}{kept_in}", "keeps the order's own key in this connection", "Leave it out")
        type_code = header.fields.get(fields_of.TYPE) or self._settings.type_of_new
        if type_code not in self._settings.purchase_types:
            header.refuse(
                f"{_CUSTOM}{fields_of.TYPE}",
                "must say of which movement type the new order is",
                f"Give one of {', '.join(sorted(self._settings.purchase_types))}, or set `create_type`",
            )
        lines = [self._line(line, f"lines[{place}].") for place, line in enumerate(command.lines)]
        _raise(header, *lines)
        company = self._settings.company
        own: Body = {kept_in: mark(command)} if kept_in else {}
        body: Body = {
            "InternalId": f"{company}|{NEW_ID}",
            "CompanyId": company,
            "MovementId": NEW_ID,
            "Status": OPEN,
            "AplicationIntegration": self._settings.integration,
            **header.fields,
            fields_of.TYPE: type_code,
            **own,
            fields_of.ITEMS: [line.fields for line in lines],
        }
        return Drafted(spelt(body, spelling), {place: place for place in range(len(lines))})

    def changed(self, command: Changing, record: Mapping[str, Any], spelling: str) -> Drafted:
        """The body of a change to a movement as it was just read. Raises WriteRefused with everything that is wrong."""
        header = self._header(command.order, MOVEMENT_UPDATE) if isinstance(command, Update) else None
        items, places, lines = self._items(command, record)
        _raise(*([header] if header else []), *lines)
        kept = {name: record[name] for name in MOVEMENT_UPDATE if stays(record.get(name)) and name not in COMPUTED}
        body = {
            "InternalId": f"{record['CompanyId']}|{record['MovementId']}",
            "CompanyId": record["CompanyId"],
            "MovementId": record["MovementId"],
            "Status": record.get("Status"),
            "AplicationIntegration": record.get("AplicationIntegration") or self._settings.integration,
            **kept,
            **merged(kept, header.fields if header else {}),
            fields_of.ITEMS: items,
        }
        return Drafted(spelt(body, spelling), places)

    def _items(self, command: Changing, record: Mapping[str, Any]) -> tuple[list[Body], dict[int, int], list[_Part]]:
        """The lines as they are to be, the command's own among them by place, and the command's lines as parts."""
        known = [{name: value for name, value in each.items() if is_kept(name, value)} for each in record["Items"]]
        match command:
            case CancelLines():
                left = [each for each in known if str(each[fields_of.LINE_ID]) not in command.lines]
                if not left:
                    message = "no line would be left, and an order has at least one"
                    fix = "Cancel the order instead"
                    raise WriteRefused([Refusal(reason=_VALIDATION, field="lines", message=message, fix=fix)])
                return left, {}, []
            case AddLines():
                parts = [self._line(line, f"lines[{place}].") for place, line in enumerate(command.lines)]
                places = {len(known) + place: place for place in range(len(parts))}
                return [*known, *(part.fields for part in parts)], places, parts
            case _:
                parts = [self._line(line, f"lines[{place}].") for place, line in enumerate(command.lines)]
                changes = {line.remote_id: place for place, line in enumerate(command.lines)}
                ids = [str(each[fields_of.LINE_ID]) for each in known]
                items = [
                    changed_line(each, parts[changes[name]].fields) if name in changes else each
                    for name, each in zip(ids, known, strict=True)
                ]
                return items, {at: changes[name] for at, name in enumerate(ids) if name in changes}, parts

    def _header(self, order: OrderGiven, properties: Properties) -> _Part:
        part = _Part("", properties)
        for path, value in given(order):
            match path:
                case "type":
                    continue
                case "vendor.remote_id":
                    self._add_vendor(part, value)
                case "vendor.code":
                    part.fields[_VENDOR[1]] = value
                    part.fields.setdefault(_VENDOR[0], self._settings.vendor_company)
                case "currency":
                    self._add_code(part, path, "NetValueCurrencyCode", value, self._symbols)
                case _:
                    self._add(part, path, value, order)
        return part

    def _line(self, line: LineGiven, place: str) -> _Part:
        part = _Part(place, ITEM)
        for path, value in given(line):
            if path == "unit":
                self._add_code(part, path, "MeasureUnitCode", value, self._units)
            else:
                self._add(part, path, value, line)
        return part

    def _add(self, part: _Part, path: str, value: Any, said: Value) -> None:
        """One field that goes to one of the contract; of one's own fields any that the contract has."""
        if path in _WHOLE and value is None:
            part.fields |= dict.fromkeys(_WHOLE[path])
        elif path.startswith(_CUSTOM):
            self._add_own(part, path, value, isinstance(said, LineGiven))
        else:
            source = self._sources.get(f"lines[].{path}" if isinstance(said, LineGiven) else path, "")
            if source in part.properties:
                self._put(part, path, source, value)
            else:
                part.refuse(path, _NOTHING, "Leave it out", _NOT_WRITABLE)

    def _add_own(self, part: _Part, path: str, value: Any, per_line: bool) -> None:  # noqa: FBT001 - whose it is
        name = path.removeprefix(_CUSTOM)
        head, _, inner = name.partition(".")
        if head == COMPLEMENTARY and inner:
            kind = (self._own.line_fields if per_line else self._own.fields).get(name)
            own = part.fields.setdefault(COMPLEMENTARY, {})
            own[inner] = exact(value) if kind is ReaderName.NUMBER else value
        elif name in SET_ONCE and part.properties is MOVEMENT_UPDATE:
            part.refuse(path, "is given once, to something new, and stays as it is", "Leave it out", _NOT_WRITABLE)
        elif name not in part.properties or name in (COMPUTED_OF_ITEM if per_line else COMPUTED):
            part.refuse(path, _NOTHING, "Leave it out", _NOT_WRITABLE)
        else:
            self._put(part, path, name, value)

    def _put(self, part: _Part, path: str, source: str, value: Any) -> None:
        try:
            told = part.properties[source]
            part.fields[source] = emptied(told) if value is None else wired(told, value)
        except ValueError as error:
            part.refuse(path, str(error), "Write it so")

    def _add_code(self, part: _Part, path: str, source: str, value: Any, codes: Mapping[str, str]) -> None:
        if value is not None and value not in codes:
            rule, fix = f"{value} has no code of RM in the mapping", f"Give {path}_raw, or map a code of RM to it"
            part.refuse(path, rule, fix)
        else:
            part.fields[source] = "" if value is None else codes[value]

    def _add_vendor(self, part: _Part, value: str | None) -> None:
        company, bar, code = (value or "").partition("|")
        if value is None or not bar:
            part.fields |= {_VENDOR[0]: self._settings.vendor_company if value else None, _VENDOR[1]: value}
        elif company.isdecimal() and code:
            part.fields |= {_VENDOR[0]: int(company), _VENDOR[1]: code}
        else:
            part.refuse("vendor.remote_id", "must be company|code, as 0|F00012", "Write it so, or give vendor.code")


_NOTHING: Final = "is nothing that RM takes"
_VALIDATION: Final = RefusalReason.VALIDATION
_NOT_WRITABLE: Final = RefusalReason.NOT_WRITABLE_FIELD


def _is_plain(rule: Rule) -> bool:
    return ", " not in rule.source


def _raise(*parts: _Part) -> None:
    if wrong := [refusal for part in parts for refusal in part.wrong]:
        raise WriteRefused(wrong)
