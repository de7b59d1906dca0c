"""How a document is written down: the two shapes of customers' wrappers, and the EAI message `Order`.

    flat       {"C7_FILIAL": ..., "C7_NUM": ..., "C7_COND": ..., "ITENS": [{"C7_ITEM": ..., ...}]}
    execauto   {"nTipo": 1, "nOpc": 4, "aCab": [[name, value, null]], "aItens": [[["LINPOS", "C7_ITEM", "0001"], ...]]}
    eai        {"Header": {...}, "Content": {"BusinessEvent": {...}, "BusinessContent": {"OrderPurpose": "1", ...}}}

Numbers keep their own digits all the way: they are never floats.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import orjson

from relay.connectors.protheus.cells import Cell, without
from relay.connectors.protheus.document import DELETE, HEAD, Document, LineDocument
from relay.connectors.protheus.wrapper import OBS, Wrapper

_DATES: Final = {"YYYYMMDD": "%Y%m%d", "YYYY-MM-DD": "%Y-%m-%d", "DD/MM/YYYY": "%d/%m/%Y"}
_EAI_HEADER: Final[Mapping[str, str]] = {
    "C7_EMISSAO": "RegisterDate",
    "C7_FORNECE": "CustomerCode",
    "C7_COND": "PaymentTermCode",
    OBS: "Observation",
}
_EAI_LINE: Final[Mapping[str, str]] = {
    "C7_PRODUTO": "ItemCode",
    "C7_DESCRI": "ItemDescription",
    "C7_QUANT": "Quantity",
    "C7_PRECO": "UnityPrice",
    "C7_VLDESC": "ItemDiscounts",
    "C7_CC": "CostCenterCode",
    "C7_DATPRF": "DeliveryDate",
}
_EAI_FREIGHT: Final[Mapping[Cell, str]] = {"C": "1", "F": "2", "T": "3"}


def body_of(document: Document, wrapper: Wrapper, company: str) -> dict[str, Any]:
    """The body as a tree of JSON, with Decimal for numbers unless the wrapper wants text."""
    match wrapper.shape:
        case "flat":
            return _flat(document, wrapper)
        case "execauto":
            return _execauto(document, wrapper)
        case "eai":
            return _eai(document, wrapper, company)


def of_order(branch: str, number: str, wrapper: Wrapper) -> dict[str, Any]:
    """The body of a call that only names an order."""
    return {wrapper.column_name("C7_FILIAL"): branch, wrapper.column_name("C7_NUM"): number}


def encoded(body: Mapping[str, Any], charset: str) -> bytes:
    """The body's bytes; every number with the digits that it has."""
    text = orjson.dumps(body, default=_exact)
    return text if charset == "utf-8" else text.decode().encode(charset)


def shown(body: Any) -> Any:
    """The body as people may see it: numbers as text, because JSON readers make floats of them."""
    if isinstance(body, dict):
        return {name: shown(value) for name, value in body.items()}
    if isinstance(body, list):
        return [shown(each) for each in body]
    return format(body, "f") if isinstance(body, Decimal) else body


