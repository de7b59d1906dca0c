"""What a Protheus says when it says no: from the log's many lines to a reason and a canonical field.

    "AJUDA:REGNOIS ... Erro no Item 0002 ... C7_PRODUTO := NADA < -- Invalido"
        -> validation, lines[1].item.code, "is not in the ERP"

Only what is recognisably the ERP's own no is one: a thread that died, or a page of HTML, may come after the write.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.connectors.kit.mapping import LINES
from relay.connectors.protheus.wrapper import Phrase
from relay.domain.results import Refusal, RefusalReason

MOST_SAID: Final = 2000
_NO: Final = RefusalReason
_INVALID: Final = re.compile(r"<\s*--\s*invalido")
_COLUMN: Final = re.compile(r"\bc7_[a-z0-9_]{1,12}\b")
_ITEM: Final = re.compile(r"(?:\bitem\b|\blinha\b|\bc7_item\b)[^0-9a-z\n]{0,12}(\d{1,4})\b")
_HELP: Final = re.compile(r"\bajuda\s*:\s*([a-z0-9_]{2,20})")
_CRASHED: Final = ("thread error", "called from", "stack trace", "error.log", "panic")
"""A program that died says what it died of: no judgement of what it was told."""
_UNKNOWN: Final = "is not in the ERP"
_RULES: Final[Mapping[str, str]] = {
    "regnois": _UNKNOWN,
    "regbloq": "is blocked in the ERP",
    "obrigat": "is missing",
    "obrigat2": "is missing",
    "nvazio": "is missing or zero",
}
"""What the usual helps say of the column at fault."""
_STATES: Final = (
    *("ja atendido", "ja foi atendido", "ja recebido", "ja entregue", "ja foi entregue", "pre-nota", "pre nota"),
    *("residuo eliminado", "eliminado por residuo", "pedido encerrado", "nao pode ser alterado"),
    *("nao pode ser excluido", "nao podera ser alterado", "nao podera ser excluido"),
)
_BUSY: Final = ("em uso por outro", "registro em uso", "bloqueado por outro usuario", "em uso por outra")
_FORBIDDEN: Final = ("sem permissao", "acesso negado", "usuario nao autorizado", "nao tem acesso", "nao possui acesso")
_NAMES: Final[Mapping[str, str]] = {
    "fornecedor": "C7_FORNECE",
    "loja": "C7_LOJA",
    "condicao de pagamento": "C7_COND",
    "cond. pag": "C7_COND",
    "produto": "C7_PRODUTO",
    "quantidade": "C7_QUANT",
    "preco": "C7_PRECO",
    "centro de custo": "C7_CC",
}
_WRONG: Final[Mapping[str, str]] = {
    "invalid": "is refused by the ERP",
    "nao existe": _UNKNOWN,
    "nao encontrad": _UNKNOWN,
    "nao cadastrad": _UNKNOWN,
    "inexistente": _UNKNOWN,
    "bloquead": "is blocked in the ERP",
    "nao informad": "is missing",
    "obrigatori": "is missing",
}
_FIXES: Final[Mapping[str, str]] = {
    "C7_FORNECE": "Give code and store of a vendor that SA2 has and that is not blocked",
    "C7_LOJA": "Give code and store of a vendor that SA2 has and that is not blocked",
    "C7_COND": "Give a payment term that SE4 has",
    "C7_PRODUTO": "Give a product that SB1 has and that is not blocked",
    "C7_QUANT": "Give a quantity above zero",
    "C7_PRECO": "Give a price above zero",
}
_READ_IT: Final = "See the ERP's own words, and give what it asks for"


@dataclass(frozen=True, slots=True)
class Meanings:
    """What names in a log mean: canonical paths by column, places in the command by item, the customer's phrases."""

    paths: Mapping[str, str]
    places: Mapping[str, int] = field(default_factory=dict)
    phrases: Sequence[Phrase] = ()


def refusals_in(text: str, meanings: Meanings) -> tuple[Refusal, ...]:
    """The reasons that a text gives, if it is recognisably the ERP's own no."""
    folded = _folded(text)
    if own := _by_phrase(folded, meanings):
        return own
    if any(sign in folded for sign in _CRASHED):
        return ()
    return _by_mark(folded, meanings) or _by_state(folded) or _by_name(folded, meanings) or _by_help(folded)


