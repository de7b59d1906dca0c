"""What customers put around MATA120, and the EAI message beside it: three ways in to one routine.

    flat      POST|PUT|DELETE /wspedcom/pedidos[/{number}]   {"C7_FORNECE": ..., "ITENS": [{"C7_ITEM": ...}]}
              POST /wspedcom/pedidos/{number}/residuo | /liberacao
    execauto  POST /execauto/mata120                         {"nOpc": 3, "aCab": [[name, value, null]], "aItens": [...]}
    eai       POST /totvseai/.../contents/Order_4_009        the message Order, OrderPurpose 1

Each says no in its own way unless the installation has one for all of them (`Options.refusals`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from relay.demo.protheus_faults import ttalk
from relay.demo.protheus_mata120 import HEAD, LineAsked, Mata120, Refused
from relay.demo.protheus_rows import OrderKey
from relay.demo.protheus_tables import TABLES

FLAT_PATH: Final = "/wspedcom/pedidos"
EXECAUTO_PATH: Final = "/execauto/mata120"
EAI_PATH: Final = "/totvseai/standardmessage/v1/contents/Order_4_009"
Refusals = Literal["own", "400_ttalk", "500_ttalk", "500_error_code", "200_status_400"]
"""How an installation dresses the routine's log when it says no."""

Answer = tuple[int, Any]
_MOST_SAID: Final = 2000
_EAI_HEADER: Final[Mapping[str, str]] = {
    "RegisterDate": "C7_EMISSAO",
    "CustomerCode": "C7_FORNECE",
    "PaymentTermCode": "C7_COND",
    "CurrencyCode": "C7_MOEDA",
}
_EAI_LINE: Final[Mapping[str, str]] = {
    "ItemCode": "C7_PRODUTO",
    "ItemDescription": "C7_DESCRI",
    "Quantity": "C7_QUANT",
    "UnityPrice": "C7_PRECO",
    "ItemDiscounts": "C7_VLDESC",
    "CostCenterCode": "C7_CC",
    "DeliveryDate": "C7_DATPRF",
}
_EAI_FREIGHT: Final = {"1": "C", "2": "F", "3": "T"}


