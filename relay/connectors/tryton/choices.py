"""What Tryton fills in by itself when its user chooses a vendor or a product, and as whom and for whom relay writes.

choices.company(order) -> context -> by_vendor, by_item: read by `on_change`, as Tryton's own screens do
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.connectors.tryton.bodies import Values, chosen_by_item, chosen_by_vendor, refusal
from relay.connectors.tryton.references import MOST_REMEMBERED, REMEMBERED
from relay.connectors.tryton.rpc import Rpc
from relay.connectors.tryton.schema import ENGLISH
from relay.domain.commands import OrderGiven
from relay.domain.errors import UnexpectedReply
from relay.domain.results import RefusalReason


@dataclass(slots=True)
class Choices:
    """Asks as one user, who orders for `company` only when there is one; `clock` counts seconds."""

    rpc: Rpc
    own_company: int | None
    clock: Callable[[], float] = time.monotonic
    _preferences: Mapping[str, Any] | None = field(default=None, init=False)
    _of_items: dict[tuple[Any, ...], Values] = field(default_factory=dict, init=False)

    async def company(self, order: OrderGiven) -> dict[str, Any]:
        """The context of the company that a new order is for. Raises WriteRefused when this user may not."""
        preferences = await self._asked()
        wanted = order.company.remote_id if order.company else None
        companies = [str(each) for each in preferences.get("companies") or ()]
        if wanted is not None and (wanted not in companies or (self.own_company and wanted != str(self.own_company))):
            message = f"relay's user may not order for the company {wanted}"
            fix = "leave it out, or give the company of this connection"
            raise refusal("company.remote_id", message, fix, RefusalReason.NOT_PERMITTED)
        company = int(wanted) if wanted else self.own_company or preferences.get("company")
        if company is None:
            fix = "give relay's user a company in Tryton, or company.remote_id in the command"
            raise refusal("company.remote_id", "relay's user works for no company in Tryton", fix)
        return await self.context(company)

    async def context(self, company: int) -> dict[str, Any]:
        """A context to write in: Tryton's rules refuse lines without a company; the employee signs what is quoted."""
        preferences = await self._asked()
        return {**ENGLISH, "company": company, "employee": preferences.get("employee")}

    async def by_vendor(self, header: Values, context: Mapping[str, Any]) -> Values:
        """What the vendor of a new order brings along."""
        values = {"party": header["party"], "company": context["company"], "lines": []}
        changed = await self.rpc.call("model.purchase.purchase.on_change", values, ["party"], context=context)
        return chosen_by_vendor(_mapped(changed))

    async def by_item(self, values: Values, parent: Values, context: Mapping[str, Any]) -> Values:
        """What the product of a new line brings along: asked once for each, and for each quantity when the price is."""
        quantity = None if "unit_price" in values else values.get("quantity")
        asked = {"type": "line", "product": values.get("product"), "unit": values.get("unit"), "quantity": quantity}
        key = (*asked.values(), *parent.values(), int(self.clock() // REMEMBERED))
        if key not in self._of_items:
            if len(self._of_items) > MOST_REMEMBERED:
                self._of_items.clear()
            line = {**asked, "purchase": parent}
            changed = await self.rpc.call("model.purchase.line.on_change", line, ["product"], context=context)
            self._of_items[key] = chosen_by_item(_mapped(changed))
        return self._of_items[key]

    async def _asked(self) -> Mapping[str, Any]:
        if self._preferences is None:
            self._preferences = _mapped(await self.rpc.call("model.res.user.get_preferences", True))
        return self._preferences


def _mapped(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise UnexpectedReply("named values came as something else")
    return found
