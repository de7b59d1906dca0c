"""How the simulated RM shows movements: pages that count from the start, fields, expansion, orders and filters.

What a list or object inside holds comes collapsed, and is named in `_expandables`, until `expand` asks for it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.demo.rm_rows import Record
from relay.demo.rm_rules import RmSaysNo

EXPANDABLE: Final = ("Items", "Payments", "Taxes", "CostCenterApportionments")
_TERM: Final = re.compile(r"\s*(\w+)\s+eq\s+('([^']*)'|-?\d+)\s*", re.IGNORECASE)


def page_of(records: Sequence[Record], query: Mapping[str, str], *, by_change: bool, largest: int) -> Record:
    """One page of the list; `by_change`: whether RECMODIFIEDON is an order that this RM knows."""
    kept = _filtered(records, query.get("$filter", ""))
    ordered = _ordered(kept, query.get("order", ""), by_change=by_change)
    page, size = _positive(query, "page", 1), min(_positive(query, "pagesize", 10), largest)
    begin = (page - 1) * size
    return {
        "hasNext": len(ordered) > begin + size,
        "items": [shown(record, query) for record in ordered[begin : begin + size]],
    }


def shown(record: Record, query: Mapping[str, str]) -> Record:
    """A movement as it is answered: cut by `fields`, or with what `expand` names."""
    fields = [name for name in query.get("fields", "").split(",") if name]
    if fields:
        return {name: record[name] for name in fields if name in record and name not in EXPANDABLE}
    expanded = {name.lower() for name in query.get("expand", "").split(",")}
    collapsed = [name for name in EXPANDABLE if name.lower() not in expanded]
    told = {name: value for name, value in record.items() if name not in EXPANDABLE}
    inside = {name: [] if name in collapsed else record.get(name, []) for name in EXPANDABLE}
    return {**told, "_expandables": collapsed, **inside}


def _ordered(records: Sequence[Record], order: str, *, by_change: bool) -> list[Record]:
    """Sorted by the names given, the last first, so that the first decides; what RM does not know it ignores."""
    found = sorted(records, key=lambda record: (_rank(record["CompanyId"]), _rank(record["MovementId"])))
    for name in reversed([part for part in order.split(",") if part]):
        plain = name.removeprefix("-")
        if plain == "RECMODIFIEDON" and not by_change:
            continue
        found.sort(key=lambda record: _rank(record.get(plain)), reverse=name.startswith("-"))
    return found


def _rank(value: Any) -> tuple[bool, bool, Any]:
    """Nothing comes first, then numbers, then text."""
    return value is not None, isinstance(value, str), value if value is not None else 0


def _filtered(records: Sequence[Record], text: str) -> list[Record]:
    """A filter of equations joined by `and`. Raises RmSaysNo for anything else."""
    terms = []
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE) if text else ():
        term = _TERM.fullmatch(part)
        if not term:
            raise RmSaysNo("Filtro inválido.", text, status=400)
        terms.append((term[1], term[3] if term[3] is not None else int(term[2])))
    return [record for record in records if all(record.get(name) == value for name, value in terms)]


def _positive(query: Mapping[str, str], name: str, usual: int) -> int:
    value = query.get(name, str(usual))
    if not value.isdecimal() or not int(value):
        raise RmSaysNo(f"Valor inválido: {name}.", status=400)
    return int(value)
