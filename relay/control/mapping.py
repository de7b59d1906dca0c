"""Mapping: what a connection maps otherwise than its connector, seen, tried on live orders, and changed in versions.

given -> checked -> tried on a sample of the ERP's orders -> stored as the next version -> all orders read again
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from relay.control import given
from relay.control.at_hand import AtHand
from relay.control.connection_views import RejectedView
from relay.control.look import first_look_at, unconnected
from relay.control.mapping_views import (
    Example,
    FieldChanged,
    MappingChecked,
    MappingSaved,
    MappingVersionView,
    MappingView,
    SampleView,
)
from relay.control.sync import new_sync_id
from relay.domain.capabilities import Capabilities
from relay.domain.changes import diff
from relay.domain.errors import AlreadyThere, Permanent, Transient, UserError
from relay.domain.mapping import MappingOverrides, MappingVersion, Retold
from relay.domain.orders import Tree
from relay.ports import Mappings, Sample
from relay.store.mappings import MappingStore

if TYPE_CHECKING:
    from relay.domain.connections import Connection
    from relay.ports import ConnectorKind

SAMPLED = 20
"""Orders that a mapping is tried on."""
EXAMPLES, LONGEST = 3, 60
_LINES = ("lines", "[]")


@dataclass(frozen=True, slots=True)
class MappingOperations(AtHand):
    """What people do with a connection's mapping."""

    async def mapping(self, name: str, *, sample: bool = False) -> MappingView:
        """The field mapping of a connection; with `sample` its ERP is asked for some orders and what else they hold.

        Raises NotFound, UserError, KeyTrouble; with `sample` the connector's errors, with what to do.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        found, system = await self._system(subject, sample=sample)
        return MappingView(
            connection_id=subject.id,
            connector=subject.connector,
            version=subject.mapping.number,
            overrides=subject.mapping.overrides,
            fields=system.fields,
            commands=system.commands,
            custom_fields=system.custom_fields,
            sample=_sample_view(found) if found else None,
        )

    async def capabilities(self, name: str, *, sample: bool = False) -> Capabilities:
        """What a connection's system gives and takes; with `sample` after asking its ERP, which may know more.

        Raises what `mapping` raises.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        return (await self._system(subject, sample=sample))[1]

    async def check_mapping(self, name: str, overrides: Mapping[str, Any]) -> MappingChecked:
        """What these overrides in the place of those that stand would do to live orders.

        Raises:
            NotFound: no such connection.
            UserError: a part or name cannot be used; each is named.
            KeyTrouble: the credentials cannot be opened.
            Transient, Permanent: what the ERP said, with what to do.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        wanted = given.mapping_given(given.connector_named(self.kinds, subject.connector), overrides)
        return await self._checked(subject, wanted)

    async def set_mapping(  # noqa: PLR0913 - what is saved, and on which terms
        self,
        name: str,
        overrides: Mapping[str, Any],
        *,
        retold: Retold = Retold.MAPPING_CHANGED,
        force: bool = False,
        base: int | None = None,
        by: str = "local",
        reverts_to: int | None = None,
    ) -> MappingSaved:
        """Put these overrides in the place of those that stand, after trying them; all orders are read again.

        `base` is the version that they were made from, when that is to be held against the one that stands. `force`
        stores what loses orders or names missing columns, and what the ERP could not be asked about.

        Raises what `check_mapping` raises, UserError when it does not work, and AlreadyThere when another version
        stands by now.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        stands = subject.mapping
        wanted = given.mapping_given(given.connector_named(self.kinds, subject.connector), overrides)
        if base is not None and base != stands.number:
            told = f"the mapping is at version {stands.number} by now, not {base}"
            raise AlreadyThere(f"{told}: look at it, then try again")
        if wanted == stands.overrides:
            return MappingSaved(saved=False, version=stands.number, checked=None, sync_id=None)
        checked = await self._tried(subject, wanted, force=force)
        new = MappingVersion(stands.number + 1, wanted, retold)
        sync_id = new_sync_id()
        await MappingStore(self.registry.database).add_version(
            subject.id, new, base=stands.number, sync_id=sync_id, by=by, reverts_to=reverts_to
        )
        return MappingSaved(saved=True, version=new.number, checked=checked, sync_id=sync_id)

    async def mapping_versions(self, name: str) -> list[MappingVersionView]:
        """All versions of a connection's overrides, newest first. Raises NotFound."""
        subject: Connection = (await self.registry.connection(name)).subject
        rows = await MappingStore(self.registry.database).versions(subject.id)
        return [MappingVersionView.of(row) for row in rows]

    async def revert_mapping(
        self,
        name: str,
        number: int,
        *,
        retold: Retold = Retold.MAPPING_CHANGED,
        force: bool = False,
        by: str = "local",
    ) -> MappingSaved:
        """Bring an older version back as a new one; 0 is none at all. Raises what `set_mapping` raises."""
        found = {each.number: each.overrides for each in await self.mapping_versions(name)}
        overrides = MappingOverrides() if number == 0 else found.get(number)
        if overrides is None:
            known = ", ".join(map(str, (0, *sorted(found))))
            raise UserError(f"the mapping has no version {number}: it has {known}")
        return await self.set_mapping(name, overrides.told(), retold=retold, force=force, by=by, reverts_to=number)

    async def _looking(self, subject: "Connection") -> "tuple[ConnectorKind, Any, Any]":
        """The connector with the connection's settings and opened credentials. Raises UserError, KeyTrouble."""
        kind = given.connector_named(self.kinds, subject.connector)
        # Stored by an earlier version, perhaps: what this one does not take is named, and no value with it.
        settings = given.settings_given(kind, subject.settings)
        return kind, settings, given.credentials_given(kind, await self._opened(subject))

    async def _system(self, subject: "Connection", *, sample: bool) -> tuple[Sample | None, Capabilities]:
        looking = await self._looking(subject)
        if sample:
            return await first_look_at(*looking, Mappings(subject.mapping.overrides), SAMPLED)
        async with unconnected(*looking, subject.mapping.overrides) as built:
            return None, built.capabilities()

    async def _tried(self, subject: "Connection", wanted: MappingOverrides, *, force: bool) -> MappingChecked | None:
        try:
            checked = await self._checked(subject, wanted)
        except (Transient, Permanent):
            if not force:
                raise
            return None
        if checked.works or force:
            return checked
        told = [f"the mapping does not work with live orders: {'; '.join(checked.problems)}."]
        raise UserError("\n".join([*told, "Nothing was stored. `force` stores it all the same."]))

    async def _checked(self, subject: "Connection", wanted: MappingOverrides) -> MappingChecked:
        stands = subject.mapping.overrides
        looking = await self._looking(subject)
        sample, _ = await first_look_at(*looking, Mappings(wanted, (stands,)), SAMPLED)
        return compared(sample, stands)