def refused(text: str, meanings: Meanings) -> tuple[Refusal, ...]:
    """The reasons of what is known to be a refusal, whatever it says."""
    return refusals_in(text, meanings) or (_no(None, "the ERP refuses it", _READ_IT),)


def kept(text: str) -> str:
    """The ERP's words as they came, line by line, without control characters, and not without end."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join("".join(each for each in line if each.isprintable()).rstrip() for line in lines).strip()[
        :MOST_SAID
    ]


def _by_phrase(folded: str, meanings: Meanings) -> tuple[Refusal, ...]:
    for phrase in meanings.phrases:
        if _folded(phrase.says) in folded:
            if phrase.column is None:
                place = "status" if phrase.reason is _NO.WORKFLOW_STATE else None
                return (_no(place, f"the ERP refuses it: {phrase.says}", _READ_IT, phrase.reason),)
            return (_of_column(phrase.column, "is refused by the ERP", folded, meanings, phrase.reason),)
    return ()


def _by_state(folded: str) -> tuple[Refusal, ...]:
    if any(each in folded for each in _STATES):
        return (
            _no(
                "status",
                "the order is received, in a pre-receipt or closed, and MATA120 changes and deletes no such order",
                "Close what is open where the connection offers close, and make a new order for the rest",
                _NO.WORKFLOW_STATE,
            ),
        )
    if any(each in folded for each in _BUSY):
        return (_no(None, "somebody else works on it in the ERP", "Send a new command in a while", _NO.CONFLICT),)
    if any(each in folded for each in _FORBIDDEN):
        return (_no(None, "the ERP does not let relay's user do this", "Give the user the right", _NO.NOT_PERMITTED),)
    return ()


def _by_mark(folded: str, meanings: Meanings) -> tuple[Refusal, ...]:
    """Every column that the log marks as invalid."""
    help_ = _HELP.search(folded)
    rule = _RULES.get(help_.group(1) if help_ else "", "is refused by the ERP")
    found: dict[str, Refusal] = {}
    for invalid in _INVALID.finditer(folded):
        line = folded[folded.rfind("\n", 0, invalid.start()) + 1 : invalid.start()]
        if columns := _COLUMN.findall(line):
            column = columns[-1].upper()
            found.setdefault(column, _of_column(column, rule, folded[: invalid.start()], meanings))
    return tuple(found.values())


def _by_name(folded: str, meanings: Meanings) -> tuple[Refusal, ...]:
    """A short sentence without a column: `Fornecedor inválido`."""
    for name, column in _NAMES.items():
        for wrong, rule in _WRONG.items():
            if re.search(rf"\b{re.escape(name)}\b[^.\n]{{0,40}}\b{wrong}", folded):
                return (_of_column(column, rule, folded, meanings),)
    return ()


def _by_help(folded: str) -> tuple[Refusal, ...]:
    return (_no(None, "MATA120 refuses it", _READ_IT),) if _HELP.search(folded) else ()


def _of_column(
    column: str, rule: str, before: str, meanings: Meanings, reason: RefusalReason = _NO.VALIDATION
) -> Refusal:
    if column == "C7_NUM":
        return _no("remote_id", "the ERP has no such order", "Look the order up again", _NO.CONFLICT)
    items = _ITEM.findall(before)
    place = meanings.places.get(items[-1].zfill(4)) if items else None
    line = "lines[]." if place is None else f"lines[{place}]."
    path = f"{LINES}remote_id" if column == "C7_ITEM" else meanings.paths.get(column)
    if path is None:
        return _no(None, f"{column} {rule}", "Declare the column in writing.columns or writing.header_fields", reason)
    named = path.replace(LINES, line, 1) if path.startswith(LINES) else path
    return _no(named, f"{named} {rule} ({column})", _FIXES.get(column, _READ_IT), reason)


def _folded(text: str) -> str:
    """Lower case without accents: `Não existe` -> `nao existe`."""
    plain = unicodedata.normalize("NFKD", text.replace("\r", "\n")).encode("ascii", "ignore").decode()
    return plain.casefold()


def _no(place: str | None, message: str, fix: str, reason: RefusalReason = _NO.VALIDATION) -> Refusal:
    return Refusal(reason=reason, field=place, message=message, fix=fix)
