"""A simulated Protheus's rows, and the hands of the people who work in it.

    create_order -> approve -> receive ... -> eliminate_residue        one row per line, header repeated on each
                     change_line, add_line, delete_line, delete_order, restore_order, purge

Every hand does to the rows what the real programs do and no more: approval flips C7_CONAPRO by direct SQL, a receipt
moves C7_QUJE alone, a deletion marks the row. S_T_A_M_P_ is moved by a trigger of the database, never by a hand.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from relay.demo.protheus_rows import BRANCHES, OrderKey, ProtheusRows
from relay.demo.protheus_tables import TABLES, Value, physical

Number = int | float | Decimal


@dataclass(frozen=True, slots=True)
class NewLine:
    """One line as a buyer types it; `columns` may fill any other C7 column."""

    product: str
    quantity: Number
    price: Number
    due: dt.date | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)


class ProtheusDesk(ProtheusRows):
    """The rows of one company and what its users do to them."""

    def __init__(
        self,
        *,
        company: str = "T1",
        branches: Sequence[str] = BRANCHES,
        stamps: bool = True,
        blanks_count: bool = False,
        clock: Callable[[], dt.datetime],
    ) -> None:
        super().__init__(company=company, branches=branches, stamps=stamps, blanks_count=blanks_count, clock=clock)
        self._next_number = 1

    # what a buyer does

    def create_order(  # noqa: PLR0913 - the header of an order has that many fields
        self,
        lines: Sequence[NewLine],
        vendor: tuple[str, str] = ("FOR001", "01"),
        *,
        branch: str | None = None,
        payment_term: str = "030",
        currency: int = 1,
        order_date: dt.date | None = None,
        approval: str = "B",
        note: str = "",
        columns: Mapping[str, Value] | None = None,
    ) -> OrderKey:
        """Include an order (MATA120, nOpc 3); `columns` may fill any other header column. Answers what names it."""
        order = self.take_number(branch or self.branches[0])
        header: dict[str, Value] = {
            "C7_FILIAL": order.branch,
            "C7_NUM": order.number,
            "C7_TIPO": 1,
            "C7_EMISSAO": order_date or self.today(),
            "C7_FORNECE": vendor[0],
            "C7_LOJA": vendor[1],
            "C7_COND": payment_term,
            "C7_MOEDA": currency,
            "C7_CONAPRO": approval,
            "C7_FILENT": order.branch,
            "C7_OBS": note,
            **(columns or {}),
        }
        for position, line in enumerate(lines, 1):
            self.insert_line(header, line, f"{position:04d}")
        return order

    def take_number(self, branch: str) -> OrderKey:
        """The next number (GETSX8NUM)."""
        self._next_number += 1
        return OrderKey(branch, f"{self._next_number - 1:06d}")

    def skip_number(self) -> None:
        """An inclusion that failed: GETSX8NUM rolled back, the number is never seen."""
        self._next_number += 1

    def change_line(self, order: OrderKey, item: str, columns: Mapping[str, Value]) -> None:
        """Change columns of one line; C7_TOTAL follows quantity and price."""
        self._update(order, columns, item=item)
        self.change("C7_TOTAL = ROUND(C7_QUANT * C7_PRECO, 2)", (), order, item)

    def change_header(self, order: OrderKey, columns: Mapping[str, Value]) -> None:
        """Change a header column, which sits on every row."""
        self._update(order, columns)

    def add_line(self, order: OrderKey, line: NewLine) -> str:
        """Add a line; answers its item number."""
        rows = self.rows(order)
        item = f"{max(int(row['C7_ITEM']) for row in rows) + 1:04d}"
        header = {name: rows[0][name] for name in TABLES["SC7"] if name not in _LINE_ONLY}
        self.insert_line(header, line, item)
        return item

    def insert_line(self, header: Mapping[str, Value], line: NewLine, item: str) -> None:
        """A row of these header columns and this line."""
        self.insert("SC7", {**header, **self._line_columns(line, item)})

    def delete_line(self, order: OrderKey, item: str) -> None:
        """Delete a line the ERP's way: the row stays, marked."""
        self._mark(order, "*", item=item)

    def delete_order(self, order: OrderKey) -> None:
        """Delete an order the ERP's way: every row stays, marked."""
        self._mark(order, "*")

    def restore_order(self, order: OrderKey) -> None:
        """Take the marks away again, as a database operator would."""
        self._mark(order, " ")

    def purge(self, order: OrderKey) -> None:
        """Remove the rows for good (a pack of the table): no query shows them any more."""
        self.remove(order)

    # what approvers, the warehouse and the closing routine do

    def approve(self, order: OrderKey) -> None:
        """Release a blocked order: one direct SQL statement over its rows."""
        self._update(order, {"C7_CONAPRO": "L"})

    def block(self, order: OrderKey) -> None:
        """Send an order back to approval."""
        self._update(order, {"C7_CONAPRO": "B"})

    def receive(self, order: OrderKey, item: str, quantity: Number) -> None:
        """Receive a quantity: C7_QUJE moves and nothing else."""
        self._add(order, item, "C7_QUJE", quantity)

    def pre_receive(self, order: OrderKey, item: str, quantity: Number) -> None:
        """A receipt not yet classified: C7_QTDACLA moves."""
        self._add(order, item, "C7_QTDACLA", quantity)

    def eliminate_residue(self, order: OrderKey, item: str | None = None) -> None:
        """Close what is still open, of one line or of the order."""
        self._update(order, {"C7_RESIDUO": "S"}, item=item)

    # other tables, junk, and looking

    def add_vendor(self, code: str, store: str, name: str, columns: Mapping[str, Value] | None = None) -> None:
        """Add a vendor; code and store together are its key."""
        self.insert("SA2", {"A2_COD": code, "A2_LOJA": store, "A2_NOME": name, "A2_NREDUZ": name, **(columns or {})})

    def rename_vendor(self, code: str, store: str, name: str) -> None:
        """Change a vendor's name; no order's row moves."""
        self._of_vendor(code, store, "A2_NOME", name)

    def block_vendor(self, code: str, store: str) -> None:
        """Nothing more is bought there (A2_MSBLQL)."""
        self._of_vendor(code, store, "A2_MSBLQL", "1")

    def add_term(self, code: str, description: str) -> None:
        """Add a payment term."""
        self.insert("SE4", {"E4_CODIGO": code, "E4_DESCRI": description})

    def add_product(self, code: str, description: str, unit: str) -> None:
        """Add a product."""
        self.insert("SB1", {"B1_COD": code, "B1_DESC": description, "B1_UM": unit, "B1_LOCPAD": "01"})

    def retire_product(self, code: str) -> None:
        """It is bought no more (B1_MSBLQL)."""
        self._rows.execute(
            f"UPDATE {physical('SB1', self.company)} SET B1_MSBLQL = '1' WHERE B1_COD = ?",  # noqa: S608 - own names
            (TABLES["SB1"]["B1_COD"].stored(code),),
        )

    def corrupt(
        self, order: OrderKey, column: str, value: str | float | bytes | None, *, item: str | None = None
    ) -> None:
        """Put anything into a column, unpadded and unchecked: what a bad integration leaves behind."""
        self.write(order, {column: value}, item)

    def _of_vendor(self, code: str, store: str, column: str, value: str) -> None:
        stored = TABLES["SA2"][column].stored(value)
        self._rows.execute(
            f"UPDATE {physical('SA2', self.company)} SET {column} = ? WHERE A2_COD = ? AND A2_LOJA = ?",  # noqa: S608 - own names
            (stored, code, store),
        )

    def _line_columns(self, line: NewLine, item: str) -> dict[str, Value]:
        product = self._rows.execute(
            f"SELECT B1_DESC, B1_UM FROM {physical('SB1', self.company)} WHERE B1_COD = ?",  # noqa: S608 - own table name
            (TABLES["SB1"]["B1_COD"].stored(line.product),),
        ).fetchone()
        return {
            "C7_ITEM": item,
            "C7_PRODUTO": line.product,
            "C7_DESCRI": product["B1_DESC"] if product else line.product,
            "C7_UM": product["B1_UM"] if product else "UN",
            "C7_LOCAL": "01",
            "C7_QUANT": line.quantity,
            "C7_PRECO": line.price,
            "C7_TOTAL": round(float(line.quantity) * float(line.price), 2),
            "C7_DATPRF": line.due or self.today() + dt.timedelta(days=20),
            **line.columns,
        }

    def _update(self, order: OrderKey, columns: Mapping[str, Value], *, item: str | None = None) -> None:
        known = TABLES["SC7"]
        self.write(order, {name: known[name].stored(value) for name, value in columns.items()}, item)

    def _add(self, order: OrderKey, item: str, column: str, quantity: Number) -> None:
        self.change(f"{column} = {column} + ?", (float(quantity),), order, item)

    def _mark(self, order: OrderKey, mark: str, *, item: str | None = None) -> None:
        key = "R_E_C_N_O_" if mark == "*" else "0"
        self.change(f"D_E_L_E_T_ = ?, R_E_C_D_E_L_ = {key}", (mark,), order, item)


_LINE_ONLY: Final = frozenset(
    f"C7_{name}"
    for name in (
        *("ITEM", "PRODUTO", "DESCRI", "UM", "LOCAL", "QUANT", "PRECO", "TOTAL", "QUJE", "QTDACLA", "DATPRF"),
        *("RESIDUO", "ENCER", "CC", "NUMSC", "ITEMSC", "VALIPI", "VALICM", "VLDESC", "XPESO"),
    )
)
