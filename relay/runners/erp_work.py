"""ErpWork: reading and commands of one connection, side by side, until it needs a person or is stopped."""

import asyncio
from dataclasses import dataclass

from relay.stages.attend import Attend
from relay.stages.execute import Execute


@dataclass
class ErpWork:
    """What one ERP is asked, and what is written to it."""

    attend: Attend
    execute: Execute

    def ring(self) -> None:
        """Somebody asked for something."""
        self.attend.ring()
        self.execute.ring()

    def stop(self) -> None:
        """Read no further, and end when the commands that are being done are."""
        self.execute.stop()

    async def run(self) -> None:
        """Work until stopped, or until credentials are refused, to whichever of the two.

        Raises LeaseLost, and Unavailable when the store is not there.
        """
        # A poll may see what a command did whose outcome is open: it must know of it.
        await self.execute.look()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self.attend.run())
            reading.add_done_callback(lambda _: self.execute.stop())
            executing = tasks.create_task(self.execute.run())
            await self.execute.stopping.wait()
            # A page is one transaction: breaking off between two loses nothing.
            reading.cancel()
            refused = await executing
        if refused:
            await self.attend.poll.failed(refused)
