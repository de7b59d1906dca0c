"""genericQuery of the simulated Protheus: parameters in, one page of raw rows out.

    tables, fields, where | FromQry, FilialFilter, DeletedFilter, order, page, pageSize
        -> {"items": [{"c7_num": "000123", ...}], "hasNext": false, "remainingRecords": 0}

Paging counts rows from the start each time, so a page shifts when a row comes or goes. `where` is raw SQL, as in the
real one, and goes to SQLite's parser with reading allowed only. Several tables without a join condition multiply.
"""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.demo.protheus import ProtheusDesk
from relay.demo.protheus_tables import BRANCH_OWNED, TABLES, branch_column, physical, readable_columns

_FALSE: Final = frozenset({"false", ".f.", "0"})


class QueryFault(Exception):
    """The query cannot be run; the message is what the ERP would say (and leak)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an installation does to every query."""

    hidden: frozenset[str] = frozenset()
    """Columns the user may not see."""
    largest_page: int | None = None
    """More rows than this are never given, whatever pageSize says."""
    noise: bool = True
    """Numbers with a fraction come out as 12.299999999999999."""


def generic_query(desk: ProtheusDesk, given: Mapping[str, str], branch: str, limits: Limits) -> dict[str, Any]:
    """Answer one page; `given` holds the parameters by lower-case name. Raises QueryFault."""
    aliases = _aliases(given.get("tables", ""))
    columns = _fields(given.get("fields", ""), aliases, stamps=desk.stamps)
    shown = [(alias, name) for alias, name in columns if name not in limits.hidden]
    page, size = _whole(given, "page", 1), _whole(given, "pagesize", 10)
    size = min(size, limits.largest_page or size)
    source, values = _source(desk, given, aliases, branch)
    order = _order(given.get("order", ""), aliases, stamps=desk.stamps)
    listed = ", ".join(f"{alias}.{name}" for alias, name in shown) or "1"
    try:
        (total,) = desk.select(f"SELECT COUNT(*) {source}", values)
        rows = desk.select(
            f"SELECT {listed} {source} ORDER BY {order} LIMIT ? OFFSET ?",
            [*values, size, (page - 1) * size],
        )
    except sqlite3.Error as error:
        raise QueryFault(f"Erro na execução da query: {error}") from error
    remaining = max(0, total[0] - page * size)
    answer = {
        "items": [_item(shown, row, noise=limits.noise) for row in rows],
        "hasNext": remaining > 0,
        "remainingRecords": remaining,
    }
    kept_back = sorted({name for _, name in columns} & limits.hidden)
    return answer | ({"protectedDataFields": kept_back} if kept_back else {})


def _aliases(text: str) -> list[str]:
    aliases = [alias.strip().upper() for alias in text.split(",") if alias.strip()]
    if not aliases:
        raise QueryFault("Parâmetro obrigatório não informado: tables")
    for alias in aliases:
        if alias not in TABLES:
            raise QueryFault(f"Alias {alias} não existe no dicionário")
    return aliases


def _fields(text: str, aliases: Sequence[str], *, stamps: bool) -> list[tuple[str, str]]:
    if not text.strip():
        return [(alias, name) for alias in aliases for name in readable_columns(alias, stamps=stamps)]
    return [_field(entry, aliases, stamps=stamps) for entry in text.split(",")]


def _field(entry: str, aliases: Sequence[str], *, stamps: bool) -> tuple[str, str]:
    qualifier, _, name = entry.strip().upper().rpartition(".")
    for alias in aliases:
        if qualifier in {"", alias} and name in readable_columns(alias, stamps=stamps):
            return alias, name
    raise QueryFault(f"Campo {entry.strip()} não existe")


def _order(text: str, aliases: Sequence[str], *, stamps: bool) -> str:
    terms = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, direction = entry.lstrip("-").partition(" ")
        alias, column = _field(name, aliases, stamps=stamps)
        backwards = entry.startswith("-") or direction.strip().upper() == "DESC"
        terms.append(f"{alias}.{column}{' DESC' if backwards else ''}")
    return ", ".join(terms) or f"{aliases[0]}.R_E_C_N_O_"


def _source(desk: ProtheusDesk, given: Mapping[str, str], aliases: Sequence[str], branch: str) -> tuple[str, list[Any]]:
    tables = given.get("fromqry") or ", ".join(f"{physical(alias, desk.company)} AS {alias}" for alias in aliases)
    conditions, values = [f"({given.get('where') or '1 = 1'})"], []
    if given.get("filialfilter", "true").lower() not in _FALSE:
        for alias in aliases:
            conditions.append(f"{alias}.{branch_column(alias)} = ?")
            values.append(TABLES[alias][branch_column(alias)].stored(branch if alias in BRANCH_OWNED else ""))
    if given.get("deletedfilter", "true").lower() not in _FALSE:
        conditions.extend(f"{alias}.D_E_L_E_T_ = ' '" for alias in aliases)
    return f"FROM {tables} WHERE {' AND '.join(conditions)}", values


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise QueryFault(f"Parâmetro inválido: {name}")
    return int(text)


def _item(columns: Sequence[tuple[str, str]], row: sqlite3.Row, *, noise: bool) -> dict[str, Any]:
    return {name.lower(): _shown(row[position], noise=noise) for position, (_, name) in enumerate(columns)}


def _shown(value: Any, *, noise: bool) -> Any:
    if isinstance(value, bytes):
        return value.decode("cp1252", "replace")
    if not isinstance(value, float):
        return value
    if value.is_integer():
        return int(value)
    return math.nextafter(value, 0) if noise else value
