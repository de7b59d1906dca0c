"""Remapping: telling what happened to an order from what only a changed mapping shows otherwise.

    last told state  --true changes-->  as the former mapping has it now  --the mapping-->  as it is mapped now

With the former overrides the connector maps the same record once more, and both steps are exact. Former rules of the
connector's own are gone with its former code: a field that they changed cannot be told apart, all the others can.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from relay.domain.events import Snapshot
from relay.domain.mapping import Edition, MappingOverrides, MappingVersion, Retold, Revisions
from relay.domain.orders import PurchaseOrder, Tree

EVERYTHING = "*"
_LINES = "lines[]."

Under = Callable[[MappingOverrides], Mapping[str, PurchaseOrder]]
"""The same records by remote id, with other overrides."""


@dataclass(frozen=True, slots=True)
class Remapping:
    """The mapping that orders are read with now, and those that some are still known under."""

    edition: Edition = field(default_factory=Edition)
    revisions: Revisions = field(default_factory=Revisions)
    versions: Mapping[int, MappingVersion] = field(default_factory=dict)
    """The former versions of the overrides, and those after them, by number."""

    def former(self, last: Snapshot, order: PurchaseOrder, under: Under) -> PurchaseOrder | None:
        """The order as the mapping has it that `last` was read with; None: that cannot be told any more."""
        found: PurchaseOrder | None = order
        if last.edition.version != self.edition.version:
            version = self.versions.get(last.edition.version)
            found = under(version.overrides).get(order.remote_id) if version else None
        if found is None or last.edition.rules == self.edition.rules:
            return found
        return as_before(last.tree, found, self.revisions.since(last.edition.rules))

    def tells(self, last: Snapshot) -> bool:
        """Whether what the mapping changed is told: unless every version since then was to be silent."""
        since = [each for number, each in self.versions.items() if number > last.edition.version]
        same_rules = last.edition.rules == self.edition.rules
        return not same_rules or not since or any(each.retold is Retold.MAPPING_CHANGED for each in since)


def as_before(before: Tree, order: PurchaseOrder, paths: frozenset[str]) -> PurchaseOrder | None:
    """The order with the fields at these paths as they were; None when that makes no order, or all fields are meant."""
    if EVERYTHING in paths:
        return None
    tree = order.tree()
    known = {line["remote_id"]: line for line in before["lines"]}
    for path in paths:
        if path.startswith(_LINES):
            for line in tree["lines"]:
                _put_back(known.get(line["remote_id"]), line, path.removeprefix(_LINES))
        else:
            _put_back(before, tree, path)
    try:
        return PurchaseOrder.model_validate(
            {**tree, "remote_updated_at": order.remote_updated_at, "remote_version": order.remote_version}
            | {"field_presence": order.field_presence, "raw": order.raw}
        )
    except ValidationError:
        return None


def _put_back(before: Any, after: Any, path: str) -> None:
    """One field as it was. Where the object around it came or went, that is what happened, and stays."""
    *parents, last = path.split(".")
    for step in parents:
        before = before.get(step) if isinstance(before, dict) else None
        after = after.get(step)
        if after is None:
            return
    if not isinstance(before, dict):
        return
    if last in before:
        after[last] = before[last]
    else:
        after.pop(last, None)
