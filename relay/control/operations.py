"""Operations: one method per thing that people do, checked before anything is stored.

    given -> checked -> (a first look at the ERP) -> sealed -> stored -> shown

Secrets come in and are sealed; only a new signing secret goes out, once.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import orjson

from relay.control import given
from relay.control.endpoint_options import options_given
from relay.control.explain import Explaining, Explanation
from relay.control.look import first_look, unconnected
from relay.control.replay import Replaying
from relay.control.signing import OVERLAP, EndpointSecrets, for_receiver, made, public_of, sealable
from relay.control.testing import EndpointTested, EndpointTesting
from relay.control.views import (
    ConnectionAdded,
    ConnectionView,
    DeliveryView,
    EndpointAdded,
    EndpointView,
    KeyView,
    SecretRotated,
)
from relay.domain import access as accesses
from relay.domain.access import Access
from relay.domain.capabilities import Capabilities
from relay.domain.connections import Connection, ConnectionId, ConnectionState, CustomerId
from relay.domain.deliveries import DeliveryState
from relay.domain.egress import Policy
from relay.domain.endpoints import DEFAULT_AT_ONCE, Endpoint, EndpointId, EndpointState
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.rotation import Signing
from relay.domain.verification import ORIGIN
from relay.ports import ConnectorKind
from relay.store.explain import ExplainStore
from relay.store.registry import Registry
from relay.store.replays import ReplayList
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.egress import Resolver, lookup
from relay.wire.webhook import check_access, check_host, check_url

POLL_EVERY = timedelta(seconds=60)
RECONCILE_EVERY = timedelta(hours=1)
AT_ONCE = DEFAULT_AT_ONCE
DEADLINE = timedelta(seconds=15)
RESOLVE_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Control:
    """The operations. `vault` is called only by those that seal or open, so that the others need no master key."""

    registry: Registry
    vault: Callable[[], Vault]
    kinds: Mapping[str, ConnectorKind]
    egress: Policy = field(default_factory=Policy)
    resolve: Resolver = lookup
    origin: str = ORIGIN
    """What relay is called where a receiver must allow it."""

    async def add_connection(  # noqa: PLR0913 - what a connection is made of
        self,
        *,
        customer: str,
        kind: str,
        name: str,
        settings: Mapping[str, Any],
        credentials: Mapping[str, Any],
        poll_every: timedelta = POLL_EVERY,
        reconcile_every: timedelta = RECONCILE_EVERY,
        check: bool = True,
    ) -> ConnectionAdded:
        """Add a connection, with its customer when that is new. `check` reads a page of orders before storing anything.

        Raises:
            UserError: a name, setting or credential cannot be used; each is named.
            AlreadyThere: the customer has a connection of that name.
            KeyTrouble: there is no master key.
            Transient, Permanent: what the ERP said to the first look, with what to do.
        """
        connector = given.connector_named(self.kinds, kind)
        given.name_given("customer", customer)
        given.name_given("connection", name)
        checked_settings = given.settings_given(connector, settings)
        checked_credentials = given.credentials_given(connector, credentials)
        given.span_given("poll_every", poll_every, given.SHORTEST_POLL, given.LONGEST_POLL)
        vault = self.vault()
        await self._not_there(customer, name)
        look = await first_look(connector, checked_settings, checked_credentials) if check else None
        connection_id = ConnectionId(f"con_{secrets.token_hex(12)}")
        new = Connection(
            id=connection_id,
            customer_id=CustomerId(customer),
            name=name,
            connector=kind,
            settings=checked_settings.model_dump(mode="json", exclude_unset=True),
            poll_every=poll_every,
            reconcile_every=reconcile_every,
            sealed=await self._sealed(
                vault, Place(customer, connection_id, Purpose.CREDENTIALS), orjson.dumps(dict(credentials))
            ),
        )
        await self.registry.add_connection(new)
        return ConnectionAdded(connection=await self.connection(connection_id), look=look)

    async def connections(self) -> list[ConnectionView]:
        """All connections, by customer and name."""
        return [ConnectionView.of(each) for each in await self.registry.connections()]

    async def connection(self, name: str) -> ConnectionView:
        """One connection with counts. Raises NotFound, or UserError when several have that name."""
        return ConnectionView.of(await self.registry.connection(name))

    async def pause_connection(self, name: str) -> ConnectionView:
        """Poll no more until it is resumed; what was read is still published and delivered. Raises NotFound."""
        return await self._set_connection(name, ConnectionState.PAUSED)

    async def resume_connection(self, name: str) -> ConnectionView:
        """Poll again, at once and from where it stopped. Raises NotFound."""
        return await self._set_connection(name, ConnectionState.ACTIVE)

    async def reconnect(self, name: str, credentials: Mapping[str, Any], *, check: bool = True) -> ConnectionAdded:
        """Give a connection new credentials and resume it where it stopped; `check` tries them first.

        Raises:
            NotFound: no such connection.
            UserError: a credential cannot be used.
            KeyTrouble: there is no master key.
            Transient, Permanent: what the ERP said to the first look, with what to do; nothing was changed then.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        connector = given.connector_named(self.kinds, subject.connector)
        checked = given.credentials_given(connector, credentials)
        settings = given.settings_given(connector, subject.settings)
        vault = self.vault()
        look = await first_look(connector, settings, checked) if check else None
        place = Place(subject.customer_id, subject.id, Purpose.CREDENTIALS)
        sealed = await self._sealed(vault, place, orjson.dumps(dict(credentials)))
        await self.registry.set_credentials(subject.id, sealed)
        return ConnectionAdded(connection=await self.connection(subject.id), look=look)

    async def remove_connection(self, name: str) -> ConnectionView:
        """Remove a connection with its snapshots, events and deliveries; what it was. Raises NotFound."""
        seen = await self.connection(name)
        await self.registry.remove("connections", seen.id)
        return seen

    async def capabilities(self, name: str) -> Capabilities:
        """The field mapping of a connection; its ERP is not asked. Raises NotFound, UserError, KeyTrouble."""
        subject: Connection = (await self.registry.connection(name)).subject
        connector = given.connector_named(self.kinds, subject.connector)
        place = Place(subject.customer_id, subject.id, Purpose.CREDENTIALS)
        secret = self.vault().open(await self.registry.customer_key(subject.customer_id), place, subject.sealed)
        # Stored by an earlier version, perhaps: what this one does not take is named, and no value with it.
        settings = given.settings_given(connector, subject.settings)
        credentials = given.credentials_given(connector, orjson.loads(secret))
        async with unconnected(connector, settings, credentials) as built:
            return built.capabilities()

    async def add_endpoint(  # noqa: PLR0913 - what an endpoint is made of
        self,
        *,
        customer: str,
        name: str,
        url: str,
        event_types: Iterable[str] = (),
        connections: Iterable[str] = (),
        at_once: int = AT_ONCE,
        deadline: timedelta = DEADLINE,
        allow_http: bool = False,
        signing: str = Signing.HMAC,
        options: Mapping[str, Any] = MappingProxyType({}),
        access: Mapping[str, Any] = MappingProxyType({}),
    ) -> EndpointAdded:
        """Add an endpoint, with its customer when that is new; its signing secret is in the answer and nowhere else.

        `signing` is `hmac`, `ed25519` or `both`; `options` are those of EndpointOptions that are not the default;
        `access` is what the receiver asks for beside the signature, and is sealed.

        Raises:
            UserError: a name, the address, an event type, the signing or another value cannot be used, or `egress`
                forbids the address. A host that cannot be resolved is a notice: it may come to be.
            AlreadyThere: the customer has an endpoint of that name.
            NotFound: the customer has no such connection.
            KeyTrouble: there is no master key.
        """
        given.name_given("customer", customer)
        given.name_given("endpoint", name)
        checked_url = check_url(url, allow_http=allow_http)
        unresolved = await check_host(checked_url, self.egress, within=RESOLVE_WITHIN, resolve=self.resolve)
        new_secrets, endpoint_id = made(signing), EndpointId(f"end_{secrets.token_hex(12)}")
        place = Place(customer, endpoint_id, Purpose.SIGNING_SECRET)
        wanted = check_access(accesses.given(access), allow_http=allow_http)
        new = Endpoint(
            id=endpoint_id,
            customer_id=customer,
            name=name,
            url=checked_url,
            event_types=given.event_types_given(event_types),
            connections=tuple([await self._connection_id(customer, each) for each in connections]),
            at_once=given.at_once_given(at_once),
            deadline=given.span_given("deadline", deadline, given.SHORTEST_DEADLINE, given.LONGEST_DEADLINE),
            options=options_given(options),
            sealed=await self._sealed(self.vault(), place, sealable(new_secrets)),
            access=await self._sealed_access(customer, endpoint_id, wanted),
        )
        await self.registry.add_endpoint(new, public_of(new_secrets))
        return EndpointAdded(
            **for_receiver(new_secrets),
            endpoint=await self.endpoint(endpoint_id),
            notices=(*unresolved, *await self._silent(customer)),
        )

    async def change_endpoint(  # noqa: PLR0913 - what of an endpoint can be changed
        self,
        name: str,
        *,
        url: str | None = None,
        event_types: Iterable[str] | None = None,
        connections: Iterable[str] | None = None,
        at_once: int | None = None,
        deadline: timedelta | None = None,
        allow_http: bool = False,
        options: Mapping[str, Any] = MappingProxyType({}),
        defaults: Iterable[str] = (),
        access: Mapping[str, Any] | None = None,
    ) -> EndpointView:
        """Change what is given and nothing else; deliveries under way are finished as they began.

        `options` are values of EndpointOptions by name, `defaults` names of those that are the default from now on.
        `access` takes the place of the whole access; an empty one ends it.

        Raises:
            NotFound: no such endpoint, or its customer has no such connection.
            UserError: a value cannot be used, or somebody else changed the endpoint at the same time; nothing was
                changed.
        """
        before: Endpoint = (await self.registry.endpoint(name)).subject
        after = replace(before, options=options_given(options, before.options, defaults))
        if url is not None:
            after = replace(after, url=check_url(url, allow_http=allow_http))
            await check_host(after.url, self.egress, within=RESOLVE_WITHIN, resolve=self.resolve)
        if event_types is not None:
            after = replace(after, event_types=given.event_types_given(event_types))
        if connections is not None:
            found = [await self._connection_id(before.customer_id, each) for each in connections]
            after = replace(after, connections=tuple(found))
        if at_once is not None:
            after = replace(after, at_once=given.at_once_given(at_once))
        if deadline is not None:
            bounds = (given.SHORTEST_DEADLINE, given.LONGEST_DEADLINE)
            after = replace(after, deadline=given.span_given("deadline", deadline, *bounds))
        if access is not None:
            wanted = check_access(accesses.given(access), allow_http=allow_http)
            after = replace(after, access=await self._sealed_access(before.customer_id, before.id, wanted))
        await self.registry.change_endpoint(before, after)
        return await self.endpoint(before.id)

    async def endpoints(self) -> list[EndpointView]:
        """All endpoints, by customer and name."""
        return [EndpointView.of(each) for each in await self.registry.endpoints()]

    async def endpoint(self, name: str) -> EndpointView:
        """One endpoint with counts. Raises NotFound, or UserError when several have that name."""
        return EndpointView.of(await self.registry.endpoint(name))

    async def enable_endpoint(self, name: str) -> EndpointView:
        """Send again, what waited first. Raises NotFound."""
        return await self._set_endpoint(name, EndpointState.ACTIVE)

    async def disable_endpoint(self, name: str) -> EndpointView:
        """Send nothing more; deliveries wait. Raises NotFound."""
        return await self._set_endpoint(name, EndpointState.DISABLED)

    async def rotate_secret(
        self, name: str, *, overlap: timedelta = OVERLAP, signing: str | None = None, begin: datetime | None = None
    ) -> SecretRotated:
        """A new signing secret, from `begin` (None: now); the older ones end `overlap` later.

        Raises NotFound, UserError, KeyTrouble.
        """
        secrets = EndpointSecrets(self.registry, self.vault)
        return await secrets.rotate(name, overlap=overlap, signing=signing, begin=begin)

    async def endpoint_keys(self, name: str) -> list[KeyView]:
        """An endpoint's live and planned secrets, without the secrets. Raises NotFound, UserError, KeyTrouble."""
        return await EndpointSecrets(self.registry, self.vault).keys(name)

    async def test_endpoint(self, name: str, types: Iterable[str] = (), *, every: bool = False) -> EndpointTested:
        """Send samples to an endpoint and say what came back. Raises NotFound, UserError, KeyTrouble."""
        testing = EndpointTesting(self.registry, self.vault, self.egress, self.resolve, self.origin)
        return await testing.test(name, types, every=every)

    async def remove_endpoint(self, name: str) -> EndpointView:
        """Remove an endpoint with its deliveries; what it was. Raises NotFound."""
        seen = await self.endpoint(name)
        await self.registry.remove("endpoints", seen.id)
        return seen

    async def deliveries(  # noqa: PLR0913 - one per filter
        self,
        *,
        endpoint: str | None = None,
        state: str | None = None,
        order: str | None = None,
        event_types: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 50,
    ) -> list[DeliveryView]:
        """The latest deliveries, newest first. `order` is a purchase order's remote id. Raises NotFound, UserError.

        `since` and `until` are about when a delivery was made; its event is a little older.
        """
        if state is not None and state not in set(DeliveryState):
            raise UserError(f"unknown state {state!r}: the known ones are {', '.join(DeliveryState)}")
        endpoint_id = (await self.registry.endpoint(endpoint)).subject.id if endpoint else None
        rows = await self.registry.deliveries(
            endpoint=endpoint_id,
            state=state,
            order=order,
            event_types=given.event_types_given(event_types),
            since=since,
            until=until,
            most=most,
        )
        return [DeliveryView.of(row) for row in rows]

    async def delivery(self, delivery_id: str) -> DeliveryView:
        """One delivery with its attempts. Raises NotFound."""
        return DeliveryView.of(await self.registry.delivery(delivery_id))

    async def retry_delivery(self, delivery_id: str) -> DeliveryView:
        """Send a delivery now. Raises NotFound, and UserError when it waits behind another of its order."""
        await self.registry.retry(delivery_id)
        return await self.delivery(delivery_id)

    async def explain(self, order: str, connection: str | None = None) -> Explanation:
        """Where an order's change is now, and why. Raises NotFound, and UserError when several are called so."""
        return await Explaining(self.registry, ExplainStore(self.registry.database)).order(order, connection)

    @property
    def replaying(self) -> Replaying:
        """Sending events again."""
        database = self.registry.database
        return Replaying(self.registry, ReplayList(database), ExplainStore(database))

    async def _not_there(self, customer: str, name: str) -> None:
        """Before the ERP is asked; what stores the connection looks once more."""
        try:
            await self.registry.connection(f"{customer}/{name}")
        except NotFound:
            return
        raise AlreadyThere(f"{customer} already has a connection {name!r}: choose another name")

    async def _sealed(self, vault: Vault, place: Place, plaintext: bytes) -> bytes:
        key = await self.registry.customer_key(place.customer_id, vault.new_customer_key(place.customer_id))
        return vault.seal(key, place, plaintext)

    async def _sealed_access(self, customer: str, endpoint_id: str, access: Access) -> bytes:
        if access == Access():
            return b""
        return await self._sealed(self.vault(), Place(customer, endpoint_id, Purpose.ACCESS), accesses.written(access))

    async def _connection_id(self, customer: str, name: str) -> str:
        try:
            seen = await self.registry.connection(f"{customer}/{name}")
        except NotFound:
            seen = await self.registry.connection(name)
        subject: Connection = seen.subject
        if subject.customer_id != customer:
            raise NotFound(f"{customer} has no connection {name!r}: see `relay connections list`")
        return subject.id

    async def _silent(self, customer: str) -> tuple[str, ...]:
        if any(each.subject.customer_id == customer for each in await self.registry.connections()):
            return ()
        return (f"{customer} has no connections yet: nothing will be sent before one is added",)

    async def _set_connection(self, name: str, state: ConnectionState) -> ConnectionView:
        await self.registry.set_connection((await self.registry.connection(name)).subject.id, state)
        return await self.connection(name)

    async def _set_endpoint(self, name: str, state: EndpointState) -> EndpointView:
        await self.registry.set_endpoint((await self.registry.endpoint(name)).subject.id, state)
        return await self.endpoint(name)
