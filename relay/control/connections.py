"""Connections: added after a first look at the ERP, paused, resumed, given new credentials, removed."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import orjson

from relay.control import given
from relay.control.at_hand import AtHand
from relay.control.connection_views import ConnectionAdded, ConnectionView
from relay.control.look import first_look
from relay.control.schedules import HISTORY, begin_given, first_given, schedule_given, spans_given
from relay.domain.connections import Connection, ConnectionId, ConnectionState, CustomerId
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.mapping import MappingVersion
from relay.domain.schedules import SLOWEST_TIMES, Schedule
from relay.domain.syncs import Announce
from relay.domain.tokens import TOKEN_BYTES, TokenKind, digest_of, token_of
from relay.vault.vault import Place, Purpose

POLL_EVERY = timedelta(seconds=60)
RECONCILE_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ConnectionOperations(AtHand):
    """What people do with connections."""

    async def add_connection(  # noqa: PLR0913 - what a connection is made of
        self,
        *,
        customer: str,
        kind: str,
        name: str,
        settings: Mapping[str, Any],
        credentials: Mapping[str, Any],
        mapping: Mapping[str, Any] = MappingProxyType({}),
        poll_every: timedelta = POLL_EVERY,
        reconcile_every: timedelta = RECONCILE_EVERY,
        schedule: Mapping[str, Any] = MappingProxyType({}),
        history: timedelta | None = HISTORY,
        announce: str = Announce.SNAPSHOT,
        check: bool = True,
    ) -> ConnectionAdded:
        """Add a connection, with its customer when that is new. `check` reads a page of orders before storing anything.

        `schedule` are values of Schedule. The orders of the last `history` (None: all) are read first, and announced
        as a snapshot each, or silently.

        Raises:
            UserError: a name, setting, credential or part of the mapping cannot be used; each is named.
            AlreadyThere: the customer has a connection of that name.
            KeyTrouble: there is no master key.
            Transient, Permanent: what the ERP said to the first look, with what to do.
        """
        connector = given.connector_named(self.kinds, kind)
        given.name_given("customer", customer)
        given.name_given("connection", name)
        checked_settings = given.settings_given(connector, settings)
        checked_credentials = given.credentials_given(connector, credentials)
        overrides = given.mapping_given(connector, mapping)
        spans_given(connector.pace, poll_every, reconcile_every)
        checked_schedule = schedule_given(Schedule(slowest=poll_every * SLOWEST_TIMES), schedule)
        first = first_given(announce)
        vault = self.vault()
        await self._not_there(customer, name)
        look = await first_look(connector, checked_settings, checked_credentials, overrides) if check else None
        connection_id = ConnectionId(f"con_{secrets.token_hex(12)}")
        new = Connection(
            id=connection_id,
            customer_id=CustomerId(customer),
            name=name,
            connector=kind,
            settings=checked_settings.model_dump(mode="json", exclude_unset=True),
            mapping=MappingVersion(1 if overrides.told() else 0, overrides),
            rules=connector.revisions.version,
            poll_every=poll_every,
            reconcile_every=reconcile_every,
            schedule=checked_schedule,
            history_from=begin_given(history),
            sealed=await vault.seal(
                Place(customer, connection_id, Purpose.CREDENTIALS), orjson.dumps(dict(credentials))
            ),
        )
        token = new_token()
        await self.registry.add_connection(new, token_digest=digest_of(token), announce=first)
        return ConnectionAdded(connection=await self.connection(connection_id), look=look, token=token)

    async def connections(self) -> list[ConnectionView]:
        """All connections, by customer and name."""
        return [ConnectionView.of(each) for each in await self.registry.connections()]

    async def connection(self, name: str) -> ConnectionView:
        """One connection with counts. Raises NotFound, or UserError when several have that name."""
        return ConnectionView.of(await self.registry.connection(name))

    async def pause_connection(self, name: str) -> ConnectionView:
        """Poll no more until it is resumed; what was read is still published and delivered.

        Raises NotFound, and UserError when it is disconnected.
        """
        return await self._set_connection(name, ConnectionState.PAUSED)

    async def resume_connection(self, name: str) -> ConnectionView:
        """Poll again, at once and from where it stopped. Raises NotFound, and UserError when it is disconnected."""
        return await self._set_connection(name, ConnectionState.ACTIVE)

    async def reconnect(
        self,
        name: str,
        credentials: Mapping[str, Any],
        *,
        settings: Mapping[str, Any] | None = None,
        check: bool = True,
    ) -> ConnectionAdded:
        """Give a connection new credentials and a new token, and resume it where it stopped; `check` tries them first.

        `settings` take the place of all of them.

        Raises:
            NotFound: no such connection.
            UserError: a setting or credential cannot be used.
            KeyTrouble: there is no master key.
            Transient, Permanent: what the ERP said to the first look, with what to do; nothing was changed then.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        connector = given.connector_named(self.kinds, subject.connector)
        checked = given.credentials_given(connector, credentials)
        wanted = given.settings_given(connector, subject.settings if settings is None else settings)
        vault = self.vault()
        look = await first_look(connector, wanted, checked, subject.mapping.overrides) if check else None
        place = Place(subject.customer_id, subject.id, Purpose.CREDENTIALS)
        sealed = await vault.seal(place, orjson.dumps(dict(credentials)))
        token = new_token()
        anew = None if settings is None else wanted.model_dump(mode="json", exclude_unset=True)
        await self.registry.set_credentials(subject.id, sealed, digest_of(token), anew)
        return ConnectionAdded(connection=await self.connection(subject.id), look=look, token=token)

    async def remove_connection(self, name: str) -> ConnectionView:
        """Remove a connection with its snapshots, events and deliveries; what it was. Raises NotFound."""
        seen = await self.connection(name)
        await self.registry.remove("connections", seen.id)
        return seen

    async def _not_there(self, customer: str, name: str) -> None:
        """Before the ERP is asked; what stores the connection looks once more."""
        try:
            await self.registry.connection(f"{customer}/{name}")
        except NotFound:
            return
        raise AlreadyThere(f"{customer} already has a connection {name!r}: choose another name")

    async def _set_connection(self, name: str, state: ConnectionState) -> ConnectionView:
        subject: Connection = (await self.registry.connection(name)).subject
        if subject.state is ConnectionState.DISCONNECTED:
            raise UserError(f"{subject.name} is disconnected: it has no credentials. Reconnect it with some")
        await self.registry.set_connection(subject.id, state)
        return await self.connection(subject.id)


def new_token() -> str:
    """A connection's token, to be shown once."""
    return token_of(TokenKind.CONNECTION, os.urandom(TOKEN_BYTES))
