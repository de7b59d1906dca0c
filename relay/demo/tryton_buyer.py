"""The hands of somebody who works in the ERP: orders written, confirmed, received and deleted over Tryton's JSON-RPC.

Independent of relay's connector on purpose: what the demo does and what relay sees must not share a mistake.
"""

import base64
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import httpx

from relay.demo.tryton_json import dressed, undressed, words
from relay.domain.errors import RelayError

OrderLine = tuple[str, str | int | Decimal, str | Decimal]
"""Product code, quantity in the product's unit, unit price."""


class ErpSaidNo(RelayError):
    """Tryton refused; the message is what a user would read on the screen."""


@dataclass(slots=True)
class Buyer:
    """One logged-in user of one Tryton database; the login happens at the first call and is kept."""

    client: httpx.AsyncClient
    database: str
    login: str
    password: str = field(repr=False)
    _session: str = field(default="", repr=False)
    _ids: Iterator[int] = field(default_factory=itertools.count)
    _context: dict[str, Any] = field(default_factory=dict, repr=False)
    _known: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)
    _products: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    # Orders

    async def create_order(
        self,
        lines: Iterable[OrderLine],
        *,
        vendor: str = "F001",
        warehouse: str = "WH",
        reference: str | None = None,
        **values: Any,
    ) -> int:
        """Write a draft order and return its id.

        `vendor` and `warehouse` are codes; `values` are more fields under the names of purchase.purchase.
        """
        party = await self._id("party.party", vendor)
        (address,) = await self._search("party.address", [["party", "=", party]])
        (order,) = await self.call(
            "model.purchase.purchase.create",
            [
                {
                    "party": party,
                    "invoice_address": address,
                    "payment_term": await self._first("account.invoice.payment_term"),
                    "warehouse": await self._id("stock.location", warehouse),
                    "invoice_method": "order",
                    "reference": reference,
                    "lines": [["create", [await self._line(*line) for line in lines]]],
                    **values,
                }
            ],
        )
        return int(order)

    async def quote(self, order: int) -> None:
        """Ask the vendor: the order gets its number."""
        await self.call("model.purchase.purchase.quote", [order])

    async def confirm(self, order: int) -> None:
        """Confirm a quoted order; Tryton takes it into processing at once."""
        await self.call("model.purchase.purchase.confirm", [order])

    async def order_now(self, lines: Iterable[OrderLine], **values: Any) -> int:
        """Create, quote and confirm in one go."""
        order = await self.create_order(lines, **values)
        await self.quote(order)
        await self.confirm(order)
        return order

    async def cancel(self, order: int) -> None:
        """Cancel a draft or quoted order."""
        await self.call("model.purchase.purchase.cancel", [order])

    async def to_draft(self, order: int) -> None:
        """Take a quoted or cancelled order back to draft."""
        await self.call("model.purchase.purchase.draft", [order])

    async def delete(self, order: int) -> None:
        """Delete an order: it is just gone. Tryton wants it cancelled first, or in draft."""
        if (await self.read(order, "state"))["state"] != "cancelled":
            await self.cancel(order)
        await self.call("model.purchase.purchase.delete", [order])

    async def write(self, order: int, **values: Any) -> None:
        """Change fields of the header, under Tryton's names."""
        await self.call("model.purchase.purchase.write", [order], values)

    async def set_reference(self, order: int, reference: str | None) -> None:
        """Change the order's reference, which Tryton allows in every state."""
        await self.write(order, reference=reference)

    async def set_warehouse(self, order: int, code: str) -> None:
        """Deliver a draft order to the warehouse with this code (WH or MG)."""
        await self.write(order, warehouse=await self._id("stock.location", code))

    # Lines

    async def lines(self, order: int) -> list[dict[str, Any]]:
        """Return the order's lines: id, product code (as `code`), quantity, unit price, quantity received so far."""
        ids = (await self.read(order, "lines"))["lines"]
        names = ["product.code", "quantity", "unit_price", "moves_progress"]
        found = await self.call("model.purchase.line.read", ids, names)
        return [{**line, "code": (line.get("product.") or {}).get("code")} for line in found]

    async def change_line(self, line: int, **values: Any) -> None:
        """Change a line directly: the header's write_date does not move (a trap for every poller)."""
        await self.call("model.purchase.line.write", [line], values)

    async def add_line(self, order: int, line: OrderLine) -> int:
        """Add a line without touching the header; returns its id."""
        (made,) = await self.call("model.purchase.line.create", [{**await self._line(*line), "purchase": order}])
        return int(made)

    async def delete_line(self, line: int) -> None:
        """Delete a line without touching the header."""
        await self.call("model.purchase.line.delete", [line])

    # Goods and vendors

    async def receive(self, order: int, fraction: str | Decimal = "1") -> None:
        """Receive this part of what is still to come (whole units, unless all of it); the rest becomes a backorder."""
        part = Decimal(fraction)
        moves = await self._moves_to_come(order)
        header = await self.read(order, "party", "company", "warehouse")
        places = await self.call(
            "model.stock.location.read", [header["warehouse"]], ["input_location", "storage_location"]
        )
        (shipment,) = await self.call(
            "model.stock.shipment.in.create",
            [
                {
                    "supplier": header["party"],
                    "company": header["company"],
                    "warehouse": header["warehouse"],
                    "warehouse_input": places[0]["input_location"],
                    "warehouse_storage": places[0]["storage_location"],
                    "incoming_moves": [["add", [move["id"] for move in moves]]],
                }
            ],
        )
        for move in moves:
            quantity = move["quantity"] if part == 1 else int(Decimal(str(move["quantity"])) * part)
            await self.call("model.stock.move.write", [move["id"]], {"quantity": quantity})
        await self.call("model.stock.shipment.in.receive", [shipment])
        await self.call("model.stock.shipment.in.do", [shipment])

    async def post_invoice(self, order: int, on: date) -> None:
        """Post the invoice that confirming made."""
        ids = (await self.read(order, "invoices"))["invoices"]
        await self.call("model.account.invoice.write", ids, {"invoice_date": on})
        await self.call("model.account.invoice.post", ids)

    async def rename_vendor(self, code: str, name: str) -> None:
        """Rename a vendor: every order shows the new name, and none of them is touched."""
        await self.call("model.party.party.write", [await self._id("party.party", code)], {"name": name})

    async def set_password(self, login: str, password: str) -> None:
        """Set a user's password; Tryton ends all of that user's sessions."""
        found = await self._search("res.user", [["login", "=", login]])
        await self.call("model.res.user.write", found, {"password": password})

    # Reading and calling

    async def read(self, order: int, *names: str) -> dict[str, Any]:
        """Return the named fields of one order."""
        (found,) = await self.call("model.purchase.purchase.read", [order], list(names))
        return dict(found)

    async def call(self, method: str, *params: Any) -> Any:
        """Call any RPC method; the context is added. Raises ErpSaidNo with Tryton's own words."""
        if not self._session:
            await self._log_in()
        body = {"id": next(self._ids), "method": method, "params": [*map(dressed, params), self._context]}
        reply = await self.client.post(
            f"/{self.database}/rpc/", json=body, headers={"Authorization": f"Session {self._session}"}
        )
        if reply.is_error:
            raise ErpSaidNo(f"{method} got HTTP {reply.status_code}")
        answer = reply.json(object_hook=undressed)
        if "error" in answer:
            raise ErpSaidNo(" ".join(words(answer["error"])))
        return answer["result"]

    async def _log_in(self) -> None:
        body = {"id": 0, "method": "common.db.login", "params": [self.login, {"password": self.password}]}
        reply = await self.client.post(f"/{self.database}/rpc/", json=body)
        if reply.is_error:
            raise ErpSaidNo(f"the login of {self.login} got HTTP {reply.status_code}")
        user, token, *_ = reply.json()["result"]
        self._session = base64.b64encode(f"{self.login}:{user}:{token}".encode()).decode()
        # Without the user's company in the context, Tryton's access rules refuse purchase lines.
        self._context = await self.call("model.res.user.get_preferences", True)

    async def _line(self, code: str, quantity: str | int | Decimal, unit_price: str | Decimal) -> dict[str, Any]:
        if code not in self._products:
            product = await self._id("product.product", code)
            names = ["purchase_uom", "account_category.supplier_taxes_used"]
            (self._products[code],) = await self.call("model.product.product.read", [product], names)
        found = self._products[code]
        return {
            "product": found["id"],
            "quantity": float(quantity),
            "unit": found["purchase_uom"],
            "unit_price": Decimal(unit_price),
            "taxes": [["add", found["account_category."]["supplier_taxes_used"]]],
        }

    async def _moves_to_come(self, order: int) -> list[dict[str, Any]]:
        ids = await self._search("stock.move", [["purchase.id", "=", order], ["state", "=", "draft"]])
        return list(await self.call("model.stock.move.read", ids, ["quantity"]))

    async def _id(self, model: str, code: str) -> int:
        if (model, code) not in self._known:
            found = await self._search(model, [["code", "=", code]])
            if len(found) != 1:
                raise ErpSaidNo(f"{len(found)} records of {model} have the code {code}")
            self._known[model, code] = found[0]
        return self._known[model, code]

    async def _first(self, model: str) -> int:
        return (await self._search(model, []))[0]

    async def _search(self, model: str, domain: list[Any]) -> list[int]:
        return [int(found) for found in await self.call(f"model.{model}.search", domain, 0, None, None)]
