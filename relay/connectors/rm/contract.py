"""What RM takes of a movement, as JSON Schema: the published contract of its movements, as far as purchases use it.

    MOVEMENT          what a new movement may hold (MovementType)
    MOVEMENT_UPDATE   what a change may hold (MovementUpdateType): the same without the fields that are set only once
    capabilities      = what both hold, and what only the first does, less what RM computes by itself

The whole contract has 286 fields of the order, 66 of them set only once, and 395 of a line. A line has one type for
both, so whatever a new line takes a changed one takes too.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.connectors.kit.mapping import Rule, Writable
from relay.domain.orders import Status

Property = dict[str, Any]
Properties = Mapping[str, Property]


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _text(*, most: int) -> Property:
    return {"type": "string", "maxLength": most}


_INTEGER: Final[Property] = {"type": "integer"}
_NUMBER: Final[Property] = {"type": "number"}
_FLAG: Final[Property] = {"type": "boolean"}
_TIME: Final[Property] = {
    "type": ["string", "null"],
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?$",
}

ITEM: Final[Properties] = {
    **dict.fromkeys(("CompanyId", "MovementId", "SequentialId", "SequentialNumber", "ProductId"), _INTEGER),
    "ProductCodeValue": _text(most=30),
    "ProductCodeType": _text(most=10),
    **dict.fromkeys(
        ("Quantity", "OriginalQuantity", "TotalQuantity", "ReceivableQuantity", "CompletedQuantity"), _NUMBER
    ),
    "MeasureUnitCode": _text(most=5),
    **dict.fromkeys(("UnitPrice", "UnitValue", "GrossValue", "NetValue", "TotalValue"), _NUMBER),
    **dict.fromkeys(("DiscountPercentage", "DiscountValue", "ExpensePercentage", "ExpenseValue"), _NUMBER),
    **dict.fromkeys(("RegisterDate", "DeliveryDate", "BudgetDate"), _TIME),
    "WarehouseCode": _text(most=15),
    "CostCenterCode": _text(most=25),
    "Status": _text(most=1),
    "NCMId": _text(most=14),
    "complementaryFields": {"type": "object"},
    "Taxes": {"type": "array"},
}
MOVEMENT: Final[Properties] = {
    "InternalId": {"type": "string", "pattern": r"^\d+\|-?\d+$"},
    **dict.fromkeys(("CompanyId", "MovementId", "BranchId", "Level"), _INTEGER),
    # The contract writes the first, some installations the second.
    **dict.fromkeys(("CostumerVendorCompanyId", "CustomerVendorCompanyId"), _INTEGER),
    **dict.fromkeys(("CostumerVendorCode", "CustomerVendorCode"), _text(most=25)),
    **dict.fromkeys(("AccountingEventCode", "GeneratedEntryNumber", "StoreFrontStockId", "ZReductionId"), _INTEGER),
    **dict.fromkeys(("TaxesNumber", "CTRCMovementId", "ProjectId", "DeliveryTime", "FreightNatureId"), _INTEGER),
    "MovementTypeCode": _text(most=10),
    "Number": _text(most=35),
    "Series": _text(most=8),
    "SubSeries": _text(most=8),
    "OrderNumber": _text(most=20),
    "PaymentTermCode": _text(most=5),
    "Observation": _text(most=60),
    **dict.fromkeys(("FreeField1", "FreeField2", "FreeField3"), _text(most=100)),
    **dict.fromkeys(("WarehouseCode", "DeliveryWarehouseCode", "DestinyWarehouseCode"), _text(most=15)),
    "CommercialRepresentativeCode": _text(most=15),
    "DocumentTypeCode": _text(most=10),
    "NetValueCurrencyCode": _text(most=10),
    "AplicationIntegration": _text(most=1),
    **dict.fromkeys(("Type", "Status", "PreviousStatus", "ReleaseStatus", "PurchaseStatus"), _text(most=1)),
    **dict.fromkeys(
        ("GrossValue", "NetValue", "OtherValues", "FreightValue", "DiscountValue", "InformedNetValue"), _NUMBER
    ),
    **dict.fromkeys(("FreightPercentage", "CommercialRepresentativeCharge"), _NUMBER),
    **dict.fromkeys(("RegisterDate", "DeliveryDate", "ScheduledDeliveryDate", "ExitDate", "AccountingDate"), _TIME),
    **dict.fromkeys(("ExtraDate1", "ExtraDate2", "Date", "BaseDate", "CreationDate", "CancellationDate"), _TIME),
    **dict.fromkeys(("RECCREATEDON", "RECMODIFIEDON"), _TIME),
    **dict.fromkeys(("RECCREATEDBY", "RECMODIFIEDBY"), _text(most=50)),
    **dict.fromkeys(("ProcessedFlag", "GroupedItems", "Printed", "EmailStatus", "ParadigmaAutoIntegrated"), _FLAG),
    "complementaryFields": {"type": "object"},
    "Items": {
        "type": "array",
        "items": {"type": "object", "properties": dict(ITEM), "additionalProperties": False},
    },
}
SET_ONCE: Final = _names(
    "BranchId MovementTypeCode Date BaseDate CreationDate CancellationDate NetValueCurrencyCode ReleaseStatus "
    "ProcessedFlag Level GroupedItems TaxesNumber GeneratedEntryNumber StoreFrontStockId ZReductionId "
    "ParadigmaAutoIntegrated"
)
"""In MovementType and not in MovementUpdateType."""
MOVEMENT_UPDATE: Final[Properties] = {name: told for name, told in MOVEMENT.items() if name not in SET_ONCE}

IDENTIFYING: Final = ("InternalId", "CompanyId", "MovementId", "Status", "AplicationIntegration")
"""What the contract requires of every body."""
COMPUTED: Final = frozenset(IDENTIFYING) | _names(
    "Number PreviousStatus CancellationDate GrossValue NetValue RECCREATEDON RECCREATEDBY RECMODIFIEDON RECMODIFIEDBY"
)
"""Of the order: what RM makes by itself, whatever the contract would take."""
COMPUTED_OF_ITEM: Final = _names(
    "CompanyId MovementId SequentialId SequentialNumber OriginalQuantity TotalQuantity ReceivableQuantity "
    "CompletedQuantity UnitValue GrossValue NetValue TotalValue Status Taxes"
)
NEEDED: Final = frozenset(
    f"lines[].{name}" if line else name
    for line, names in (
        (False, ("branch.remote_id", "vendor.code", "payment_terms.code")),
        (True, ("item.remote_id", "quantity", "unit_price")),
    )
    for name in names
)
"""What a new purchase order cannot be without."""

_LINES: Final = "lines[]."


def schema(properties: Properties) -> dict[str, Any]:
    """The JSON Schema of a body with these properties and no others."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": dict(properties),
        "required": list(IDENTIFYING),
        "additionalProperties": False,
    }


def writable(rules: Iterable[Rule]) -> dict[str, Writable]:
    """What RM takes of each canonical field, from the difference of the two types."""
    return {
        rule.path: Writable(
            required=rule.path in NEEDED, until=Status.APPROVED if _all_in(_of_update(rule), rule) else None
        )
        for rule in rules
        if _all_in(_of_new(rule), rule)
    }


def _of_new(rule: Rule) -> frozenset[str]:
    if rule.path.startswith(_LINES):
        return frozenset(ITEM) - COMPUTED_OF_ITEM
    return frozenset(MOVEMENT) - COMPUTED


def _of_update(rule: Rule) -> frozenset[str]:
    return _of_new(rule) if rule.path.startswith(_LINES) else frozenset(MOVEMENT_UPDATE) - COMPUTED


def _all_in(names: frozenset[str], rule: Rule) -> bool:
    return all(part.partition(".")[0] in names for part in rule.source.split(", "))
