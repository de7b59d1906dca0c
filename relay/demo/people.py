"""Changes: people at work in a simulated ERP, one random change at a time; each says what it did."""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.demo.protheus import NewLine
from relay.demo.protheus_seed import PRODUCTS, VENDORS
from relay.demo.rm import NewItem
from relay.demo.rm_seed import BUYABLE, any_item

if TYPE_CHECKING:
    from relay.demo.protheus_http import SimulatedProtheus
    from relay.demo.protheus_rows import OrderKey
    from relay.demo.rm_http import SimulatedRm
    from relay.demo.rm_rows import Id
    from relay.demo.tryton_buyer import Buyer

MOST_OPEN = 20
"""Orders of the people's own that are under way; beyond it none is created."""
NEW, DELETED = 0.3, 0.3
"""How often a change is a new order, and an order ends by deletion."""


@dataclass
class ProtheusPeople:
    """A buyer, an approver and a warehouse: orders are created, approved, changed, received, closed or deleted."""

    erp: "SimulatedProtheus"
    dice: random.Random
    _steps: "dict[OrderKey, int]" = field(default_factory=dict)

    async def change(self) -> str:
        """Make one change; what it was."""
        if not self._steps or (len(self._steps) < MOST_OPEN and self.dice.random() < NEW):
            return self._create()
        order = self.dice.choice(list(self._steps))
        step = self._steps[order]
        self._steps[order] += 1
        return f"{order.branch}|{order.number}: {self._go_on(order, step)}"

    def _create(self) -> str:
        product, vendor = self.dice.choice(PRODUCTS), self.dice.choice(VENDORS)
        lines = [NewLine(product[0], self.dice.randint(10, 90), product[3])]
        order = self.erp.create_order(lines, (vendor[0], vendor[1]))
        self._steps[order] = 0
        return f"{order.branch}|{order.number}: created for {vendor[2]}"

    def _go_on(self, order: "OrderKey", step: int) -> str:
        match step:
            case 0:
                self.erp.approve(order)
                return "approved"
            case 1:
                quantity = self.dice.randint(10, 90)
                self.erp.change_line(order, "0001", {"C7_QUANT": quantity})
                return f"quantity changed to {quantity}"
            case 2:
                self.erp.receive(order, "0001", 5)
                return "5 received"
        del self._steps[order]
        if self.dice.random() < DELETED:
            self.erp.delete_order(order)
            return "deleted"
        self.erp.eliminate_residue(order)
        return "closed, the rest is not wanted any more"


@dataclass
class RmPeople:
    """The same people in an RM; its orders are cancelled rather than deleted, most of the time."""

    erp: "SimulatedRm"
    dice: random.Random
    _steps: "dict[Id, int]" = field(default_factory=dict)

    async def change(self) -> str:
        """Make one change; what it was."""
        if not self._steps or (len(self._steps) < MOST_OPEN and self.dice.random() < NEW):
            return self._create()
        order = self.dice.choice(list(self._steps))
        step = self._steps[order]
        self._steps[order] += 1
        return f"{order[0]}|{order[1]}: {self._go_on(order, step)}"

    def _create(self) -> str:
        vendor = self.dice.choice(BUYABLE)
        order = self.erp.create_order([NewItem(1001, self.dice.randint(10, 90), 1.25)], vendor, status="B")
        self._steps[order] = 0
        return f"{order[0]}|{order[1]}: created for {self.erp.registers.vendors[vendor]}"

    def _go_on(self, order: "Id", step: int) -> str:
        match step:
            case 0:
                self.erp.approve(order)
                return "approved"
            case 1:
                self.erp.add_line(order, any_item(self.dice))
                return "a line added"
            case 2 if self.dice.random() >= DELETED:
                self.erp.receive(order, 1, 5)
                return "5 received"
            case 2:
                self.erp.cancel(order)
                del self._steps[order]
                return "cancelled"
        del self._steps[order]
        self.erp.finish(order)
        return "closed, the rest is not wanted any more"


@dataclass
class TrytonPeople:
    """The same people in a Tryton."""

    buyer: "Buyer"
    dice: random.Random
    _steps: dict[int, int] = field(default_factory=dict)

    async def change(self) -> str:
        """Make one change; what it was. Raises ErpSaidNo and httpx's errors."""
        if not self._steps or (len(self._steps) < MOST_OPEN and self.dice.random() < NEW):
            order = await self.buyer.create_order([("PAR-M8", self.dice.randint(10, 90), "1.2500")])
            self._steps[order] = 0
            return f"order {order}: created"
        order = self.dice.choice(list(self._steps))
        step = self._steps[order]
        self._steps[order] += 1
        return f"order {order}: {await self._go_on(order, step)}"

    async def _go_on(self, order: int, step: int) -> str:
        match step:
            case 0:
                await self.buyer.quote(order)
                return "quoted"
            case 1:
                await self.buyer.confirm(order)
                return "confirmed"
            case 2:
                await self.buyer.receive(order, "0.5")
                return "half of it received"
        del self._steps[order]
        await self.buyer.receive(order)
        return "received in full"
