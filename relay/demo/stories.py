"""Stories: what happens to orders in an ERP during the demo, one change at a time.

A story is a list of steps; each step changes one order once and makes exactly one event. Steps of one order wait for
each other's webhook, so that no two of them fall into one poll and become one event.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import SimulatedProtheus
from relay.demo.protheus_rows import OrderKey
from relay.demo.protheus_seed import PRODUCTS, VENDORS


@dataclass(frozen=True, slots=True)
class Step:
    """One change in the ERP: what it is called, and the hand that does it."""

    name: str
    act: Callable[[], None]


@dataclass
class ProtheusStory:
    """One order's life in a simulated Protheus: created, approved, changed, received, then closed or deleted."""

    erp: SimulatedProtheus
    dice: random.Random
    order: OrderKey | None = None

    @property
    def remote_id(self) -> str:
        """The order's id as the connector gives it."""
        assert self.order is not None
        return f"{self.order.branch.rstrip()}|{self.order.number}"

    def steps(self) -> Iterator[Step]:
        """The changes, in order."""
        quantities = [self.dice.randint(4, 60) for _ in range(self.dice.randint(1, 3))]
        yield Step("created", lambda: self._create(quantities))
        order = self.order
        assert order is not None
        yield Step("approved", lambda: self.erp.approve(order))
        if self.dice.random() < 0.5:
            quantities[0] += 2
            yield Step("quantity changed", lambda: self.erp.change_line(order, "0001", {"C7_QUANT": quantities[0]}))
        if self.dice.random() < 0.2:
            yield Step("deleted", lambda: self.erp.delete_order(order))
            return
        half = max(1, quantities[0] // 2)
        yield Step("partly received", lambda: self.erp.receive(order, "0001", half))
        if self.dice.random() < 0.3:
            yield Step("closed short", lambda: self.erp.eliminate_residue(order))
            return
        quantities[0] -= half
        yield Step("received in full", lambda: self._receive(order, quantities))

    def _create(self, quantities: list[int]) -> None:
        vendor = self.dice.choice(VENDORS)
        products = self.dice.sample(PRODUCTS, len(quantities))
        lines = [
            NewLine(product[0], quantity, product[3]) for product, quantity in zip(products, quantities, strict=True)
        ]
        self.order = self.erp.create_order(lines, (vendor[0], vendor[1]), note="Pedido da demonstração")

    def _receive(self, order: OrderKey, quantities: list[int]) -> None:
        for position, quantity in enumerate(quantities, 1):
            self.erp.receive(order, f"{position:04d}", quantity)
