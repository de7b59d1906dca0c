"""What is sent to: a broker, and a URL."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from relay.domain.deliveries import Answer
from relay.domain.messages import Message, Published
from relay.domain.verification import Permission


class Publishing(Protocol):
    """A producer of messages."""

    async def publish(self, messages: Sequence[Message]) -> Published:
        """Send in the given order; how many of the first are acknowledged, and why not more."""
        ...


class Sending(Protocol):
    """A client of one URL."""

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body`; whatever happens is an answer."""
        ...


class Asking(Sending, Protocol):
    """A client of one URL that can also be asked whether it wants webhooks."""

    async def ask(self, headers: Mapping[str, str]) -> Permission:
        """OPTIONS: whether the URL wants webhooks; whatever happens is an answer."""
        ...
