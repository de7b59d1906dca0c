"""Publish: the outbox of one connection, in order, to its topics.

    pending -> changes topic + state topic -> published        dead letters -> dead-letters topic -> done
    results -> command-results topic -> published
    notices -> admitted at once: Notify tells their topic

Only what the broker acknowledged without a gap is marked; the rest is published again, with the same ids.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson
import structlog

from relay import metrics
from relay.domain.cloudevents import cloudevent_headers
from relay.domain.connections import Lease
from relay.domain.dead_letters import dead_letter_headers, original
from relay.domain.errors import Transient
from relay.domain.messages import Incoming, Message, MessageRefused, Reason
from relay.domain.orders import order_key
from relay.domain.results import result_key
from relay.ports import Admissions, Outbox, OutboxEntry, OutboxRow, Publishing

log = structlog.get_logger()

MOST = 500
"""Rows per round: what measured best between the producer's batches and a transaction's length."""
NOTE = "ref_"
"""How the ids of letters begin that tell of a refused message."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """Topic names."""

    changes: str
    state: str
    dead_letters: str
    command_results: str


@dataclass
class Publish:
    """One connection's outbox on its way to Kafka."""

    lease: Lease
    outbox: Outbox
    publisher: Publishing
    admissions: Admissions
    topics: Destinations

    async def run_once(self) -> int:
        """One round; how many rows were dealt with: taken by the broker, or put aside because it never will.

        Raises:
            Transient: the broker is not there; what it took before is marked.
            LeaseLost: another worker publishes this outbox now.
        """
        pending = await self.outbox.to_publish(self.lease, MOST)
        told = await self._tell([row.event_id for row in pending if row.stream == "notices"])
        rows = [row for row in pending if row.stream != "notices"]
        if not rows:
            return told
        messages = [self._messages(row) for row in rows]
        published = await self.publisher.publish([each for some in messages for each in some])
        ends = accumulate(len(some) for some in messages)
        done = [row for row, end in zip(rows, ends, strict=True) if end <= published.acknowledged]
        if done:
            await self.outbox.save_published(self.lease, [row.position for row in done])
            metrics.EVENTS_PUBLISHED.inc(len(done))
            log.info("event.published", connection=self.lease.subject, events=len(done), last=done[-1].event_id)
        match published.error:
            case MessageRefused() as refused:
                await self._put_aside(rows[len(done)], refused)
                return told + len(done) + 1
            case Transient() as error:
                raise error
        return told + len(done)

    async def _tell(self, notices: Sequence[str]) -> int:
        """Endpoints hear of their connection without Kafka in between."""
        if not notices:
            return 0
        admitted = await self.admissions.admit(notices)
        log.info("notice.admitted", connection=self.lease.subject, events=admitted.events)
        return admitted.events

    def _messages(self, row: OutboxRow) -> tuple[Message, ...]:
        if row.stream == "dead-letters":
            return (self._letter(row),)
        data: dict[str, Any] = orjson.loads(row.body)["data"]
        if row.stream == "command-results":
            key = result_key(data)
            headers = _headers(row, data.get("order_id") or data["id"], key, commandid=data["command_id"])
            return (Message(self.topics.command_results, key.encode(), row.body, headers),)
        order, key = data["order"], order_key(row.connection_id, row.remote_id)
        headers = _headers(row, order["id"], key)
        change = Message(self.topics.changes, key.encode(), row.body, headers)
        if not row.latest:
            # Told again after a later one, it would turn the state topic back.
            return (change,)
        state = None if order["remote_was_deleted"] else orjson.dumps(order)
        return change, Message(self.topics.state, key.encode(), state, headers)

    def _letter(self, row: OutboxRow) -> Message:
        """A message that came from a topic goes as it came; a record of an ERP never was in one."""
        if row.origin is not None:
            came = original(row.origin, row.body)
        else:
            key = order_key(row.connection_id, row.remote_id).encode()
            came = Incoming(row.connection_id, -1, -1, key, row.body, ())
        headers = dead_letter_headers(
            came.headers,
            reason=Reason(row.type),
            detail=row.problem or "",
            topic=came.topic,
            partition=came.partition,
            offset=came.offset,
        )
        return Message(self.topics.dead_letters, came.key or b"", row.body, headers)

    async def _put_aside(self, row: OutboxRow, refused: MessageRefused) -> None:
        """Kafka can never take it: a dead letter says so there, and endpoints get it all the same."""
        log.error("event.refused", connection=row.connection_id, event_id=row.event_id, problem=str(refused))
        if not row.event_id.startswith(NOTE):
            await self.outbox.save_refused(self.lease, row, self._note(row, refused))
        if row.stream != "dead-letters":
            await self.admissions.admit([row.event_id])
        else:
            # A letter never comes back from its topic: it is done, or it would be published again and again.
            await self.outbox.save_published(self.lease, [row.position])

    def _note(self, row: OutboxRow, refused: MessageRefused) -> OutboxEntry:
        note = {"event_id": row.event_id, "type": row.type, "bytes": len(row.body), "problem": str(refused)}
        return OutboxEntry(
            event_id=NOTE + hashlib.sha256(row.event_id.encode()).hexdigest()[:32],
            stream="dead-letters",
            remote_id=row.remote_id,
            sequence=row.sequence,
            type=refused.reason,
            occurred_at=row.occurred_at,
            body=orjson.dumps(note),
            problem=str(refused),
        )


def _headers(row: OutboxRow, subject: str, key: str, **extensions: str) -> tuple[tuple[str, bytes], ...]:
    return cloudevent_headers(
        id=row.event_id,
        source=f"/relay/connections/{row.connection_id}",
        type=row.type,
        time=row.occurred_at,
        subject=subject,
        extensions={"sequence": str(row.sequence), "partitionkey": key, **extensions},
    )
