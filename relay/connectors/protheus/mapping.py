"""Which column of Protheus feeds which canonical field: the field mapping, as data.

`header_rules` are read from one row of the order (the header is repeated on each), `line_rules` from every row;
`MADE` are the fields that `assembly.py` makes of several values. A2_, E4_ and B1_ columns are looked up and put
beside the row's own.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.mapping import LINES, Reader, Rule, derived
from relay.connectors.kit.own_columns import own_rules
from relay.connectors.kit.readers import bare, code, date, money, number_of, plain, quantity, text
from relay.connectors.protheus.codes import Codes
from relay.connectors.protheus.settings import ProtheusSettings
from relay.domain.mapping import MappingOverrides

FREIGHT: Final = {"C": "CIF", "F": "FOB", "T": "THIRD_PARTY", "S": "NONE"}

BRANCH: Final = "C7_FILIAL"
NUMBER: Final = "C7_NUM"
ITEM: Final = "C7_ITEM"
SEQUENCE: Final = "C7_SEQUEN"
STAMP: Final = "S_T_A_M_P_"
DELETED: Final = "D_E_L_E_T_"
ROW_ID: Final = "R_E_C_N_O_"

MONEY_COLUMNS: Final = ("C7_TOTAL", "C7_VLDESC", "C7_VALIPI", "C7_ICMSRET", "C7_FRETE", "C7_SEGURO", "C7_DESPESA")
"""What the totals of the header are made of."""

_QUANTITIES: Final = "C7_QUANT, C7_QUJE"
_STANDING: Final = f"C7_CONAPRO, C7_RESIDUO, C7_ENCER, {_QUANTITIES}"

MADE: Final[tuple[Rule, ...]] = (
    Rule("remote_id", f"{BRANCH}, {NUMBER}", derived("branch|number")),
    Rule("lines[].remote_id", f"{ITEM}, {SEQUENCE}", derived("item, or item|sequence")),
    Rule("type", "C7_CONTRA", derived("contract_release when filled on a line, else standard", "code")),
    Rule("status", _STANDING, derived("legend of MATA121 over the living rows", "code")),
    Rule("status_raw", _STANDING, derived("the codes as the ERP holds them")),
    Rule("approval_status", "C7_CONAPRO", derived("B pending, L approved, R rejected, blank not required", "code")),
    Rule("receipt_status", "C7_QUANT, C7_QUJE, C7_RESIDUO", derived("quantities of the living rows", "code")),
    Rule("company.remote_id", "tenantId", derived("company of the connection's tenant")),
    Rule("vendor.remote_id", "C7_FORNECE, C7_LOJA", derived("code|store")),
    Rule("vendor.tax_id_type", "A2_CGC", derived("CNPJ of 14 digits, CPF of 11", "code")),
    Rule("currency", "C7_MOEDA", derived("currency index by the connection's map", "code")),
    Rule("delivery_date", "C7_DATPRF", derived("latest of the living lines", "date")),
    Rule("subtotal", "C7_TOTAL", derived("sum of the living lines", "amount")),
    Rule("discount_total", "C7_VLDESC", derived("sum of the living lines", "amount")),
    Rule("tax_total", "C7_VALIPI, C7_ICMSRET", derived("sum of the living lines: IPI and ICMS-ST", "amount")),
    Rule("freight_total", "C7_FRETE", derived("sum of the living lines", "amount")),
    Rule("total", ", ".join(MONEY_COLUMNS), derived("subtotal - discount + taxes + freight and other costs", "amount")),
    Rule("notes", "C7_OBS", derived("different notes of the living lines, one a row")),
    Rule("remote_version", "every column that is read", derived("hash of the rows as they are: any change is another")),
    Rule("remote_updated_at", STAMP, derived("latest of the rows, UTC", "datetime")),
    Rule("lines[].status", "C7_QUANT, C7_QUJE, C7_RESIDUO, C7_ENCER", derived("legend of MATA121", "code")),
    Rule("lines[].unit", "C7_UM", derived("UN/ECE Rec 20 by the connection's map", "code")),
    Rule("lines[].open_quantity", f"{_QUANTITIES}, C7_QTDACLA", derived("ordered - received - pre-received", "amount")),
    Rule(
        "lines[].cancelled_quantity",
        f"{_QUANTITIES}, C7_RESIDUO",
        derived("ordered - received once eliminated", "amount"),
    ),
    Rule("lines[].source_request", "C7_NUMSC, C7_ITEMSC", derived("request|item")),
)


def header_rules(own: MappingOverrides) -> tuple[Rule, ...]:
    """Header fields read from one column each."""
    places = Codes(own).places
    return (
        Rule("number", NUMBER, text(), 6),
        Rule("branch.remote_id", BRANCH, text(), 12),
        Rule("vendor.code", "C7_FORNECE", text(), 6),
        Rule("vendor.site_code", "C7_LOJA", text(), 2),
        Rule("vendor.name", "A2_NOME", text(), 40),
        Rule("vendor.tax_id", "A2_CGC", text(), 14),
        Rule("buyer", "C7_COMPRA", text(), 3),
        Rule("currency_raw", "C7_MOEDA", _index()),
        Rule("exchange_rate", "C7_TXMOEDA", _rate(places("C7_TXMOEDA"))),
        Rule("order_date", "C7_EMISSAO", date()),
        Rule("payment_terms.remote_id", "C7_COND", text(), 3),
        Rule("payment_terms.code", "C7_COND", text(), 3),
        Rule("payment_terms.description", "E4_DESCRI", text(), 15),
        Rule("freight_type", "C7_TPFRETE", code(FREIGHT), 1),
        Rule("ship_to.location_code", "C7_FILENT", text(), 12),
        *own_rules(own.fields),
    )


def line_rules(own: MappingOverrides) -> tuple[Rule, ...]:
    """Line fields read from one column each."""
    places = Codes(own).places
    return (
        Rule("lines[].line_number", ITEM, text(), 4),
        Rule("lines[].item.remote_id", "C7_PRODUTO", text(), 15),
        Rule("lines[].item.code", "C7_PRODUTO", text(), 15),
        Rule("lines[].item.description", "C7_DESCRI", text(), 30),
        Rule("lines[].quantity", "C7_QUANT", quantity(places("C7_QUANT"))),
        Rule("lines[].unit_raw", "C7_UM", text(), 2),
        Rule("lines[].unit_price", "C7_PRECO", money(places("C7_PRECO"))),
        Rule("lines[].discount", "C7_VLDESC", money(places("C7_VLDESC"))),
        Rule("lines[].tax", "C7_VALIPI", money(places("C7_VALIPI"))),
        Rule("lines[].amount", "C7_TOTAL", money(places("C7_TOTAL"))),
        Rule("lines[].required_date", "C7_DATPRF", date()),
        Rule("lines[].warehouse", "C7_LOCAL", text(), 2),
        Rule("lines[].cost_center", "C7_CC", text(), 9),
        Rule("lines[].account", "C7_CONTA", text(), 20),
        Rule("lines[].received_quantity", "C7_QUJE", quantity(places("C7_QUJE"))),
        *own_rules(own.line_fields, LINES),
    )


def wanted_columns(settings: ProtheusSettings, *, stamps: bool, own: Iterable[str] = ()) -> tuple[str, ...]:
    """The columns of SC7 to ask for, each once, in a settled order; `own` are those that mappings name."""
    system = (DELETED, ROW_ID, *((STAMP,) if stamps else ()))
    wanted = dict.fromkeys((*usual_columns(), *own, *system))
    return tuple(name for name in wanted if name not in settings.absent_columns)


def usual_columns() -> tuple[str, ...]:
    """The columns of SC7 that are asked for whatever a mapping says."""
    usual = MappingOverrides()
    rules = (*header_rules(usual), *line_rules(usual), *MADE)
    named = (part for rule in rules for part in rule.source.split(", ") if part.startswith("C7_"))
    return tuple(dict.fromkeys((BRANCH, NUMBER, ITEM, "C7_SEQUEN", "C7_QTDACLA", *named)))


def _index() -> Reader:
    return Reader("currency index", "code", lambda value: None if value is None else format(plain(_whole(value)), "f"))


def _whole(value: Any) -> Decimal:
    number = number_of(value)
    if number is None or number != number.to_integral_value():
        raise ValueError("expected a whole number")
    return number


def _rate(decimals: int) -> Reader:
    return Reader("number; 0 means 1", "amount", lambda value: bare(value, decimals) or Decimal(1), decimals)
