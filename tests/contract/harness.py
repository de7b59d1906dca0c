"""What a connector brings to join the shared suite, and the transports the suite puts between it and its ERP.

    connector -> PoliteTransport -> Watching | Failing | Junk -> Replay (recorded exchanges) or a simulator

A connector joins with one `Harness` in `erps.py`.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from relay.domain.mapping import MappingOverrides
from relay.ports import Connector, ConnectorKind, Mappings, Pace
from relay.wire.erp import PoliteTransport

CANARY = "canary-7f3a9c-password"
QUICK = Pace(per_second=1e6, burst=10**6, at_once=4, timeout=30)

Answer = Callable[[httpx.Request], httpx.Response]


@dataclass(frozen=True)
class Writing:
    """What a connector that writes brings to the suite of writers: orders that its ERP takes, and one it does not.

    Orders, lines and fields are as in a command.
    """

    open: Callable[[str], AbstractAsyncContextManager[httpx.AsyncBaseTransport]]
    """The ERP for the scenario of this name; what it writes is there until it is closed."""
    order: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    """At least two."""
    update: Mapping[str, Any]
    """Other values of the header, which a new order takes."""
    line: Mapping[str, Any]
    """Other values of any of `lines`."""
    unknown: tuple[str, Mapping[str, Any]]
    """A canonical field, and what of the header makes the ERP refuse it as unknown."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that writing needs."""


@dataclass(frozen=True)
class Harness:
    """One connector in the suite."""

    kind: ConnectorKind
    settings: Mapping[str, Any]
    mapping: MappingOverrides
    """What the connection maps otherwise than its connector does; every test of the suite runs with it."""
    username: str
    open: Callable[[], AbstractAsyncContextManager[httpx.AsyncBaseTransport]]
    """The ERP, filled with the orders of `ids`; the same at every opening."""
    ids: frozenset[str]
    is_read: Callable[[httpx.Request], bool]
    """Whether a request asks for business data and changes nothing."""
    is_login: Callable[[httpx.Request], bool]
    rows: Callable[[Any], list[dict[str, Any]]]
    """The records of orders in an answer's JSON, to be spoilt."""
    owner: Callable[[dict[str, Any]], str]
    """The remote id of a record's order."""
    keys: frozenset[str] = frozenset()
    """Fields that say whose a record is: spoilt ones are tested where they can be, beside the connector."""
    nothing: Answer = field(default=lambda _: httpx.Response(404))
    """The answer to a question that spoilt records led to and nobody recorded."""
    writing: Writing | None = None

    def connect(
        self, transport: httpx.AsyncBaseTransport, mappings: Mappings | None = None, **settings: Any
    ) -> Connector:
        """A new connector with the canary as its password."""
        client = httpx.AsyncClient(transport=PoliteTransport(transport, QUICK, sleep=no_sleep))
        mappings = mappings or Mappings(self.mapping)
        return self.kind.build(self.made_settings(**settings), self.credentials(), client, mappings)

    def made_settings(self, **settings: Any) -> Any:
        return self.kind.settings(**{**self.settings, **settings})

    def credentials(self) -> Any:
        return self.kind.credentials(username=self.username, password=CANARY)


async def no_sleep(_seconds: float) -> None:
    await asyncio.sleep(0)


