"""Endpoints: added with a secret that is shown once, changed, tested, enabled, disabled, removed."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from relay.control import given
from relay.control.at_hand import AtHand
from relay.control.endpoint_options import options_given
from relay.control.endpoint_views import EndpointAdded, EndpointView, KeyView, SecretRotated
from relay.control.signing import OVERLAP, EndpointSecrets, for_receiver, made, public_of, sealable
from relay.control.testing import EndpointTested, EndpointTesting
from relay.domain import access as accesses
from relay.domain.access import Access
from relay.domain.endpoints import Endpoint, EndpointId, EndpointState
from relay.domain.rotation import Signing
from relay.vault.vault import Place, Purpose
from relay.wire.webhook import check_access, check_host, check_url

RESOLVE_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class EndpointOperations(AtHand):
    """What people do with endpoints."""

    async def add_endpoint(  # noqa: PLR0913 - what an endpoint is made of
        self,
        *,
        customer: str,
        name: str,
        url: str,
        event_types: Iterable[str] = (),
        connections: Iterable[str] = (),
        at_once: int | None = None,
        deadline: timedelta | None = None,
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
        checked_url = check_url(url, allow_http=self.usual.allow_http)
        unresolved = await check_host(checked_url, self.egress, within=RESOLVE_WITHIN, resolve=self.resolve)
        new_secrets, endpoint_id = made(signing), EndpointId(f"end_{secrets.token_hex(12)}")
        place = Place(customer, endpoint_id, Purpose.SIGNING_SECRET)
        wanted = check_access(accesses.given(access), allow_http=self.usual.allow_http)
        new = Endpoint(
            id=endpoint_id,
            customer_id=customer,
            name=name,
            url=checked_url,
            event_types=given.event_types_given(event_types),
            connections=tuple([await self._connection_id(customer, each) for each in connections]),
            at_once=given.at_once_given(self.usual.at_once if at_once is None else at_once),
            deadline=_deadline(self.usual.deadline if deadline is None else deadline),
            options=options_given(options),
            sealed=await self.vault().seal(place, sealable(new_secrets)),
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
            after = replace(after, url=check_url(url, allow_http=self.usual.allow_http))
            await check_host(after.url, self.egress, within=RESOLVE_WITHIN, resolve=self.resolve)
        if event_types is not None:
            after = replace(after, event_types=given.event_types_given(event_types))
        if connections is not None:
            found = [await self._connection_id(before.customer_id, each) for each in connections]
            after = replace(after, connections=tuple(found))
        if at_once is not None:
            after = replace(after, at_once=given.at_once_given(at_once))
        if deadline is not None:
            after = replace(after, deadline=_deadline(deadline))
        if access is not None:
            wanted = check_access(accesses.given(access), allow_http=self.usual.allow_http)
            after = replace(after, access=await self._sealed_access(before.customer_id, before.id, wanted))
        await self.registry.change_endpoint(before, after)
        return await self.endpoint(before.id)

    async def endpoints(self) -> list[EndpointView]:
        """All endpoints, by customer and name."""
        return [EndpointView.of(each) for each in await self.registry.endpoints()]

    async def endpoint_page(
        self, after: tuple[str, str], most: int, *, customer: str | None = None, name: str | None = None
    ) -> list[EndpointView]:
        """Up to `most` endpoints that follow (customer, name), without counts; `name` is as people give it."""
        rows = await self.registry.endpoint_page(after, most, customer=customer, name=name)
        return [EndpointView.of(each) for each in rows]

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

    async def _sealed_access(self, customer: str, endpoint_id: str, access: Access) -> bytes:
        if access == Access():
            return b""
        return await self.vault().seal(Place(customer, endpoint_id, Purpose.ACCESS), accesses.written(access))

    async def _silent(self, customer: str) -> tuple[str, ...]:
        if any(each.subject.customer_id == customer for each in await self.registry.connections()):
            return ()
        return (f"{customer} has no connections yet: nothing will be sent before one is added",)

    async def _set_endpoint(self, name: str, state: EndpointState) -> EndpointView:
        await self.registry.set_endpoint((await self.registry.endpoint(name)).subject.id, state)
        return await self.endpoint(name)


def _deadline(span: timedelta) -> timedelta:
    return given.span_given("deadline", span, given.SHORTEST_DEADLINE, given.LONGEST_DEADLINE)