def compared(sample: Sample, stands: MappingOverrides) -> MappingChecked:
    """A sample that was read with a new mapping against the same records with the one that stands."""
    before = sample.page.under(stands)
    after = {order.remote_id: order for order in sample.page.orders}
    lost = [each for each in sample.page.rejected if each.remote_id in before]
    trees = {key: (before[key].tree(), order.tree()) for key, order in after.items() if key in before}
    problems = [f"the ERP has no column {name}, or hides it" for name in sample.missing]
    problems += [f"order {each.remote_id} would be rejected: {each.reason}" for each in lost[:EXAMPLES]]
    return MappingChecked(
        works=not problems,
        problems=tuple(problems),
        orders=len(after) + len(sample.page.rejected),
        changed=tuple(_changed(trees)),
        rejected=tuple(RejectedView.of(each) for each in lost),
        missing=sample.missing,
        notices=sample.page.warnings,
    )


def _changed(trees: Mapping[str, tuple[Tree, Tree]]) -> Iterable[FieldChanged]:
    examples: dict[str, list[Example]] = {}
    orders: dict[str, set[str]] = {}
    for key, (before, after) in trees.items():
        for change in diff(before, after):
            path = _path(change.path)
            orders.setdefault(path, set()).add(key)
            example = Example(order=key, before=_worded(change.before), after=_worded(change.after))
            examples.setdefault(path, []).append(example)
    for path, found in sorted(examples.items()):
        different = {(each.before, each.after): each for each in reversed(found)}
        yield FieldChanged(
            path=path,
            orders=len(orders[path]),
            values=len(found),
            examples=tuple(reversed(different.values()))[:EXAMPLES],
        )


def _path(pointer: str) -> str:
    """`/lines/0001/unit` as `lines[].unit`."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]
    if steps[0] == "lines" and len(steps) > 1:
        return ".".join(["".join(_LINES), *steps[2:]])
    return ".".join(steps)


def _worded(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _sample_view(sample: Sample) -> SampleView:
    return SampleView(
        orders=len(sample.page.orders) + len(sample.page.rejected),
        unmapped=sample.unmapped,
        missing=sample.missing,
        notices=sample.page.warnings,
    )
