"""The hands of the people who work in a simulated RM.

    create_order -> approve -> receive ... -> finish        statuses A, B, C, F, G of TMOV
                    change_line, add_line, remove_line, cancel, delete

A receipt lowers what is still to come and sets G, or F when nothing is; a cancelled order stays where it is, a deleted
one is gone.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.demo.rm_rows import Id, Record, RmRows

OPEN, BLOCKED, CANCELLED, FINISHED, PARTIAL = "A", "B", "C", "F", "G"
"""TMOV.STATUS."""
ORDER_TYPE: Final = "1.1.10"


@dataclass(frozen=True, slots=True)
class NewItem:
    """One line as a buyer types it; `fields` may fill any other field."""

    product: int
    quantity: float
    price: float
    due: dt.date | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


class RmDesk(RmRows):
    """The movements of one RM and what its users do to them."""

    def create_order(  # noqa: PLR0913 - the header of an order has that many fields
        self,
        items: Sequence[NewItem],
        vendor: str = "F00012",
        *,
        branch: int = 1,
        company: int = 1,
        type_code: str = ORDER_TYPE,
        status: str = OPEN,
        currency: str = "R$",
        fields: Mapping[str, Any] | None = None,
    ) -> Id:
        """Include a movement; `fields` may fill any other header field. Answers what names it."""
        header: Record = {
            "CompanyId": company,
            "BranchId": branch,
            "MovementTypeCode": type_code,
            "Status": status,
            "RegisterDate": f"{self.today()}T00:00:00",
            "DeliveryDate": f"{self.today() + dt.timedelta(days=20)}T00:00:00",
            "CustomerVendorCompanyId": 0,
            "CustomerVendorCode": vendor,
            "PaymentTermCode": "030",
            "NetValueCurrencyCode": currency,
            "Observation": None,
            "FreeField1": None,
            "FreeField2": None,
            "FreeField3": None,
            **(fields or {}),
        }
        return self.insert({**header, "Items": [self._item(each) for each in items]})

    def change_header(self, order: Id, fields: Mapping[str, Any]) -> None:
        """Change fields of the header."""
        self.replace(order, {**self._found(order), **fields})

    def change_line(self, order: Id, line: int, fields: Mapping[str, Any]) -> None:
        """Change fields of one line; what is still to come follows the quantity."""
        record = self._found(order)
        for item in record["Items"]:
            if item["SequentialId"] == line:
                received = item["Quantity"] - item["ReceivableQuantity"]
                item.update(fields)
                item["ReceivableQuantity"] = max(0, item["Quantity"] - received)
        self.replace(order, record)

    def add_line(self, order: Id, item: NewItem) -> int:
        """Add a line; answers what names it."""
        record = self._found(order)
        self.replace(order, {**record, "Items": [*record["Items"], self._item(item)]})
        return int(self._found(order)["Items"][-1]["SequentialId"])

    def remove_line(self, order: Id, line: int) -> None:
        """Take a line out of the order: it is gone."""
        record = self._found(order)
        self.replace(order, {**record, "Items": [each for each in record["Items"] if each["SequentialId"] != line]})

    def block(self, order: Id) -> None:
        """Over budget: somebody must approve it."""
        self.change_header(order, {"Status": BLOCKED})

    def approve(self, order: Id) -> None:
        """Release a blocked order."""
        self.change_header(order, {"Status": OPEN})

    def receive(self, order: Id, line: int, quantity: float) -> None:
        """Receive a quantity; the order is partly received, or finished when nothing is still to come."""
        record = self._found(order)
        for item in record["Items"]:
            if item["SequentialId"] == line:
                item["ReceivableQuantity"] = max(0, round(item["ReceivableQuantity"] - quantity, 4))
        record["Status"] = PARTIAL if any(item["ReceivableQuantity"] for item in record["Items"]) else FINISHED
        self.replace(order, record)

    def finish(self, order: Id) -> None:
        """Close an order, whatever is still to come."""
        self.change_header(order, {"Status": FINISHED})

    def cancel(self, order: Id) -> None:
        """Cancel an order; it stays."""
        self.change_header(order, {"Status": CANCELLED, "CancellationDate": self.now()})

    def delete(self, order: Id) -> None:
        """Delete an order; it is gone."""
        self.remove(order)

    def sell(self, quantity: float = 1) -> Id:
        """A sale: a movement that is no purchase order, in the same list."""
        return self.create_order([NewItem(1001, quantity, 5)], "C00001", type_code="2.1.05")

    def _item(self, item: NewItem) -> Record:
        code, _, unit = self.registers.products.get(item.product, (str(item.product), "", "UN"))
        return {
            "ProductId": item.product,
            "ProductCodeValue": code,
            "Quantity": item.quantity,
            "ReceivableQuantity": item.quantity,
            "MeasureUnitCode": unit,
            "UnitPrice": item.price,
            "DeliveryDate": f"{item.due or self.today() + dt.timedelta(days=20)}T00:00:00",
            "WarehouseCode": "01",
            "CostCenterCode": "100",
            **item.fields,
        }

    def _found(self, order: Id) -> Record:
        record = self.movement(order)
        if record is None:
            raise LookupError(f"no such movement: {order}")
        return record
