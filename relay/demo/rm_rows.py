"""The movements of a simulated RM: kept whole, changed as one, stamped with its server's local time.

Nothing here knows what an approval or a receipt is; those are the hands in `rm.py`. What may be written from outside is
judged in `rm_rules.py`.
"""

import copy
import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

Record = dict[str, Any]
Id = tuple[int, int]
"""Company and movement."""


@dataclass(slots=True)
class Registers:
    """What orders point to. `None` as a vendor's company: known in every company."""

    companies: dict[int, tuple[int, ...]] = field(default_factory=lambda: {1: (1, 2), 2: (1,)})
    """Branches by company."""
    types: dict[str, str] = field(
        default_factory=lambda: {
            "1.1.10": "Ordem de Compra",
            "1.1.11": "Ordem de Compra - Serviço",
            "1.2.01": "Compra",
            "2.1.05": "Pedido de Venda",
        }
    )
    vendors: dict[str, str] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    terms: dict[str, str] = field(default_factory=dict)
    products: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    """Code, name and unit by IDPRD."""


class RmRows:
    """All movements of one RM. `clock` gives aware times."""

    def __init__(self, *, clock: Callable[[], dt.datetime], zone: str = "America/Sao_Paulo") -> None:
        self.registers = Registers()
        self._clock = clock
        self._stamping: Callable[[], dt.datetime | None] = clock
        self._zone = ZoneInfo(zone)
        self._movements: dict[Id, Record] = {}
        self._last = 4700

    def now(self) -> str:
        """The local time, as RM writes it: to the second, without a zone."""
        return self._local(self._clock())

    def today(self) -> dt.date:
        """The local day."""
        return self._clock().astimezone(self._zone).date()

    @contextmanager
    def stamped_at(self, moment: dt.datetime | None) -> Iterator[None]:
        """Changes inside get this stamp: a transaction that commits late shows up behind the reader's cursor.

        None leaves them without one: rows of an old import.
        """
        self._stamping = lambda: moment
        try:
            yield
        finally:
            self._stamping = self._clock

    def movements(self) -> list[Record]:
        """Every movement whole, by company and id."""
        return [copy.deepcopy(self._movements[key]) for key in sorted(self._movements)]

    def movement(self, key: Id) -> Record | None:
        """One movement, whole."""
        return copy.deepcopy(self._movements.get(key))

    def insert(self, record: Record) -> Id:
        """A new movement: it gets its id, its number and its stamps here, and its lines theirs."""
        self._last += 1
        key = int(record["CompanyId"]), self._last
        made = {
            **record,
            "InternalId": f"{key[0]}|{key[1]}",
            "MovementId": key[1],
            "Number": f"{self._last - 4700:06d}",
            "RECCREATEDON": self._stamp(),
        }
        self._movements[key] = self._settled(made)
        return key

    def replace(self, key: Id, record: Record) -> None:
        """The movement as it is from now on, in one transaction. Raises LookupError: there is none."""
        if key not in self._movements:
            raise LookupError(f"no such movement: {key}")
        self._movements[key] = self._settled(record)

    def remove(self, key: Id) -> None:
        """Delete a movement for good. Raises LookupError: there is none."""
        if self._movements.pop(key, None) is None:
            raise LookupError(f"no such movement: {key}")

    def put(self, key: Id, name: str, value: Any) -> None:
        """Put anything into a field, unchecked and unstamped: what a bad integration leaves behind."""
        self._movements[key][name] = value

    def _settled(self, record: Record) -> Record:
        """The record with what RM computes: line numbers, values, the stamp of its last change."""
        taken = [int(item["SequentialId"]) for item in record["Items"] if item.get("SequentialId")]
        free = iter(range(max(taken, default=0) + 1, 10_000))
        company, movement = record["CompanyId"], record["MovementId"]
        items = [
            {
                **item,
                "CompanyId": company,
                "MovementId": movement,
                "SequentialId": item.get("SequentialId") or next(free),
                "SequentialNumber": position,
                "NetValue": round(item["Quantity"] * item["UnitPrice"] - (item.get("DiscountValue") or 0), 2),
            }
            for position, item in enumerate(record["Items"], 1)
        ]
        gross = round(sum(item["NetValue"] for item in items), 2)
        net = round(gross + (record.get("FreightValue") or 0) - (record.get("DiscountValue") or 0), 2)
        computed = {"Items": items, "GrossValue": gross, "NetValue": net, "RECMODIFIEDON": self._stamp()}
        return copy.deepcopy({**record, **computed})

    def _stamp(self) -> str | None:
        moment = self._stamping()
        return self._local(moment) if moment else None

    def _local(self, moment: dt.datetime) -> str:
        return moment.astimezone(self._zone).replace(tzinfo=None).isoformat(timespec="seconds")
