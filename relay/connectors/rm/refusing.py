"""What RM says when it says no: from a sentence in Portuguese to a reason and a canonical field.

    500 {"message": "Produto 999 não encontrado (item 2).", "detailedMessage": "TPRODUTO.IDPRD"}
        -> validation, lines[1].item.remote_id, "is not in the ERP"

RM answers business errors with 500, as it does when it breaks. Only what is recognisably a no is one: anything else may
have come after the write, and leaves it open.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from relay.domain.results import Refusal, RefusalReason

MOST_SAID: Final = 2000
_NO: Final = RefusalReason
_BROKEN: Final = ("tempo limite", "timeout", "deadlock", "stack trace", "nullreference", "object reference", "ora-")
"""What a server says of itself, not of what it was told."""
_BUSY: Final = ("em uso por outro", "registro em uso", "bloqueado por outro usuario", "sendo alterado por outro")
_FORBIDDEN: Final = ("sem permissao", "acesso negado", "nao tem permissao", "nao possui permissao", "nao autorizado")
_STATES: Final = (
    *("esta cancelado", "ja foi recebido", "ja foi faturado", "ja faturado", "ja recebido", "ja esta cancelado"),
    *("movimento nao pode ser alterado", "movimento nao pode ser cancelado", "recebido parcialmente", "esta baixado"),
)
_SET_ONCE: Final = re.compile(r"campo (\w+) nao pode ser alterado")
_ITEM: Final = re.compile(r"\bitem\D{0,12}(\d{1,4})\b")
_LINE: Final = "lines[]."
_COLUMNS: Final[Mapping[str, str]] = {
    "codcfo": "vendor.code",
    "codcpg": "payment_terms.code",
    "codfilial": "branch.remote_id",
    "codtmv": "custom_fields.MovementTypeCode",
    "idprd": "lines[].item.remote_id",
    "quantidade": "lines[].quantity",
    "precounitario": "lines[].unit_price",
    "codund": "lines[].unit_raw",
    "codccusto": "lines[].cost_center",
    "codloc": "lines[].warehouse",
}
"""Columns of RM's tables, as details name them."""
_NAMES: Final[Mapping[str, str]] = {
    "cliente/fornecedor": "vendor.code",
    "fornecedor": "vendor.code",
    "condicao de pagamento": "payment_terms.code",
    "filial": "branch.remote_id",
    "tipo de movimento": "custom_fields.MovementTypeCode",
    "preco unitario": "lines[].unit_price",
    "quantidade": "lines[].quantity",
    "unidade de medida": "lines[].unit_raw",
    "centro de custo": "lines[].cost_center",
    "local de estoque": "lines[].warehouse",
    "produto": "lines[].item.remote_id",
}
_WRONG: Final[Mapping[str, str]] = {
    "nao encontrad": "is not in the ERP",
    "nao cadastrad": "is not in the ERP",
    "nao existe": "is not in the ERP",
    "inexistente": "is not in the ERP",
    "inativ": "is inactive in the ERP",
    "bloquead": "is blocked in the ERP",
    "nao informad": "is missing",
    "obrigatori": "is missing",
    "maior que zero": "must be above zero",
    "invalid": "is refused by the ERP",
    "truncad": "is too long for the ERP",
}
_FIXES: Final[Mapping[str, str]] = {
    "vendor.code": "Give a vendor that FCFO has and that is active",
    "payment_terms.code": "Give a payment term that TCPG has",
    "branch.remote_id": "Give a branch of the connection's company",
    "custom_fields.MovementTypeCode": "Give a movement type that RM has",
    "lines[].item.remote_id": "Give a product that TPRODUTO has",
    "lines[].quantity": "Give a quantity above zero",
    "lines[].unit_price": "Give a price above zero",
}
_READ_IT: Final = "See the ERP's own words, and give what it asks for"
_GENERAL: Final = ("ao menos um item", "truncad")


def refusals_in(text: str, places: Mapping[int, int], paths: Mapping[str, str]) -> tuple[Refusal, ...]:
    """The reasons that a fault's words give, if they are recognisably RM's own no.

    `places` says which line of the command each line of the body was, `paths` which canonical field each of RM's is.
    """
    folded = _folded(text)
    if any(sign in folded for sign in (*_BROKEN, *_BUSY)):
        return ()
    if once := _SET_ONCE.search(folded):
        path = next((path for name, path in paths.items() if name.casefold() == once[1]), None)
        fix = "Leave it out"
        return (_no(path, f"{path or once[1]} is given once, and stays as it is", fix, _NO.NOT_WRITABLE_FIELD),)
    if any(each in folded for each in _STATES):
        fix = "Look at the order again: its status lets nobody change it"
        return (_no("status", "the order cannot be changed any more", fix, _NO.WORKFLOW_STATE),)
    if any(each in folded for each in _FORBIDDEN):
        fix = "Give relay's user in RM the right to do it"
        return (_no(None, "RM's user may not do this", fix, _NO.NOT_PERMITTED),)
    return _of_value(folded, places)


def refused(text: str, places: Mapping[int, int], paths: Mapping[str, str]) -> tuple[Refusal, ...]:
    """The reasons of what is known to be a refusal, whatever it says."""
    return refusals_in(text, places, paths) or (_no(None, "RM refuses it", _READ_IT),)


def is_busy(text: str) -> bool:
    """Whether somebody else holds the movement just now: nothing was written, and it may be tried again."""
    return any(sign in _folded(text) for sign in _BUSY)


def kept(text: str) -> str:
    """RM's words, one line, and not without end."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:MOST_SAID]


def _of_value(folded: str, places: Mapping[int, int]) -> tuple[Refusal, ...]:
    rule = next((told for sign, told in _WRONG.items() if sign in folded), None)
    named = [path for name, path in _NAMES.items() if name in folded]
    columns = [path for name, path in _COLUMNS.items() if re.search(rf"\b{name}\b", folded)]
    path = next(iter((*named, *columns)), None)
    if rule and path:
        place = _placed(path, folded, places)
        return (_no(place, f"{place} {rule}", _FIXES.get(path, _READ_IT)),)
    if any(sign in folded for sign in _GENERAL):
        return (_no(None, "RM refuses it", _READ_IT),)
    return ()


def _placed(path: str, folded: str, places: Mapping[int, int]) -> str:
    """A line's path with the line of the command, where the words name one."""
    if not path.startswith(_LINE):
        return path
    named = _ITEM.search(folded)
    place = places.get(int(named[1]) - 1) if named else None
    return path if place is None else path.replace("[]", f"[{place}]", 1)


def _no(field: str | None, message: str, fix: str, reason: RefusalReason = _NO.VALIDATION) -> Refusal:
    return Refusal(reason=reason, field=field, message=message, fix=fix)


def _folded(text: str) -> str:
    """Small letters without accents: RM writes both ways, and CP1252 loses some."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in plain if not unicodedata.combining(each))
