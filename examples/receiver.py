"""A receiver that misses nothing: it verifies webhooks, keeps each event once, sees gaps, and pulls what it lacks.

    webhook -> verified -> kept by its number -> handled, once and in order -> orders
                                 ^
    a gap, or a while -> the log, from the cursor on

Copy this file and put your own work into `handle`. It needs `pip install fastapi uvicorn httpx`, an endpoint that sends
whole events (which is the default), one process, and:

    WEBHOOK_SECRET   whsec_..., from `relay endpoints add`
    PULL_URL         https://relay.example.com/v1/endpoints/end_.../events
    PULL_TOKEN       rlyp_..., from `relay endpoints pull-token`
    INBOX            the SQLite file that everything is in (default: inbox.sqlite)
    PORT             where webhooks are taken, at POST /webhooks (default: 8000)
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response

TOLERANCE = 300
"""Seconds that a webhook's time may be away from ours."""
LARGEST = 4 * 1024 * 1024
"""Bytes of a webhook's body."""
GAP_AFTER = float(os.environ.get("GAP_AFTER", "2"))
"""Seconds between two looks for a gap: orders overtake each other, so most gaps close by themselves."""
LOOKS = 30
"""Looks after which the log is read without a gap, too: nothing shows that the newest event never came."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, id TEXT UNIQUE, cursor TEXT, body BLOB);
CREATE TABLE IF NOT EXISTS complete (number INTEGER, cursor TEXT);  -- everything up to here is there, and handled
INSERT INTO complete SELECT 0, NULL WHERE NOT EXISTS (SELECT 1 FROM complete);
CREATE TABLE IF NOT EXISTS forgotten (first INTEGER, last INTEGER);  -- relay kept them no longer when we asked
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, sequence INTEGER, status TEXT);
"""

log = logging.getLogger("receiver")


def handle(db: sqlite3.Connection, event: Mapping[str, Any]) -> None:
    """Your work: called once per event, in order, within the transaction that remembers it."""
    data = event["data"]
    if "order" not in data:
        return  # about a command or the connection itself
    db.execute(
        "INSERT INTO orders VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, status = excluded.status",
        (data["order_id"], data["sequence"], data["order"]["status"]),
    )


def verified(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the holder of the secret signed this webhook, a short while ago (Standard Webhooks, v1)."""
    message_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (at.isascii() and at.isdigit() and len(at) <= 12) or "." in message_id:  # noqa: PLR2004 - digits of a time
        return False
    if abs(time.time() - int(at)) > TOLERANCE:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    right = base64.b64encode(hmac.digest(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256))
    given = headers.get("webhook-signature", "").encode().split(b" ")
    # While a secret is replaced there are several signatures.
    return any(hmac.compare_digest(b"v1," + right, each) for each in given)


class Event(NamedTuple):
    """One event and its place in the log."""

    number: int
    id: str
    cursor: str
    body: bytes


class Inbox:
    """What has come so far, and up to where it is complete."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(SCHEMA)

    def complete(self) -> tuple[int, str | None]:
        """The number and the cursor up to which everything is there."""
        number, cursor = self._db.execute("SELECT number, cursor FROM complete").fetchone()
        return number, cursor

    def has_gap(self) -> bool:
        """Whether something came whose predecessors did not."""
        (newest,) = self._db.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
        return bool(newest > self.complete()[0])

    def keep(self, events: Iterable[Event]) -> None:
        """Keep what is new, and handle all that is complete now; returns when it is on the disk."""
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", events)
            self._advance(*self.complete())

    def go_on_at(self, number: int, cursor: str) -> None:
        """What follows up to `number` cannot be had any more."""
        with self._db:
            before, _ = self.complete()
            if number > before:
                self._db.execute("INSERT INTO forgotten VALUES (?, ?)", (before + 1, number))
                self._advance(number, cursor)

    def _advance(self, number: int, cursor: str | None) -> None:
        after = self._db.execute("SELECT * FROM events WHERE number > ? ORDER BY number", (number,))
        for event in map(Event._make, after):
            if event.number != number + 1:
                break
            handle(self._db, json.loads(event.body))
            number, cursor = event.number, event.cursor
        self._db.execute("UPDATE complete SET number = ?, cursor = ?", (number, cursor))


async def fill(inbox: Inbox, log_of_relay: httpx.AsyncClient) -> None:
    """Read the log from where we are complete to its end."""
    more = True
    while more:
        number, cursor = inbox.complete()
        page = await log_of_relay.get(os.environ["PULL_URL"], params={"after": cursor} if cursor else {})
        if page.status_code == httpx.codes.GONE:
            inbox.go_on_at(page.json()["first_number"] - 1, page.json()["oldest"])
            continue
        page.raise_for_status()
        events, answer = pulled(page.content), page.json()
        if number == 0 and cursor is None:
            # Our first look. What relay kept no longer by then was before our time.
            first = events[0].number if events else answer["last"] + 1
            inbox.go_on_at(first - 1, answer["next"])
        inbox.keep(events)
        more = answer["more"]


def pulled(page: bytes) -> list[Event]:
    """The events of a page. Each has a line of its own with its body last: the bytes that were signed as a webhook."""
    events = []
    for line in page.split(b"\n")[1:-1]:
        one = line.removesuffix(b",")
        head = json.loads(one)
        body = one.partition(b',"body":')[2].removesuffix(b"}")
        events.append(Event(head["number"], head["event_id"], head["cursor"], body))
    return events


async def fill_gaps(inbox: Inbox) -> None:
    """Read the log at the start, when a gap stays, and once in a while."""
    headers = {"authorization": f"Bearer {os.environ['PULL_TOKEN']}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as log_of_relay:
        while True:
            try:
                await fill(inbox, log_of_relay)
            except httpx.HTTPStatusError as error:
                log.warning("the log is refused: %s", error.response.text)  # it says what to do
            except httpx.HTTPError as error:
                log.warning("the log cannot be read now: %s", type(error).__name__)
            except Exception:
                log.exception("what was read cannot be handled now")
            for _ in range(LOOKS):
                await asyncio.sleep(GAP_AFTER)
                if inbox.has_gap():
                    break


@contextlib.asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Open the inbox, and fill its gaps beside the webhooks."""
    app.state.inbox = Inbox(os.environ.get("INBOX", "inbox.sqlite"))
    filling = asyncio.create_task(fill_gaps(app.state.inbox))
    yield
    filling.cancel()


app = FastAPI(lifespan=running, openapi_url=None)


@app.post("/webhooks")
async def webhook(request: Request) -> Response:
    """Take one webhook. Any answer but 2xx, or none, and relay sends it again."""
    headers = request.headers
    if not 0 <= int(headers.get("content-length", "-1")) <= LARGEST:
        return Response(status_code=413)
    body = await request.body()
    if not verified(os.environ["WEBHOOK_SECRET"], headers, body):
        return Response(status_code=401)
    # A test event has no place in the log.
    if number := int(headers.get("relay-number", "0")):
        request.app.state.inbox.keep([Event(number, headers["webhook-id"], headers["relay-cursor"], body)])
    return Response(status_code=204)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