class Watching(httpx.AsyncBaseTransport):
    """Remembers every request."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return await self.inner.handle_async_request(request)


class Failing(httpx.AsyncBaseTransport):
    """Answers what `when` picks with `answer`, which may raise; passes the rest on."""

    def __init__(self, inner: httpx.AsyncBaseTransport, when: Callable[[httpx.Request], bool], answer: Answer) -> None:
        self.inner, self.when, self.answer = inner, when, answer
        self.failed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self.when(request):
            return await self.inner.handle_async_request(request)
        self.failed += 1
        return self.answer(request)


class Remembering(httpx.AsyncBaseTransport):
    """Asks each question once; `spoil` may change the JSON of an answer before it goes out."""

    def __init__(self, inner: httpx.AsyncBaseTransport, spoil: Callable[[Any], None] = lambda _: None) -> None:
        self.inner = inner
        self.spoil = spoil
        self.known: dict[str, tuple[int, bytes]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key = question(request)
        if key not in self.known:
            reply = await self.inner.handle_async_request(request)
            self.known[key] = reply.status_code, await reply.aread()
        status, body = self.known[key]
        content = json.loads(body) if body else None
        self.spoil(content)
        # ASCII escapes carry lone surrogates, which UTF-8 cannot.
        return httpx.Response(status, content=json.dumps(content).encode() if body else b"")


class Replay(httpx.AsyncBaseTransport):
    """Recorded exchanges; a question that was never recorded fails the test."""

    def __init__(self, path: Path, nothing: Answer) -> None:
        self.exchanges: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        self.nothing = nothing
        self.lenient = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = self.exchanges.get(question(request))
        if body is None:
            assert self.lenient, f"not recorded, record again: {question(request)[:500]}"
            return self.nothing(request)
        return httpx.Response(200, text=body, headers={"Content-Type": "application/json"})


class ReplayInTurn(httpx.AsyncBaseTransport):
    """One recorded scenario: the same question may be answered otherwise after a write."""

    def __init__(self, path: Path, name: str) -> None:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        self.bodies: list[str] = recorded["bodies"]
        self.turns: dict[str, list[int]] = {asked: list(turns) for asked, turns in recorded["scenarios"][name].items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        turns = self.turns.get(question(request))
        assert turns, f"not recorded, record again: {question(request)[:500]}"
        return httpx.Response(200, text=self.bodies[turns.pop(0)], headers={"Content-Type": "application/json"})


class RecordingInTurn(httpx.AsyncBaseTransport):
    """Keeps what a real ERP answers in each scenario, for `ReplayInTurn`; `clean` makes a body fit to be kept."""

    def __init__(self, clean: Callable[[httpx.Request, str], str]) -> None:
        self.inner: httpx.AsyncBaseTransport = httpx.MockTransport(lambda _: httpx.Response(404))
        self.clean = clean
        self.bodies: dict[str, int] = {}
        self.scenarios: dict[str, dict[str, list[int]]] = {}
        self.name = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reply = await self.inner.handle_async_request(request)
        await reply.aread()
        assert reply.status_code == 200, reply.text
        number = self.bodies.setdefault(self.clean(request, reply.text), len(self.bodies))
        self.scenarios.setdefault(self.name, {}).setdefault(question(request), []).append(number)
        return httpx.Response(200, text=reply.text)

    def write(self, path: Path) -> None:
        text = json.dumps({"bodies": list(self.bodies), "scenarios": self.scenarios}, ensure_ascii=False, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


class Recording(httpx.AsyncBaseTransport):
    """Keeps what a real ERP answers, for `Replay`; `clean` makes a body fit to be kept."""

    def __init__(self, inner: httpx.AsyncBaseTransport, clean: Callable[[httpx.Request, str], str]) -> None:
        self.inner, self.clean = inner, clean
        self.exchanges: dict[str, str] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reply = await self.inner.handle_async_request(request)
        await reply.aread()
        assert reply.status_code == 200, reply.text
        self.exchanges[question(request)] = self.clean(request, reply.text)
        return httpx.Response(200, text=reply.text)

    def write(self, path: Path) -> None:
        text = json.dumps(self.exchanges, ensure_ascii=False, indent=1, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")


def question(request: httpx.Request) -> str:
    """What is asked, without what differs from call to call: the host, the JSON-RPC id, a login's parameters."""
    body = json.loads(request.content) if request.content else None
    if isinstance(body, dict):
        body.pop("id", None)
        if str(body.get("method", "")).endswith("login"):
            body.pop("params", None)
    query = sorted(request.url.params.multi_items())
    return json.dumps([request.method, request.url.path, query, body], ensure_ascii=False, sort_keys=True)


def places(record: Any, keys: frozenset[str]) -> Iterator[tuple[Any, str]]:
    """Every place of a record that holds a plain value: its container and its name there."""
    for name, value in record.items() if isinstance(record, dict) else ():
        if name in keys:
            continue
        parts = value if isinstance(value, list) else [value]
        inner = [part for part in parts if isinstance(part, dict)]
        for part in inner:
            yield from places(part, keys)
        if not inner:
            yield record, name


async def pages_of(connector: Connector, cursor: Any = None) -> list[Any]:
    return [page async for page in connector.changed_since(cursor)]


async def walked(connector: Connector, cursor: Any = None, begin: date | None = None) -> list[Any]:
    return [page async for page in connector.walk(cursor, begin)]


async def ids_of(connector: Connector) -> set[str]:
    return {each async for batch in connector.remote_ids() for each in batch}


def latest(pages: list[Any]) -> dict[str, Any]:
    """Orders by id, the last reading of each."""
    return {order.remote_id: order for page in pages for order in page.orders}


PAGE_SIZES = (2, 3, 100)
LONG_AGO, LATER = date(2001, 1, 1), date(2999, 1, 1)
BEGINS = (LONG_AGO, LATER)
"""First days of windows: one before all orders, one after them."""


SAMPLED = 4
"""Orders in a sample."""


async def all_questions(connect: Callable[..., Connector], harness: Harness) -> None:
    """Everything the suite asks of a healthy ERP: run once against a real one, this is its recording."""
    for page_size in PAGE_SIZES:
        pages = await pages_of(connect(page_size=page_size))
        for page in pages:
            await pages_of(connect(page_size=page_size), page.cursor)
        for begin in BEGINS:
            pages = await walked(connect(page_size=page_size), begin=begin)
            for page in pages:
                await walked(connect(page_size=page_size), page.cursor, begin)
                await pages_of(connect(page_size=page_size), page.cursor)
    connector = connect()
    for begin in (None, *BEGINS):
        await connector.count(begin)
    await ids_of(connector)
    cursor = (await pages_of(connector))[-1].cursor
    for _ in range(3):
        if pages := await pages_of(connector, cursor):
            cursor = pages[-1].cursor
    for remote_id in [*sorted(harness.ids), UNKNOWN_ID]:
        await connector.read(remote_id)
    for mappings in differently(harness.mapping):
        connector = connect(mappings)
        await pages_of(connector)
        await connector.sample(SAMPLED)
    await connect().sample(SAMPLED)


def differently(own: MappingOverrides) -> tuple[Mappings, ...]:
    """The connector's own mapping alone, and each of the two beside the other."""
    usual = MappingOverrides()
    return Mappings(usual), Mappings(usual, (own,)), Mappings(own, (usual,))


UNKNOWN_ID = "999999"
