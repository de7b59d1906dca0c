"""MATA120 of the simulated Protheus: include (3), change (4) or delete (5) a whole order, all of it or nothing.

    header and lines in SC7's own columns -> checked as the routine checks -> rows, or Refused with the log's text

There is no key that makes two calls one: asked twice, it includes two orders. A failed inclusion leaves a gap in the
numbers. The texts are those of GetAutoGRLog: many lines, and the column at fault marked `< -- Invalido`.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.demo.protheus import NewLine, ProtheusDesk
from relay.demo.protheus_rows import OrderKey
from relay.demo.protheus_tables import TABLES, Column, Value

HEAD: Final = (
    *("C7_EMISSAO", "C7_FORNECE", "C7_LOJA", "C7_COND", "C7_CONTATO", "C7_FILENT"),
    *("C7_MOEDA", "C7_TXMOEDA", "C7_TPFRETE"),
)
"""What the routine takes of the header; everything else belongs to the lines."""
_NEEDED: Final = ("C7_EMISSAO", "C7_FORNECE", "C7_LOJA", "C7_COND")
_CARRIED: Final = ("C7_CONTATO", "C7_FILENT")
"""Header columns that must be there, even if blank."""
_TITLES: Final[Mapping[str, str]] = {
    "C7_NUM": "Numero do Pedido",
    "C7_ITEM": "Item",
    "C7_EMISSAO": "Data Emissao",
    "C7_FORNECE": "Fornecedor",
    "C7_LOJA": "Loja",
    "C7_COND": "Cond. Pagto",
    "C7_CONTATO": "Contato",
    "C7_FILENT": "Filial Entrega",
    "C7_PRODUTO": "Produto",
    "C7_QUANT": "Quantidade",
    "C7_PRECO": "Prc Unitario",
}
_UNKNOWN: Final = "REGNOIS", "Não existe registro relacionado a este código."
_BLOCKED: Final = "REGBLOQ", "Registro bloqueado para uso."
_EMPTY: Final = "OBRIGAT", "Existem campos obrigatórios não preenchidos."
_NOTHING: Final = "NVAZIO", "Este campo deve ser informado."
_NO_CHANGE: Final = "A120ALT"
_DAY: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_LOCAL_DAY: Final = re.compile(r"(\d{2})/(\d{2})/(\d{4})")


class Refused(Exception):
    """The routine says no; the message is its log."""


@dataclass(frozen=True, slots=True)
class LineAsked:
    """One line of a call: `item` says which one it changes (LINPOS), none is a new one; `delete` is AUTODELETA."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    item: str = ""
    delete: bool = False


