"""Command keys: whose signature commands from Kafka need. relay holds public keys only, and can sign no command."""

from dataclasses import dataclass

from pydantic import Field

from relay.control.views import View
from relay.domain.connections import Connection
from relay.domain.ed25519_keys import parse_public_key
from relay.store.command_keys import CommandKeyStore
from relay.store.registry import Registry


class CommandKeyView(View):
    """The command key of a connection."""

    connection_id: str
    connection: str
    customer: str
    public_key: str | None = Field(description="`whpk_...`; null: no signature is good.")


@dataclass(frozen=True, slots=True)
class CommandKeys:
    """What people do with command keys."""

    registry: Registry

    async def show(self, name: str) -> CommandKeyView:
        """The key of a connection. Raises NotFound."""
        subject: Connection = (await self.registry.connection(name)).subject
        return _view(subject, await self._kept.key(subject.id))

    async def set(self, name: str, public_key: str | None) -> CommandKeyView:
        """Put this key in the place of the one before; None: none is good any more.

        Raises NotFound, and UserError when it is no public key.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        key = None if public_key is None else parse_public_key(public_key).text()
        await self._kept.set_key(subject.id, key)
        return _view(subject, key)

    @property
    def _kept(self) -> CommandKeyStore:
        return CommandKeyStore(self.registry.database)


def _view(subject: Connection, key: str | None) -> CommandKeyView:
    return CommandKeyView(
        connection_id=subject.id, connection=subject.name, customer=subject.customer_id, public_key=key
    )
