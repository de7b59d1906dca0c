"""Remap: with which mapping a connection's orders are read, and whether they have to be read again for it.

former versions -> the connector maps with the current one, and can with those -> Remapping
newer rules of the connector than all was read with -> a sync of the kind `mapping`
"""

from dataclasses import dataclass

import structlog

from relay.domain.connections import Connection, Lease
from relay.domain.mapping import Edition, Revisions
from relay.domain.remapping import Remapping
from relay.ports import FormerMappings, Mappings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Remap:
    """One connection's mapping, when its runner begins."""

    connection: Connection
    lease: Lease
    revisions: Revisions
    store: FormerMappings

    async def run_once(self) -> tuple[Mappings, Remapping]:
        """What the connector maps with, and what polls and syncs compare by. Raises LeaseLost, Unavailable."""
        connection, newest = self.connection, self.revisions.version
        if connection.rules != newest:
            # Named by what it is for: done twice, it is one.
            sync_id = f"syn_{connection.id.removeprefix('con_')}_rules_{newest}_{self.lease.epoch}"
            await self.store.begin_rules(self.lease, newest, sync_id)
            log.info("connection.remapped", connection=connection.id, rules=newest)
        current = connection.mapping
        versions = await self.store.former_mappings(connection.id) if current.number else {}
        beside = tuple(each.overrides for number, each in versions.items() if number != current.number)
        edition = Edition(newest, current.number)
        return Mappings(current.overrides, beside), Remapping(edition, self.revisions, versions)
