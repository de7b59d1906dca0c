"""Doubts: the commands of one connection of which it is open whether they took effect, or what came of it.

    page read -> new orders by their marks -> page told, with the commands that asked for what is seen

A poll may see what a command did before the command itself is looked up: the change is told as the command's then, too.
"""

from dataclasses import dataclass, field

from relay.domain.commands import Create
from relay.domain.effects import caused
from relay.domain.errors import Permanent, Transient
from relay.domain.events import Snapshot
from relay.domain.orders import PurchaseOrder
from relay.ports import Connector, OpenCommand


@dataclass
class Doubts:
    """Those of one connection, as long as they are open."""

    connector: Connector | None = None
    """None: nothing is ever written."""
    _open: dict[str, OpenCommand] = field(default_factory=dict, init=False)
    _new: dict[str, str] = field(default_factory=dict, init=False)
    """Remote ids of new orders that were found, by command."""

    def note(self, command: OpenCommand) -> None:
        """It is about to be sent, or was, or was written to an order that could not be read back."""
        self._open[command.id] = command
        if command.written and isinstance(command.command, Create):
            self.made(command.id, command.written)

    def made(self, id: str, remote_id: str) -> None:  # noqa: A002 - the port's name
        """The new order that it made was found."""
        self._new[id] = remote_id

    def clear(self, id: str) -> None:  # noqa: A002 - the port's name
        """It is over, or certain that nothing was written."""
        self._open.pop(id, None)
        self._new.pop(id, None)

    @property
    def making(self) -> bool:
        """Whether there are new orders among them."""
        return any(isinstance(each.command, Create) for each in self._open.values())

    async def look(self) -> Transient | None:
        """Find the new orders that commands may have made; what stands in the way.

        What the ERP cannot tell at all leaves a change without its command, and not the page unread.
        """
        writer = self.connector.writer() if self.connector and self._open else None
        if writer is None or not writer.finds:
            return None
        for each in list(self._open.values()):
            if isinstance(each.command, Create) and each.id not in self._new:
                try:
                    found = await writer.find(each.command)
                except Transient as error:
                    return error
                except Permanent:
                    continue
                if found:
                    self._new[each.id] = found
        return None

    def causes(self, last: Snapshot | None, order: PurchaseOrder) -> tuple[str, ...]:
        """The commands that asked for what differs between an order's last told state and this one."""
        return tuple(each.command.command_id for each in self._open.values() if self._caused(each, last, order))

    def _caused(self, each: OpenCommand, last: Snapshot | None, order: PurchaseOrder) -> bool:
        if isinstance(each.command, Create):
            return last is None and self._new.get(each.id) == order.remote_id
        if each.command.remote_id != order.remote_id:
            return False
        assert self.connector
        told, written = last.tree if last else None, each.written is not None
        return caused(each.command, each.before, told, order.tree(), self.connector.capabilities(), written=written)