def _exact(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError


def _flat(document: Document, wrapper: Wrapper) -> dict[str, Any]:
    names = wrapper.column_name
    body = of_order(document.branch, document.number, wrapper)
    if not document.number:
        del body[names("C7_NUM")]
    body |= {names(column): _plain(value, wrapper) for column, value in document.header.items()}
    body |= wrapper.header_fields
    if document.option != DELETE:
        body[wrapper.lines] = [_flat_line(line, document.spread, wrapper) for line in document.lines]
    return body


def _flat_line(line: LineDocument, spread: Mapping[str, Cell], wrapper: Wrapper) -> dict[str, Any]:
    name, value = wrapper.away
    told: dict[str, Any] = {} if line.new else {wrapper.column_name("C7_ITEM"): line.item}
    if line.away:
        return told | {name: value}
    cells = _whole(line, spread)
    return (
        told | {wrapper.column_name(each): _plain(cell, wrapper) for each, cell in cells.items()} | wrapper.line_fields
    )


def _execauto(document: Document, wrapper: Wrapper) -> dict[str, Any]:
    number: dict[str, Cell] = {"C7_NUM": document.number} if document.number else {}
    header = [*_entries(number | dict(document.header), wrapper), *_fixed(wrapper.header_fields)]
    lines = [_execauto_line(line, document.spread, wrapper) for line in document.lines]
    return {"nTipo": 1, "nOpc": document.option, "aCab": header, "aItens": lines}


def _execauto_line(line: LineDocument, spread: Mapping[str, Cell], wrapper: Wrapper) -> list[list[Any]]:
    place: list[list[Any]] = (
        [] if line.new else [["LINPOS", "C7_ITEM", line.item], ["AUTODELETA", "S" if line.away else "N", None]]
    )
    cells = line.columns if line.away else _whole(line, spread)
    return [*place, *_entries(cells, wrapper), *_fixed(wrapper.line_fields)]


def _whole(line: LineDocument, spread: Mapping[str, Cell]) -> dict[str, Cell]:
    """The line's own columns, then what every line carries."""
    return {**line.columns, **without(spread, tuple(line.columns))}


def _entries(cells: Mapping[str, Cell], wrapper: Wrapper) -> Iterable[list[Any]]:
    return ([column, _plain(value, wrapper), None] for column, value in cells.items())


def _fixed(fields: Mapping[str, Any]) -> Iterable[list[Any]]:
    return ([name, value, None] for name, value in fields.items())


def _eai(document: Document, wrapper: Wrapper, company: str) -> dict[str, Any]:
    branch, number = document.branch, document.number
    event = "delete" if document.option == DELETE else "upsert"
    cells = {name: value for name, value in document.header.items() if name in HEAD}
    own = {name: value for name, value in document.spread.items() if name != OBS}
    if OBS in document.spread:
        cells[OBS] = document.spread[OBS]
    content: dict[str, Any] = {
        "CompanyId": company,
        "CompanyInternalId": f"{company}|{branch}",
        "BranchId": branch,
        "OrderPurpose": "1",
        "InternalId": f"{branch}|{number}" if number else document.key,
        **({"OrderId": number} if number else {}),
        **{name: _iso(cells[column]) for column, name in _EAI_HEADER.items() if column in cells},
    }
    if cells.get("C7_FORNECE") and cells.get("C7_LOJA"):
        content["CustomerInternalId"] = f"{company}||{cells['C7_FORNECE']}|{cells['C7_LOJA']}"
    if cells.get("C7_COND"):
        content["PaymentConditionInternalId"] = f"{company}||{cells['C7_COND']}"
    if cells.get("C7_TPFRETE") in _EAI_FREIGHT:
        content["FreightType"] = _EAI_FREIGHT[cells["C7_TPFRETE"]]
    if own:
        added = [{"field": name, "value": str(_iso(value))} for name, value in own.items()]
        content["OTHER"] = {"ADDFIELDS": {"ADDFIELD": added}}
    if document.option != DELETE:
        items = [_eai_line(line, company) | ({} if line.away else wrapper.line_fields) for line in document.lines]
        content["SalesOrderItens"] = {"Item": items}
    return {
        "Header": {"Type": "BusinessMessage", "Transaction": "Order", "Version": "4.009", "SourceApplication": "relay"},
        "Content": {
            "BusinessEvent": {"Entity": "Order", "Event": event},
            "BusinessContent": content | wrapper.header_fields,
        },
    }


def _eai_line(line: LineDocument, company: str) -> dict[str, Any]:
    told: dict[str, Any] = {} if line.new else {"OrderItem": line.item}
    if line.away:
        return told | {"Event": "delete"}
    told |= {name: _iso(line.columns[column]) for column, name in _EAI_LINE.items() if column in line.columns}
    if "C7_LOCAL" in line.columns:
        told["WarehouseInternalId"] = f"{company}||{line.columns['C7_LOCAL']}"
    return told


def _iso(cell: Cell) -> Any:
    return cell.isoformat() if isinstance(cell, dt.date) else cell


def _plain(cell: Cell, wrapper: Wrapper) -> Any:
    if isinstance(cell, dt.date):
        return cell.strftime(_DATES[wrapper.dates])
    return format(cell, "f") if isinstance(cell, Decimal) and wrapper.numbers == "text" else cell
