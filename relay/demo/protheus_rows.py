"""The rows of a simulated Protheus: stored as its dictionary says, changed and read by their keys.

Nothing here knows what an approval or a receipt is; those are the hands in `protheus.py`.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from relay.demo import protheus_tables as tables
from relay.demo.protheus_tables import Value

BRASILIA: Final = dt.timezone(dt.timedelta(hours=-3))
BRANCHES: Final = ("D MG 01", "D MG 02", "M SP 01")


class OrderKey(NamedTuple):
    """What names a purchase order: branch (blanks inside matter) and number."""

    branch: str
    number: str


class ProtheusRows:
    """The tables of one company.

    `stamps=False` is a customer who never switched UseRowStamp on. `clock` gives aware times; stamps are kept in UTC
    while order dates are Brazil's local dates, as in the real one.
    """

    def __init__(
        self,
        *,
        company: str = "T1",
        branches: Sequence[str] = BRANCHES,
        stamps: bool = True,
        blanks_count: bool = False,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self.company = company
        self.branches = tuple(branches)
        self.stamps = stamps
        self._clock = clock
        self._stamping: Callable[[], dt.datetime | None] = clock
        self._rows = sqlite3.connect(":memory:", isolation_level=None)
        self._rows.row_factory = sqlite3.Row
        self._rows.create_function("utc_stamp", 0, self._stamp)
        # SQLite's automatic indexes do not honour RTRIM: a join on blank columns would find nothing.
        self._rows.execute("PRAGMA automatic_index = OFF")
        self._rows.executescript(tables.schema(company, stamps=stamps, blanks_count=blanks_count))
        self._orders = tables.physical("SC7", company)

    def close(self) -> None:
        """Forget all rows."""
        self._rows.close()

    def today(self) -> dt.date:
        """The local date in Brazil, which is what C7_EMISSAO holds."""
        return self._clock().astimezone(BRASILIA).date()

    @contextmanager
    def stamped_at(self, moment: dt.datetime | None) -> Iterator[None]:
        """Changes inside get this stamp: a long transaction that commits late shows up behind the reader's cursor.

        None leaves them without: rows older than the day on which stamps were switched on.
        """
        self._stamping = lambda: moment
        try:
            yield
        finally:
            self._stamping = self._clock

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing of it."""
        self._rows.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._rows.execute("ROLLBACK")
            raise
        self._rows.execute("COMMIT")

    def master(self, alias: str, keys: Mapping[str, str]) -> dict[str, Any] | None:
        """The first living row of a table with these trimmed codes; None when there is none."""
        where = " AND ".join(f"{name} = ?" for name in keys)
        values = [tables.TABLES[alias][name].stored(value) for name, value in keys.items()]
        table = tables.physical(alias, self.company)
        row = self._rows.execute(f"SELECT * FROM {table} WHERE D_E_L_E_T_ = ' ' AND {where}", values).fetchone()  # noqa: S608 - own names
        return dict(row) if row else None

    def orders(self) -> list[OrderKey]:
        """All orders with at least one row that is not deleted, by key."""
        statement = f"SELECT DISTINCT C7_FILIAL, C7_NUM FROM {self._orders} WHERE D_E_L_E_T_ = ' ' ORDER BY 1, 2"  # noqa: S608 - own table name
        return [OrderKey(row[0].rstrip(), row[1]) for row in self._rows.execute(statement)]

    def purchase_orders(self, *, deleted: bool = True) -> list[OrderKey]:
        """Every purchase order that has rows, with or without the deleted ones."""
        alive = "" if deleted else " AND D_E_L_E_T_ = ' '"
        statement = f"SELECT DISTINCT C7_FILIAL, C7_NUM FROM {self._orders} WHERE C7_TIPO = 1{alive} ORDER BY 1, 2"  # noqa: S608 - own names
        return [OrderKey(row[0].rstrip(), row[1]) for row in self._rows.execute(statement)]

    def rows(self, order: OrderKey) -> list[dict[str, Any]]:
        """The stored rows of one order, deleted ones too, by line."""
        statement = f"SELECT * FROM {self._orders} WHERE C7_FILIAL = ? AND C7_NUM = ? ORDER BY C7_ITEM"  # noqa: S608 - own table name
        return [dict(row) for row in self._rows.execute(statement, _padded(order))]

    def select(self, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        """Rows of a statement that holds SQL from outside; anything but reading is refused (`sqlite3.Error`)."""
        self._rows.set_authorizer(_reading_only)
        try:
            return self._rows.execute(statement, values).fetchall()
        finally:
            self._rows.set_authorizer(None)

    def insert(self, alias: str, given: Mapping[str, Value]) -> None:
        """A new row; columns not given are blank."""
        columns = tables.TABLES[alias]
        values = [column.stored(given.get(name)) for name, column in columns.items()]
        marks = ", ".join("?" * len(values))
        table = tables.physical(alias, self.company)
        self._rows.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)  # noqa: S608 - own names

    def write(self, order: OrderKey, columns: Mapping[str, Any], item: str | None = None) -> None:
        """Put values as they are into the rows of an order, or of one line. Raises LookupError: no such row."""
        settings = ", ".join(f"{name} = ?" for name in columns)
        self.change(settings, (*columns.values(),), order, item)

    def change(self, settings: str, values: Sequence[Any], order: OrderKey, item: str | None = None) -> None:
        """One UPDATE over the rows of an order, or of one line. Raises LookupError: no such row."""
        where = "C7_FILIAL = ? AND C7_NUM = ? AND (? IS NULL OR C7_ITEM = ?)"
        statement = f"UPDATE {self._orders} SET {settings} WHERE {where}"  # noqa: S608 - own names
        if not self._rows.execute(statement, (*values, *_padded(order), item, item)).rowcount:
            raise LookupError(f"no such order or line: {order} {item or ''}")

    def remove(self, order: OrderKey) -> None:
        """Take the rows of an order away for good."""
        self._rows.execute(f"DELETE FROM {self._orders} WHERE C7_FILIAL = ? AND C7_NUM = ?", _padded(order))  # noqa: S608 - own table name

    def _stamp(self) -> str | None:
        moment = self._stamping()
        return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") if moment else None


def _padded(order: OrderKey) -> tuple[str, str]:
    columns = tables.TABLES["SC7"]
    return str(columns["C7_FILIAL"].stored(order.branch)), str(columns["C7_NUM"].stored(order.number))


_READING: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})


def _reading_only(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