class Mata120:
    """The routine, for one company."""

    def __init__(self, desk: ProtheusDesk, *, approvals: bool = True) -> None:
        self._desk = desk
        self._approval = "B" if approvals else ""

    def include(self, branch: str, header: Mapping[str, Any], lines: Sequence[LineAsked]) -> OrderKey:
        """A new order. Raises Refused."""
        try:
            for name in (*_NEEDED, *_CARRIED):
                if name not in header or (name in _NEEDED and not str(header[name] or "").strip()):
                    raise _refused(_EMPTY, {name: header.get(name)}, name)
            self._check_header(header)
            if not lines:
                raise _refused(_EMPTY, {"C7_ITEM": ""}, "C7_ITEM")
            for position, line in enumerate(lines, 1):
                self._check_line(line.columns, f"{position:04d}", whole=True)
        except Refused:
            self._desk.skip_number()
            raise
        order = self._desk.take_number(branch)
        with self._desk.transaction():
            for position, line in enumerate(lines, 1):
                self._insert(order, _typed(header, HEAD) | {"C7_CONAPRO": self._approval}, line, f"{position:04d}")
        return order

    def change(self, order: OrderKey, header: Mapping[str, Any], lines: Sequence[LineAsked]) -> None:
        """Other values in an order and in its lines, new lines, lines away. Raises Refused."""
        living = self._living(order)
        self._check_header({**{name: living[0][name] for name in _NEEDED}, **header})
        items = {row["C7_ITEM"] for row in living}
        for line in lines:
            if line.item and line.item not in items:
                raise _refused(_UNKNOWN, {"C7_NUM": order.number, "C7_ITEM": line.item}, "C7_ITEM")
            if not line.delete:
                self._check_line(line.columns, line.item or "novo", whole=not line.item)
        if items == {line.item for line in lines if line.delete} and all(line.item for line in lines):
            raise Refused(_text((_NO_CHANGE, "Todos os itens foram excluídos: utilize a exclusão do pedido."), []))
        with self._desk.transaction():
            if changed := _typed(header, HEAD):
                self._desk.change_header(order, changed)
            for line in lines:
                self._change_line(order, line)

    def delete(self, order: OrderKey) -> None:
        """Every row is marked. Raises Refused."""
        self._living(order)
        self._desk.delete_order(order)

    def eliminate_residue(self, order: OrderKey) -> None:
        """The closing routine (MATA235), which a wrapper may call. Raises Refused."""
        if not any(row["D_E_L_E_T_"] != "*" for row in self._desk.rows(order)):
            raise _refused(_UNKNOWN, {"C7_NUM": order.number}, "C7_NUM")
        self._desk.eliminate_residue(order)

    def release(self, order: OrderKey, mark: str) -> None:
        """An approver's decision (SCR): C7_CONAPRO becomes L or R. Raises Refused."""
        if not any(row["D_E_L_E_T_"] != "*" for row in self._desk.rows(order)):
            raise _refused(_UNKNOWN, {"C7_NUM": order.number}, "C7_NUM")
        self._desk.change_header(order, {"C7_CONAPRO": mark})

    def _living(self, order: OrderKey) -> list[dict[str, Any]]:
        """The rows of an order that may be changed."""
        living = [row for row in self._desk.rows(order) if row["D_E_L_E_T_"] != "*" and row["C7_TIPO"] == 1]
        if not living:
            raise _refused(_UNKNOWN, {"C7_NUM": order.number}, "C7_NUM")
        for column, why in (
            ("C7_QUJE", "Pedido já atendido total ou parcialmente: não pode ser alterado."),
            ("C7_QTDACLA", "Pedido em pré-nota a classificar: não pode ser alterado."),
            ("C7_RESIDUO", "Pedido com resíduo eliminado: não pode ser alterado."),
        ):
            if any(str(row[column]).strip() not in {"", "0", "0.0"} for row in living):
                raise Refused(_text((_NO_CHANGE, why), [f"{'Numero do Pedido':<22}- C7_NUM := {order.number}"]))
        return living

    def _check_header(self, header: Mapping[str, Any]) -> None:
        vendor, store = (str(header.get(name) or "").strip() for name in ("C7_FORNECE", "C7_LOJA"))
        named = {name: header.get(name) for name in ("C7_EMISSAO", "C7_FORNECE", "C7_LOJA", "C7_COND")}
        found = self._desk.master("SA2", {"A2_COD": vendor, "A2_LOJA": store})
        if found is None:
            known = self._desk.master("SA2", {"A2_COD": vendor}) is not None
            raise _refused(_UNKNOWN, named, "C7_LOJA" if known else "C7_FORNECE")
        if found["A2_MSBLQL"] == "1":
            raise _refused(_BLOCKED, named, "C7_FORNECE")
        if self._desk.master("SE4", {"E4_CODIGO": str(header.get("C7_COND") or "").strip()}) is None:
            raise _refused(_UNKNOWN if str(header.get("C7_COND") or "").strip() else _EMPTY, named, "C7_COND")

    def _check_line(self, columns: Mapping[str, Any], item: str, *, whole: bool) -> None:
        named = {"C7_ITEM": item, **{name: columns.get(name) for name in ("C7_PRODUTO", "C7_QUANT", "C7_PRECO")}}
        if whole or "C7_PRODUTO" in columns:
            found = self._desk.master("SB1", {"B1_COD": str(columns.get("C7_PRODUTO") or "").strip()})
            if found is None or found["B1_MSBLQL"] == "1":
                raise _refused(_BLOCKED if found else _UNKNOWN, named, "C7_PRODUTO", item)
        for name in ("C7_QUANT", "C7_PRECO"):
            if (whole or name in columns) and _number(columns.get(name)) <= 0:
                raise _refused(_NOTHING, named, name, item)

    def _change_line(self, order: OrderKey, line: LineAsked) -> None:
        if line.delete:
            self._desk.delete_line(order, line.item)
        elif line.item:
            if columns := _typed(line.columns, without=HEAD):
                self._desk.change_line(order, line.item, columns)
        else:
            rows = self._desk.rows(order)
            first = next(row for row in rows if row["D_E_L_E_T_"] != "*")
            header = {name: first[name] for name in (*HEAD, "C7_CONAPRO")}
            self._insert(order, header, line, f"{max(int(row['C7_ITEM']) for row in rows) + 1:04d}")

    def _insert(self, order: OrderKey, header: Mapping[str, Value], line: LineAsked, item: str) -> None:
        columns = _typed(line.columns, without=HEAD)
        quantity, price = _number(columns["C7_QUANT"]), _number(columns["C7_PRECO"])
        new = NewLine(str(columns["C7_PRODUTO"]), quantity, price, columns=columns)
        own: dict[str, Value] = {"C7_FILIAL": order.branch, "C7_NUM": order.number, "C7_TIPO": 1}
        self._desk.insert_line({**header, **own}, new, item)


def _typed(given: Mapping[str, Any], only: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Value]:
    """The columns that the dictionary has, as what they are; others are dropped without a word, as the routine does."""
    known = TABLES["SC7"]
    kept = {name for name in given if name in known and (name in only or not only) and name not in without}
    return {name: _value(known[name], given[name]) for name in given if name in kept and name != "C7_ITEM"}


def _value(column: Column, given: Any) -> Value:
    if column.kind == "N":
        return _number(given)
    text = "" if given is None else str(given)
    if column.kind == "D" and (match := _DAY.fullmatch(text)):
        return dt.date(*map(int, match.groups()))
    if column.kind == "D" and (match := _LOCAL_DAY.fullmatch(text)):
        return dt.date(*map(int, reversed(match.groups())))
    return text


def _number(given: Any) -> float:
    try:
        return float(given or 0)
    except (TypeError, ValueError):
        return 0


def _refused(help_: tuple[str, str], named: Mapping[str, Any], at: str, item: str = "") -> Refused:
    lines = [f"Erro no Item {item}"] if item else []
    for name, value in named.items():
        invalid = "    < -- Invalido" if name == at else ""
        lines.append(f"{_TITLES[name]:<22}- {name:<10} := {'' if value is None else value}{invalid}")
    return Refused(_text(help_, lines))


def _text(help_: tuple[str, str], lines: Sequence[str]) -> str:
    return "\r\n".join([f"AJUDA:{help_[0]}", help_[1], "", "Tabela SC7", *lines])
