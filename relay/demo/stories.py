"""Stories: what happens to orders in an ERP during the demo, one change at a time.

A story is a list of steps; each step changes one order once and makes exactly one event. Steps of one order wait for
each other's webhook, so that no two of them fall into one poll and become one event.
"""

import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from relay.demo.commander import Commander
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, SimulatedProtheus, simulated_protheus
from relay.demo.protheus_rows import OrderKey
from relay.demo.protheus_seed import PRODUCTS, VENDORS
from relay.demo.rm import ORDER_TYPE, NewItem
from relay.demo.rm_http import RmOptions, SimulatedRm, simulated_rm
from relay.demo.rm_rows import Id
from relay.demo.rm_seed import BUYABLE, any_item
from relay.demo.rm_seed import PRODUCTS as RM_PRODUCTS
from relay.demo.tryton import tryton
from relay.demo.tryton_buyer import Buyer

TRYTON_PRODUCTS = ("PAR-M8", "ROL-6204")
WRITING = {"shape": "eai", "columns": {"C7_OBS": {"length": 60}}}


@dataclass(frozen=True, slots=True)
class Step:
    """One change in the ERP: what it is called, and the hand that does it."""

    name: str
    act: Callable[[], Awaitable[None]]


class Story(Protocol):
    """One order's life."""

    @property
    def remote_id(self) -> str:
        """The order's id as the connector gives it, once it is created."""
        ...

    def steps(self) -> Iterator[Step]:
        """The changes, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Theatre:
    """A running ERP: how to connect to it, how many orders it has, and how lives in it begin."""

    connector: str
    settings: dict[str, Any]
    credentials: dict[str, str]
    orders: int
    at_once: int
    """Lives that go on at the same time."""
    story: Callable[[random.Random], Story]
    draft: Callable[[random.Random], dict[str, Any]]
    """What is said of a new order that is ordered by a command: `order` and `lines`."""


@asynccontextmanager
async def protheus(orders: int) -> AsyncIterator[Theatre]:
    """A simulated Protheus with years of orders."""
    async with simulated_protheus(Options(latency=0.02)) as erp:
        erp.seed(orders)
        yield Theatre(
            "protheus",
            {"url": erp.url, "tenant": erp.tenant, "all_branches": True, "writing": WRITING},
            {"username": erp.username, "password": erp.password},
            len(erp.purchase_orders(deleted=False)),
            24,
            lambda dice: ProtheusStory(erp, dice),
            lambda dice: _draft(
                {"code": "FOR001", "site_code": "01"}, {"code": "030"}, dice.sample([each[0] for each in PRODUCTS], 2)
            ),
        )


@asynccontextmanager
async def rm(orders: int) -> AsyncIterator[Theatre]:
    """A simulated RM with years of orders."""
    async with simulated_rm(RmOptions(latency=0.02)) as erp:
        erp.seed(orders)
        yield Theatre(
            "rm",
            {"url": erp.url, "company": 1, "purchase_types": [ORDER_TYPE]},
            {"username": erp.username, "password": erp.password},
            sum(record["MovementTypeCode"] == ORDER_TYPE for record in erp.movements()),
            24,
            lambda dice: RmStory(erp, dice),
            lambda dice: _draft(
                {"code": "F00012"},
                {"code": "030"},
                dice.sample([each[0] for each in RM_PRODUCTS.values()], 2),
                branch={"remote_id": "1"},
            ),
        )


@asynccontextmanager
async def real_tryton(cache: Path, data: Path, say: Callable[[str], None]) -> AsyncIterator[Theatre]:
    """A real Tryton, installed under `cache` first if need be."""
    async with tryton(cache, data, say) as erp:
        yield Theatre(
            "tryton",
            {"url": erp.url, "database": erp.database},
            {"username": erp.username, "password": erp.password},
            0,
            4,
            lambda dice: TrytonStory(erp.buyer, dice),
            lambda _: _draft({"code": "F001"}, None, TRYTON_PRODUCTS),
        )


def _draft(vendor: dict[str, str], terms: dict[str, str] | None, items: Sequence[str], **more: Any) -> dict[str, Any]:
    today = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    order = {"vendor": vendor, "payment_terms": terms, "order_date": today, **more}
    lines = [{"item": {"code": item}, "quantity": "10", "unit_price": "4.50"} for item in items]
    return {"order": {name: value for name, value in order.items() if value}, "lines": lines}


@dataclass
class CommandedStory:
    """Ordered, changed and cancelled from another system, by commands on Kafka."""

    commander: Commander
    draft: dict[str, Any]
    _created: dict[str, Any] = field(default_factory=dict)

    @property
    def remote_id(self) -> str:
        """As the result of the create says it."""
        return str(self._created["remote_id"])

    def steps(self) -> Iterator[Step]:
        """The changes, in order."""
        yield Step("ordered by a command", self._create)
        yield Step("quantity changed by a command", self._change)
        yield Step("cancelled by a command", self._cancel)

    async def _create(self) -> None:
        self._created = await self.commander.applied({"type": "create", **self.draft})

    async def _change(self) -> None:
        lines = [{"remote_id": self._created["order"]["lines"][0]["remote_id"], "quantity": "12"}]
        await self.commander.applied({"type": "update_lines", "remote_id": self.remote_id, "lines": lines})

    async def _cancel(self) -> None:
        await self.commander.applied({"type": "cancel", "remote_id": self.remote_id})


@dataclass
class ProtheusStory:
    """Created, approved, changed, received, then closed or deleted."""

    erp: SimulatedProtheus
    dice: random.Random
    order: OrderKey | None = None

    @property
    def remote_id(self) -> str:
        """Branch and number."""
        assert self.order is not None
        return f"{self.order.branch.rstrip()}|{self.order.number}"

    def steps(self) -> Iterator[Step]:
        """The changes, in order."""
        quantities = [self.dice.randint(4, 60) for _ in range(self.dice.randint(1, 3))]
        yield self._step("created", lambda _: self._create(quantities))
        yield self._step("approved", self.erp.approve)
        if self.dice.random() < 0.5:
            quantities[0] += 2
            more = {"C7_QUANT": quantities[0]}
            yield self._step("quantity changed", lambda order: self.erp.change_line(order, "0001", more))
        if self.dice.random() < 0.2:
            yield self._step("deleted", self.erp.delete_order)
            return
        half = max(1, quantities[0] // 2)
        yield self._step("partly received", lambda order: self.erp.receive(order, "0001", half))
        if self.dice.random() < 0.3:
            yield self._step("closed short", self.erp.eliminate_residue)
            return
        quantities[0] -= half
        yield self._step("received in full", lambda order: self._receive(order, quantities))

    def _step(self, name: str, hand: Callable[[OrderKey], None]) -> Step:
        async def act() -> None:
            hand(self.order or OrderKey("", ""))

        return Step(name, act)

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


@dataclass
class RmStory:
    """Created, approved, changed, received in part, then closed, or cancelled before."""

    erp: SimulatedRm
    dice: random.Random
    order: Id | None = None

    @property
    def remote_id(self) -> str:
        """Company and movement."""
        assert self.order is not None
        return f"{self.order[0]}|{self.order[1]}"

    def steps(self) -> Iterator[Step]:
        """The changes, in order."""
        quantity = self.dice.randint(20, 60)
        yield self._step("created", lambda _: self._create(quantity))
        yield self._step("approved", self.erp.approve)
        if self.dice.random() < 0.5:
            more = {"Quantity": quantity + 2}
            yield self._step("quantity changed", lambda order: self.erp.change_line(order, 1, more))
        if self.dice.random() < 0.3:
            yield self._step("cancelled", self.erp.cancel)
            return
        yield self._step("partly received", lambda order: self.erp.receive(order, 1, 10))
        yield self._step("closed short", self.erp.finish)

    def _step(self, name: str, hand: Callable[[Id], None]) -> Step:
        async def act() -> None:
            hand(self.order or (0, 0))

        return Step(name, act)

    def _create(self, quantity: int) -> None:
        items = [NewItem(1001, quantity, 1.25), any_item(self.dice)]
        self.order = self.erp.create_order(items, self.dice.choice(BUYABLE), status="B")


@dataclass
class TrytonStory:
    """Drafted, changed by its line alone, quoted, drafted again, cancelled: each is one transaction in Tryton."""

    buyer: Buyer
    dice: random.Random
    order: int | None = None

    @property
    def remote_id(self) -> str:
        """The record's id."""
        assert self.order is not None
        return str(self.order)

    def steps(self) -> Iterator[Step]:
        """The changes, in order."""
        yield Step("created", self._create)
        yield Step("quantity changed", self._change)
        yield self._step("quoted", self.buyer.quote)
        if self.dice.random() < 0.5:
            yield self._step("back to draft", self.buyer.to_draft)
            yield Step("quantity changed", self._change)
        yield self._step("cancelled", self.buyer.cancel)

    def _step(self, name: str, hand: Callable[[int], Awaitable[None]]) -> Step:
        async def act() -> None:
            assert self.order is not None
            await hand(self.order)

        return Step(name, act)

    async def _create(self) -> None:
        lines = [(product, self.dice.randint(2, 50), "4.5000") for product in TRYTON_PRODUCTS]
        self.order = await self.buyer.create_order(lines)

    async def _change(self) -> None:
        assert self.order is not None
        line, *_ = await self.buyer.lines(self.order)
        await self.buyer.change_line(line["id"], quantity=float(self.dice.randint(51, 90)))
