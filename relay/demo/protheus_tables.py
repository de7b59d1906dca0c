"""The simulated Protheus's data dictionary: which columns its tables have, how wide they are, how they are stored.

    ("C7_NUM C6", "C7_QUANT N12.2", "C7_EMISSAO D") -> CREATE TABLE SC7T10 (...)

A character column is always padded with blanks to its size and never null; a blank date is eight blanks. The physical
table is alias + company + "0". Rows live in SQLite, so `where` is parsed by a real SQL parser, joins are real joins
and the stamp is moved by a real trigger, as DBAccess does it.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_ORDER_COLUMNS: Final = """
C7_FILIAL C8; C7_NUM C6; C7_ITEM C4; C7_SEQUEN C4; C7_TIPO N1; C7_EMISSAO D; C7_DATPRF D; C7_FORNECE C6; C7_LOJA C2;
C7_PRODUTO C15; C7_DESCRI C30; C7_UM C2; C7_LOCAL C2; C7_QUANT N12.2; C7_PRECO N14.2; C7_TOTAL N14.2; C7_QUJE N12.2;
C7_QTDACLA N12.2; C7_RESIDUO C1; C7_ENCER C1; C7_CONAPRO C1; C7_APROV C6; C7_GRUPCOM C6; C7_USER C6; C7_COMPRA C3;
C7_COND C3; C7_MOEDA N2; C7_TXMOEDA N11.4; C7_NUMSC C6; C7_ITEMSC C4; C7_NUMCOT C6; C7_CONTRA C15; C7_FILENT C8;
C7_CONTATO C15; C7_OBS C60; C7_CC C9; C7_CONTA C20; C7_TPFRETE C1; C7_VALIPI N14.2; C7_VALICM N14.2; C7_ICMSRET N14.2;
C7_DESPESA N14.2; C7_FRETE N14.2; C7_SEGURO N14.2; C7_VLDESC N14.2; C7_USERLGI C17; C7_USERLGA C17;
C7_XPRIOR C10; C7_XOBRA C12; C7_XPESO N10.3; C7_ZDTINT D; C7_XRELAY C40
"""
_VENDOR_COLUMNS: Final = """
A2_FILIAL C8; A2_COD C6; A2_LOJA C2; A2_NOME C40; A2_NREDUZ C20; A2_CGC C14; A2_TIPO C1; A2_MUN C60; A2_EST C2;
A2_MSBLQL C1
"""
_TERM_COLUMNS: Final = "E4_FILIAL C8; E4_CODIGO C3; E4_TIPO C1; E4_COND C40; E4_DESCRI C15"
_PRODUCT_COLUMNS: Final = "B1_FILIAL C8; B1_COD C15; B1_DESC C30; B1_TIPO C2; B1_UM C2; B1_LOCPAD C2; B1_MSBLQL C1"

Value = str | int | float | Decimal | dt.date | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the dictionary: kind C (characters), N (number) or D (date)."""

    name: str
    kind: str
    size: int = 8
    decimals: int = 0

    def stored(self, value: Value) -> str | float | int:
        """The value as the ERP keeps it: padded, `YYYYMMDD`, or a binary float (where the noise comes from)."""
        if self.kind == "N":
            return float(value) if isinstance(value, (int, float, Decimal)) else 0
        text = f"{value:%Y%m%d}" if isinstance(value, dt.date) else str(value or "")
        return text[: self.size].ljust(self.size)


def _columns(text: str) -> Mapping[str, Column]:
    columns = {}
    for entry in text.split(";"):
        name, shape = entry.split()
        size, _, decimals = shape[1:].partition(".")
        columns[name] = Column(name, shape[0], int(size or 8), int(decimals or 0))
    return columns


TABLES: Final[Mapping[str, Mapping[str, Column]]] = {
    "SC7": _columns(_ORDER_COLUMNS),
    "SA2": _columns(_VENDOR_COLUMNS),
    "SE4": _columns(_TERM_COLUMNS),
    "SB1": _columns(_PRODUCT_COLUMNS),
}
"""Columns by alias, without the system's own."""

BRANCH_OWNED: Final = frozenset({"SC7"})
"""Tables that hold a branch in each row; the others are shared and hold blanks there."""

ROW_COLUMNS: Final = ("R_E_C_N_O_", "D_E_L_E_T_", "R_E_C_D_E_L_")
STAMP_COLUMNS: Final = ("S_T_A_M_P_", "I_N_S_D_T_")


def branch_column(alias: str) -> str:
    """`SC7` -> `C7_FILIAL`."""
    return f"{alias[1:]}_FILIAL"


def physical(alias: str, company: str) -> str:
    """`SC7` of company `T1` -> `SC7T10`."""
    return f"{alias}{company}0"


def readable_columns(alias: str, *, stamps: bool) -> tuple[str, ...]:
    """Every column a query may name, in dictionary order, the system's own last."""
    return (*TABLES[alias], *ROW_COLUMNS, *(STAMP_COLUMNS if stamps else ()))


def schema(company: str, *, stamps: bool, blanks_count: bool) -> str:
    """The DDL of all tables; with `stamps`, the columns and triggers that DBAccess makes for UseRowStamp=1.

    `blanks_count` makes 'X ' another text than 'X', as Oracle and PostgreSQL do and SQL Server does not.
    """
    text = "TEXT" if blanks_count else "TEXT COLLATE RTRIM"
    return "\n".join(_table(alias, physical(alias, company), text, stamps=stamps) for alias in TABLES)


def _table(alias: str, table: str, text: str, *, stamps: bool) -> str:
    columns = ", ".join(
        f"{column.name} {'NUMERIC' if column.kind == 'N' else text}" for column in TABLES[alias].values()
    )
    own = "R_E_C_N_O_ INTEGER PRIMARY KEY AUTOINCREMENT, D_E_L_E_T_ TEXT DEFAULT ' ', R_E_C_D_E_L_ INTEGER DEFAULT 0"
    create = f"CREATE TABLE {table} ({columns}, {own}{', S_T_A_M_P_ TEXT, I_N_S_D_T_ TEXT' if stamps else ''});"
    return create + (_triggers(table) if stamps else "")


def _triggers(table: str) -> str:
    moved = f"UPDATE {table} SET S_T_A_M_P_ = utc_stamp() WHERE R_E_C_N_O_ = NEW.R_E_C_N_O_;"  # noqa: S608 - own names
    born = f"UPDATE {table} SET I_N_S_D_T_ = utc_stamp() WHERE R_E_C_N_O_ = NEW.R_E_C_N_O_;"  # noqa: S608 - own names
    return (
        f"CREATE TRIGGER {table}_INS AFTER INSERT ON {table} BEGIN {moved} {born} END;"
        f"CREATE TRIGGER {table}_UPD AFTER UPDATE ON {table} BEGIN {moved} END;"
    )
