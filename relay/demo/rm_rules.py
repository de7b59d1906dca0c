"""What the simulated RM checks before it writes, and how it says no: a 500 with a sentence in Portuguese.

    new_movement(rows, body)            -> the record to insert
    changed_movement(rows, record, ...) -> the record to put in its place

Header and lines are judged together, and nothing is written unless all of it may be.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from relay.demo.rm import CANCELLED, FINISHED, PARTIAL
from relay.demo.rm_rows import Record, RmRows

Lines = Literal["replace", "merge"]
"""What becomes of lines that a PUT leaves out: deleted, or kept."""

SET_ONCE: Final = frozenset(
    ("BranchId", "MovementTypeCode", "Date", "BaseDate", "CreationDate", "CancellationDate", "NetValueCurrencyCode")
) | {"ReleaseStatus", "ProcessedFlag", "Level", "GroupedItems"}
"""Fields that a PUT does not take."""
_COMPUTED: Final = frozenset(
    ("InternalId", "CompanyId", "MovementId", "Number", "Status", "GrossValue", "NetValue", "RECCREATEDON")
) | {"RECMODIFIEDON", "RECCREATEDBY", "RECMODIFIEDBY", "_expandables", "Items"}
_LENGTHS: Final = {"Observation": 60, "FreeField1": 100, "FreeField2": 100, "FreeField3": 100, "PaymentTermCode": 5}
_SPELLINGS: Final = ("Costumer", "Customer")


class RmSaysNo(Exception):
    """RM refuses: its sentence, what is behind it, and the status it comes with."""

    def __init__(self, message: str, detail: str = "", *, status: int = 500) -> None:
        super().__init__(message)
        self.detail = detail
        self.status = status


def new_movement(rows: RmRows, body: Mapping[str, Any]) -> Record:
    """The movement that a POST makes. Raises RmSaysNo."""
    given = _spelt(body)
    registers = rows.registers
    company, branch = given.get("CompanyId"), given.get("BranchId")
    if company not in registers.companies:
        raise RmSaysNo(f"Coligada {company} não cadastrada.", "GCOLIGADA.CODCOLIGADA")
    if given.get("MovementTypeCode") not in registers.types:
        raise RmSaysNo(f"Tipo de Movimento {given.get('MovementTypeCode')} não encontrado.", "TTMV.CODTMV")
    if branch not in registers.companies[company]:
        raise RmSaysNo(f"Filial {branch} não cadastrada para a coligada {company}.", "GFILIAL.CODFILIAL")
    header = {name: value for name, value in given.items() if name not in _COMPUTED}
    _check_header(rows, header)
    items = _lines_of(given)
    if not items:
        raise RmSaysNo("O movimento deve possuir ao menos um item.", "TITMMOV")
    made = [_checked_item(rows, item, {}, place) for place, item in enumerate(items, 1)]
    dates = {"RegisterDate": f"{rows.today()}T00:00:00", "NetValueCurrencyCode": "R$"}
    return {**dates, **header, "CompanyId": company, "Status": "A", "Items": made}


def changed_movement(rows: RmRows, record: Record, body: Mapping[str, Any], *, loud: bool, lines: Lines) -> Record:
    """The movement after a PUT. Raises RmSaysNo; fields that are set once are dropped when it is not `loud`."""
    check_open(record, "alterado")
    given = _spelt(body)
    for name in sorted(given.keys() & SET_ONCE):
        if loud:
            raise RmSaysNo(f"O campo {name} não pode ser alterado.", f"MovementUpdateType.{name}")
        del given[name]
    header = {name: value for name, value in given.items() if name not in _COMPUTED}
    changed = {**record, **header}
    _check_header(rows, changed)
    if "Items" in given:
        changed["Items"] = _merged(rows, record["Items"], _lines_of(given), lines)
    return changed


def check_open(record: Record, done: str) -> None:
    """Raises RmSaysNo for a movement that nobody may change any more."""
    status = record["Status"]
    if status == CANCELLED:
        raise RmSaysNo(f"O movimento {record['Number']} está cancelado e não pode ser {done}.", "TMOV.STATUS = C")
    if status in {FINISHED, PARTIAL}:
        raise RmSaysNo(
            f"O movimento {record['Number']} já foi recebido e não pode ser {done}.", f"TMOV.STATUS = {status}"
        )


def _check_header(rows: RmRows, header: Mapping[str, Any]) -> None:
    registers = rows.registers
    vendor, term = header.get("CustomerVendorCode"), header.get("PaymentTermCode")
    if vendor not in registers.vendors:
        raise RmSaysNo(f"Cliente/Fornecedor {vendor} não encontrado.", "FCFO.CODCFO")
    if vendor in registers.blocked:
        raise RmSaysNo(f"Cliente/Fornecedor {vendor} está inativo.", "FCFO.ATIVO")
    if not term:
        raise RmSaysNo("Condição de Pagamento não informada.", "TMOV.CODCPG")
    if term not in registers.terms:
        raise RmSaysNo(f"Condição de Pagamento {term} inválida.", "TCPG.CODCPG")
    for name, most in _LENGTHS.items():
        if len(str(header.get(name) or "")) > most:
            raise RmSaysNo("Os dados da cadeia ou binários seriam truncados.", f"{name}: máximo {most}")


def _merged(rows: RmRows, known: Sequence[Record], given: Sequence[Record], lines: Lines) -> list[Record]:
    """The lines after a change: known ones by their number, new ones without."""
    before = {item["SequentialId"]: item for item in known}
    made: list[Record] = []
    for place, item in enumerate(given, 1):
        number = item.get("SequentialId")
        if number and number not in before:
            raise RmSaysNo(f"Item {number} não pertence ao movimento.", "TITMMOV.NSEQITMMOV")
        made.append(_checked_item(rows, item, before.get(number, {}), place))
    if lines == "merge":
        named = {item.get("SequentialId") for item in given}
        made = [*(item for number, item in before.items() if number not in named), *made]
        made.sort(key=lambda item: item.get("SequentialId") or 10_000)
    if not made:
        raise RmSaysNo("O movimento deve possuir ao menos um item.", "TITMMOV")
    return made


def _checked_item(rows: RmRows, given: Record, before: Record, place: int) -> Record:
    item = {**before, **{name: value for name, value in given.items() if name not in {"NetValue", "_expandables"}}}
    codes = {code: number for number, (code, _, _) in rows.registers.products.items()}
    product = given.get("ProductId") or codes.get(given.get("ProductCodeValue", "")) or before.get("ProductId")
    if not product and given.get("ProductCodeValue"):
        raise RmSaysNo(f"Produto {given['ProductCodeValue']} não encontrado (item {place}).", "TPRODUTO.CODIGOPRD")
    if product not in rows.registers.products:
        raise RmSaysNo(f"Produto {product} não encontrado (item {place}).", "TPRODUTO.IDPRD")
    if not _positive(item.get("Quantity")):
        raise RmSaysNo(f"Quantidade deve ser maior que zero (item {place}).", "TITMMOV.QUANTIDADE")
    if not _positive(item.get("UnitPrice")):
        raise RmSaysNo(f"Preço Unitário deve ser maior que zero (item {place}).", "TITMMOV.PRECOUNITARIO")
    code, _, unit = rows.registers.products[product]
    received = before["Quantity"] - before["ReceivableQuantity"] if before else 0
    return {
        **item,
        "ProductId": product,
        "ProductCodeValue": code,
        "MeasureUnitCode": item.get("MeasureUnitCode") or unit,
        "ReceivableQuantity": max(0, item["Quantity"] - received),
    }


def _lines_of(given: Mapping[str, Any]) -> list[Record]:
    items = given.get("Items") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RmSaysNo("Formato inválido: Items.", status=400)
    return items


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _spelt(body: Mapping[str, Any]) -> Record:
    """The body with the names that the rows use, whichever of the two spellings it has."""
    return {name.replace(*_SPELLINGS, 1): value for name, value in body.items()}
