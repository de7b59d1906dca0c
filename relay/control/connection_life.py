"""The life of a connection after it was added: looked at again, changed, given a new token, disconnected."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from relay.control import given
from relay.control.connection_views import ConnectionToken, ConnectionView, FirstLook
from relay.control.connections import ConnectionOperations, new_token
from relay.control.look import first_look
from relay.control.schedules import schedule_given, spans_given
from relay.domain.connections import Connection
from relay.domain.errors import UserError
from relay.domain.tokens import digest_of
from relay.store.callers import CallerStore


@dataclass(frozen=True, slots=True)
class ConnectionLife(ConnectionOperations):
    """What people do with connections that are there."""

    async def connection_page(
        self, after: tuple[str, str], most: int, *, customer: str | None = None, name: str | None = None
    ) -> list[ConnectionView]:
        """Up to `most` connections that follow (customer, name), without counts; `name` is as people give it."""
        rows = await self.registry.connection_page(after, most, customer=customer, name=name)
        return [ConnectionView.of(each) for each in rows]

    async def check_connection(self, name: str) -> FirstLook:
        """Read the first page of orders once more, with what is stored; nothing is changed.

        Raises:
            NotFound: no such connection.
            UserError: it is disconnected, or what is stored cannot be used.
            KeyTrouble: the credentials cannot be opened.
            Transient, Permanent: what the ERP said, with what to do.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        return await self._looked(subject, subject.settings)

    async def change_connection(  # noqa: PLR0913 - what of a connection can be changed
        self,
        name: str,
        *,
        new_name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        poll_every: timedelta | None = None,
        reconcile_every: timedelta | None = None,
        schedule: Mapping[str, Any] = MappingProxyType({}),
        check: bool = True,
    ) -> ConnectionView:
        """Change what is given and nothing else. `settings` take the place of all of them, after a new look.

        The address stays: the login that is stored was given for it, and goes to no other.

        `schedule` are values of Schedule, of which only those that are given change.

        Raises:
            NotFound: no such connection.
            AlreadyThere: the customer has another one of the new name.
            UserError: a value cannot be used, or somebody else changed it at the same time.
            KeyTrouble: the credentials cannot be opened for the look.
            Transient, Permanent: what the ERP said to the look, with what to do; nothing was changed then.
        """
        before: Connection = (await self.registry.connection(name)).subject
        connector = given.connector_named(self.kinds, before.connector)
        spans_given(connector.pace, poll_every, reconcile_every)
        after = replace(before, schedule=schedule_given(before.schedule, schedule))
        if new_name is not None:
            after = replace(after, name=given.name_given("connection", new_name))
        if poll_every is not None:
            after = replace(after, poll_every=poll_every)
        if reconcile_every is not None:
            after = replace(after, reconcile_every=reconcile_every)
        if settings is not None:
            checked = given.settings_given(connector, settings)
            _same_address(given.settings_given(connector, before.settings), checked)
            after = replace(after, settings=checked.model_dump(mode="json", exclude_unset=True))
            if check:
                await self._looked(before, settings)
        await self.registry.change_connection(before, after)
        return await self.connection(before.id)

    async def rotate_token(self, name: str) -> ConnectionToken:
        """A new token; the one before it is good no more.

        Raises NotFound, and UserError when the connection's credentials are refused or erased.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        token = new_token()
        await CallerStore(self.registry.database).set_token(subject.id, digest_of(token))
        return ConnectionToken(connection=await self.connection(subject.id), token=token)

    async def disconnect(self, name: str) -> ConnectionView:
        """Erase credentials and token now; nothing is read any more, and what was told is kept. Raises NotFound."""
        subject: Connection = (await self.registry.connection(name)).subject
        await self.registry.disconnect(subject.id)
        return await self.connection(subject.id)

    async def _looked(self, subject: Connection, settings: Mapping[str, Any]) -> FirstLook:
        connector = given.connector_named(self.kinds, subject.connector)
        checked = given.settings_given(connector, settings)
        credentials = given.credentials_given(connector, await self._opened(subject))
        return await first_look(connector, checked, credentials, subject.mapping.overrides)


def _same_address(before: BaseModel, after: BaseModel) -> None:
    def addresses(settings: BaseModel) -> dict[str, str]:
        told = settings.model_dump(mode="json")
        return {name: value for name, value in told.items() if isinstance(value, str) and "://" in value}

    old, new = addresses(before), addresses(after)
    if changed := sorted(name for name in old | new if old.get(name) != new.get(name)):
        raise UserError(
            f"{', '.join(changed)}: the login that is stored was given for another address, and goes nowhere else. "
            "Reconnect with the new settings and the credentials"
        )