class Wrappers:
    """The write endpoints of one installation."""

    def __init__(self, routine: Mata120, refusals: Refusals) -> None:
        self._routine = routine
        self._refusals = refusals

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path is one of theirs."""
        return path in {EXECAUTO_PATH, EAI_PATH} or path == FLAT_PATH or path.startswith(f"{FLAT_PATH}/")

    def answer(self, method: str, path: str, body: bytes, branch: str) -> Answer:
        """Status and JSON of one call."""
        try:
            given = json.loads(_text(body)) if body.strip() else {}
            if path == EXECAUTO_PATH:
                return self._execauto(given, branch)
            if path == EAI_PATH:
                return self._eai(given, branch)
            return self._flat(method, path.removeprefix(FLAT_PATH).strip("/").split("/"), given, branch)
        except Refused as refused:
            return self._refusal(path, str(refused))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return 500, ttalk("500", "Erro na execução", f"THREAD ERROR ([7788], relay, srv) {type(error).__name__}")

    # a customer's WSRESTFUL class

    def _flat(self, method: str, steps: Sequence[str], given: Mapping[str, Any], branch: str) -> Answer:
        number, action = steps[0], steps[1] if len(steps) > 1 else ""
        order = OrderKey(branch, number)
        match method, action:
            case "POST", "" if not number:
                header = {"C7_CONTATO": "", "C7_FILENT": branch} | dict(given)
                lines = [LineAsked(_spread(given) | _upper(line)) for line in given.get("ITENS", ())]
                order = self._routine.include(branch, header, lines)
            case "PUT", "" if number:
                self._routine.change(order, given, self._changed(given))
            case "DELETE", "" if number:
                self._routine.delete(order)
            case "POST", "residuo":
                self._routine.eliminate_residue(order)
            case "POST", "liberacao":
                self._routine.release(order, str(given["ACAO"]))
            case _:
                return 404, {"errorCode": 404, "errorMessage": "Recurso não encontrado"}
        return 200, {"Status": "200", "Mensagem": "Operação realizada", "C7_FILIAL": branch, "C7_NUM": order.number}

    def _changed(self, given: Mapping[str, Any]) -> list[LineAsked]:
        # C7_ITEM is which line, AUTODELETA "S" takes it away; one without C7_ITEM is new.
        return [
            LineAsked(_upper(line), str(line.get("C7_ITEM", "")), line.get("AUTODELETA") == "S")
            for line in given.get("ITENS", ())
        ]

    # arrays as ExecAuto takes them

    def _execauto(self, given: Mapping[str, Any], branch: str) -> Answer:
        header = {str(name): value for name, value, _ in given.get("aCab", ())}
        lines = [_execauto_line(entries) for entries in given.get("aItens", ())]
        match given["nOpc"]:
            case 3:
                order = self._routine.include(branch, header, lines)
            case 4:
                order = OrderKey(branch, str(header["C7_NUM"]))
                self._routine.change(order, header, lines)
            case 5:
                order = OrderKey(branch, str(header["C7_NUM"]))
                self._routine.delete(order)
            case _:
                raise ValueError("nOpc")
        return 201 if given["nOpc"] == 3 else 200, {"filial": order.branch, "pedido": order.number}

    # the EAI message

    def _eai(self, given: Mapping[str, Any], branch: str) -> Answer:
        content = given["Content"]["BusinessContent"]
        event = given["Content"]["BusinessEvent"]["Event"]
        if str(content.get("OrderPurpose")) != "1":
            return 400, _eai_fault("OrderPurpose diferente de 1 - Compra")
        header = {column: content[name] for name, column in _EAI_HEADER.items() if name in content}
        if "CustomerInternalId" in content:
            header["C7_LOJA"] = str(content["CustomerInternalId"]).rpartition("|")[2]
        if "FreightType" in content:
            header["C7_TPFRETE"] = _EAI_FREIGHT[str(content["FreightType"])]
        added = content.get("OTHER", {}).get("ADDFIELDS", {}).get("ADDFIELD", ())
        spread = {str(each["field"]): each["value"] for each in added}
        if "Observation" in content:
            spread["C7_OBS"] = content["Observation"]
        lines = [_eai_line(item, spread) for item in content.get("SalesOrderItens", {}).get("Item", ())]
        number = str(content.get("OrderId", ""))
        order = OrderKey(branch, number)
        if event == "delete":
            self._routine.delete(order)
        elif number:
            self._routine.change(order, header, lines)
        else:
            order = self._routine.include(branch, {"C7_CONTATO": "", "C7_FILENT": branch} | header, lines)
        told = {"Name": "OrderInternalId", "Origin": content.get("InternalId", ""), "Destination": "|".join(order)}
        answer = {"ProcessingInformation": {"Status": "OK"}, "ReturnContent": {"ListOfInternalId": [told]}}
        return 200, {"Header": given.get("Header", {}), "Content": answer}

    # saying no

    def _refusal(self, path: str, log: str) -> Answer:
        usual: Refusals = "200_status_400" if path.startswith(FLAT_PATH) else "500_ttalk"
        short = log.split("\r\n")[1]
        if self._refusals == "own" and path == EAI_PATH:
            return 400, _eai_fault(log)
        match usual if self._refusals == "own" else self._refusals:
            case "200_status_400":
                return 200, {"Status": "400", "Mensagem": log}
            case "400_ttalk":
                return 400, ttalk("400", short, log)
            case "500_error_code":
                return 500, {"errorCode": 500, "errorMessage": log}
            case _:
                return 500, ttalk("500", short, log)


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("cp1252")


def _upper(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name.upper(): value for name, value in line.items()}


def _spread(given: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that the wrapper takes from its header into every line."""
    return {name: value for name, value in given.items() if name in TABLES["SC7"] and name not in HEAD}


def _execauto_line(entries: Sequence[Sequence[Any]]) -> LineAsked:
    columns, item, delete = {}, "", False
    for name, value, extra in entries:
        if name == "LINPOS":
            item = str(extra)
        elif name == "AUTODELETA":
            delete = value == "S"
        else:
            columns[str(name)] = value
    return LineAsked(columns, item, delete)


def _eai_line(item: Mapping[str, Any], spread: Mapping[str, Any]) -> LineAsked:
    columns = {column: item[name] for name, column in _EAI_LINE.items() if name in item}
    if "WarehouseInternalId" in item:
        columns["C7_LOCAL"] = str(item["WarehouseInternalId"]).rpartition("|")[2]
    return LineAsked({**spread, **columns}, str(item.get("OrderItem", "")), item.get("Event") == "delete")


def _eai_fault(detail: str) -> dict[str, str]:
    return {"Code": "400", "Message": "Erro na integração", "DetailedMessage": detail[:_MOST_SAID], "HelpUrl": ""}
