"""The stamps of an order and of its lines: what Tryton compares before it writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.connectors.tryton.bodies import Values, refusal
from relay.connectors.tryton.derive import flattened, records, version_of
from relay.connectors.tryton.rpc import Rpc
from relay.connectors.tryton.watch import listed
from relay.domain.errors import UnexpectedReply
from relay.domain.orders import PurchaseOrder
from relay.domain.results import RefusalReason

_FIELDS: Final = ("_timestamp", "party", "company", "currency", "lines._timestamp", "lines.type")
_PARENT: Final = ("party", "company", "currency")


@dataclass(frozen=True, slots=True)
class Stamped:
    """An order as Tryton has it now: its stamp, its lines' by id, and what new lines need to know of it."""

    id: int
    stamp: str
    lines: Mapping[int, str]
    parent: Values

    def guarded(self, context: Mapping[str, Any], lines: Iterable[int] = ()) -> dict[str, Any]:
        """A context in which Tryton writes only while the header and these lines are as they were read."""
        stamps = {f"purchase.line,{line}": self.lines[line] for line in lines}
        return {**context, "_timestamp": {f"purchase.purchase,{self.id}": self.stamp, **stamps}}

    def ids(self, remote_ids: Sequence[str], path: str) -> list[int]:
        """These lines of the order; `path` is the canonical one. Raises WriteRefused for any other line."""
        numbers = {str(number): number for number in self.lines}
        for place, remote_id in enumerate(remote_ids):
            if remote_id not in numbers:
                raise refusal(path.format(place), f"the order has no line {remote_id}", "name one of its lines")
        return [numbers[each] for each in remote_ids]


async def stamps_of(rpc: Rpc, order: PurchaseOrder | None) -> Stamped:
    """The stamps of the order as it was read. Raises WriteRefused when it is not so any more."""
    number = int(order.remote_id) if order and order.remote_id.isdecimal() else 0
    asked = [["id", "=", number]]
    found = listed(await rpc.call("model.purchase.purchase.search_read", asked, 0, 1, None, list(_FIELDS)))
    record = dict(flattened(found[0])) if found else {}
    if order is None or not found or _version(record) != order.remote_version:
        message = "the order was changed in Tryton after it was read" if found else "the order is gone from Tryton"
        fix = "read the order again, and send a new command if it is still wanted"
        raise refusal("expected_version", message, fix, RefusalReason.CONFLICT)
    # Titles and subtotals are lines to Tryton, and none to relay.
    lines = {line["id"]: line["_timestamp"] for line in records(record, "lines.") if line.get("type") == "line"}
    return Stamped(number, record["_timestamp"], lines, {name: record.get(name) for name in _PARENT})


def _version(record: Mapping[str, Any]) -> str | None:
    try:
        return version_of(record)
    except ValueError:
        raise UnexpectedReply("the stamps of an order came as something else") from None
