"""Notify: what operators must know goes to its topic, from whichever worker comes first.

    taken -> published -> told, or given back for later

Woken when a notice is written, and by a timer. A crash after publishing and before telling the store so publishes
again, with the same id.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from relay.domain.errors import Transient
from relay.domain.messages import MessageRefused
from relay.domain.notices import Notice, notice_message
from relay.ports import Publishing

log = structlog.get_logger()

MOST = 100
"""Notices per round: few enough to be published well within the minute for which they are taken."""
LOOK_AGAIN = 30.0
"""Seconds until a look without being woken: for what a worker that died had taken, and while nobody can be woken."""
TRY_AGAIN = 2.0
"""Seconds until the next try when the store or the broker was not there."""


class Notices(Protocol):
    """Notices that are to be told. Each method raises Unavailable when the store is not there."""

    async def take(self, most: int) -> list[Notice]:
        """Up to `most` notices to publish now, in order; nobody else is given them for a while."""
        ...

    async def told(self, ids: Sequence[str]) -> None:
        """These are done with."""
        ...

    async def give_back(self, ids: Sequence[str]) -> None:
        """These could not be published now."""
        ...

    async def forget(self) -> int:
        """Forget what was told long ago; how many."""
        ...


@dataclass
class Notify:
    """The notices of all customers on their way to Kafka; every worker has one."""

    store: Notices
    publisher: Publishing
    topic: str
    _bell: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def ring(self, _payload: str = "") -> None:
        """There may be something to tell."""
        self._bell.set()

    async def run(self) -> None:
        """Tell whatever there is until cancelled; what cannot be told now is tried again."""
        while True:
            self._bell.clear()
            try:
                while await self.run_once():
                    pass
                await self.store.forget()
            except Transient as error:
                log.warning("notices.waiting", problem=str(error))
                await asyncio.sleep(TRY_AGAIN)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), LOOK_AGAIN)

    async def run_once(self) -> int:
        """One round; how many notices were dealt with: taken by the broker, or given up because it never will.

        Raises:
            Transient: the store or the broker is not there; what the broker took before is marked.
        """
        taken = await self.store.take(MOST)
        if not taken:
            return 0
        published = await self.publisher.publish([notice_message(each, self.topic) for each in taken])
        done = published.acknowledged
        for each in taken[:done]:
            log.info(
                "notice.published", notice=each.id, type=each.type, customer=each.customer_id, subject=each.subject_id
            )
        if isinstance(published.error, MessageRefused):
            self._give_up(taken[done], published.error)
            done += 1
        await self.store.told([each.id for each in taken[:done]])
        if done < len(taken):
            await self.store.give_back([each.id for each in taken[done:]])
        if isinstance(published.error, Transient):
            raise published.error
        return done

    def _give_up(self, notice: Notice, refused: MessageRefused) -> None:
        # It must not hold up those behind it; the log is then the only place that tells of it.
        log.error(
            "notice.refused",
            notice=notice.id,
            type=notice.type,
            customer=notice.customer_id,
            subject=notice.subject_id,
            problem=str(refused),
        )
