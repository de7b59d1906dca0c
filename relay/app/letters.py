"""Letters: what `relay dead-letters` stands on: the brokers, the dead-letters topic, and the database."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from relay.app.standing import data_directory, database_url, kafka_access
from relay.control.dead_letters import DeadLetters
from relay.domain.errors import Unavailable
from relay.embedded.address import HOST
from relay.settings import Settings
from relay.store.database import Database, opened
from relay.store.redrives import RedriveStore
from relay.wire.kafka import Topics, probe
from relay.wire.kafka_letters import LetterBox
from relay.wire.kafka_publisher import Publisher


@dataclass(frozen=True, slots=True)
class Desk:
    """The operations, and the database whose audit log notes them."""

    letters: DeadLetters
    database: Database


@asynccontextmanager
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    """Where dead letters are looked at, for as long as the block runs. Raises Unavailable."""
    access = kafka_access(settings, settings.kafka.bootstrap or _embedded(settings))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database_url(settings))
        database = await stack.enter_async_context(opened(url, connections=2))
        publisher = Publisher(access, await probe(access), deadline=settings.kafka.timeout.total_seconds())
        stack.push_async_callback(publisher.stop)
        box = LetterBox(access, Topics(settings.kafka.prefix).dead_letters)
        yield Desk(DeadLetters(box, publisher, RedriveStore(database)), database)


def _embedded(settings: Settings) -> str:
    """The broker of `relay up` on this machine."""
    try:
        port = int((data_directory(settings) / "broker" / "port").read_text())
    except (OSError, ValueError):
        raise Unavailable("no broker runs here: start `relay up`, or set RELAY_KAFKA__BOOTSTRAP") from None
    return f"{HOST}:{port}"
