"""A simulated TOTVS Protheus behind real HTTP, as bad as the real ones.

    async with simulated_protheus(Options(latency=0.3)) as erp:
        erp.seed(300)
        order = erp.create_order([NewLine("PAR-M8-30", 100, 1.25)])
        erp.fail_next("truncated", 2)
        ... GET {erp.url}/api/framework/v1/genericQuery

It has few workers (the next caller waits, then gets 503), speaks CP1252, forgets charsets, logs in by headers, shifts
its pages, and serves any fault a script asks for. Everything it gets wrong is something a real one was seen to do.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from relay.demo.protheus import ProtheusDesk
from relay.demo.protheus_faults import Endpoint, Fault, Faults, Planned, ttalk
from relay.demo.protheus_login import TOKEN_PATH, Logins
from relay.demo.protheus_mata120 import Mata120
from relay.demo.protheus_query import Limits, QueryFault, generic_query
from relay.demo.protheus_rows import BRANCHES
from relay.demo.protheus_seed import seed
from relay.demo.protheus_wrappers import Refusals, Wrappers
from relay.demo.rough_http import Charset, Reply, Request, json_reply, serve

QUERY_PATH: Final = "/api/framework/v1/genericQuery"


def utc_now() -> dt.datetime:
    """The time now, aware."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Options:
    """One installation's habits. Times are seconds."""

    company: str = "T1"
    branches: tuple[str, ...] = BRANCHES
    base_path: str = "/rest"
    port: int = 0
    username: str = "relay"
    password: str = field(default="Senha#Forte1", repr=False)
    stamps: bool = True
    blanks_count: bool = False
    charset: Charset = "utf-8"
    float_noise: bool = True
    workers: int = 3
    queue_wait: float = 5.0
    latency: float = 0.0
    token_lifetime: float = 3600
    refresh_lifetime: float = 86400
    empty_401: bool = False
    query_allowed: bool = True
    hidden_columns: frozenset[str] = frozenset()
    largest_page: int | None = None
    approvals: bool = True
    refusals: Refusals = "own"
    clock: Callable[[], dt.datetime] = utc_now


class SimulatedProtheus(ProtheusDesk):
    """A running Protheus: where to reach it, the hands of its users, and its faults on demand."""

    def __init__(self, options: Options) -> None:
        super().__init__(company=options.company, branches=options.branches, stamps=options.stamps, clock=options.clock)
        self.options = options
        self.username, self.password = options.username, options.password
        self.tenant = f"{options.company},{options.branches[0]}"
        self.url = ""
        self.login = Logins(
            options.username,
            options.password,
            lifetime=options.token_lifetime,
            refresh_lifetime=options.refresh_lifetime,
            clock=options.clock,
        )
        self.seen: deque[Request] = deque(maxlen=1000)
        """The last requests, oldest first."""
        self.before_query: Callable[[], None] | None = None
        """Called before each query is answered: change rows here and the pages shift under the reader."""
        self.most_at_once = 0
        """The highest number of calls worked on at the same time."""
        self._working = 0
        self._workers = asyncio.Semaphore(options.workers)
        self.faults = Faults(self._json)
        self._wrappers = Wrappers(Mata120(self, approvals=options.approvals), options.refusals)
        self._limits = Limits(options.hidden_columns, options.largest_page, options.float_noise)

    def seed(self, count: int, *, dice: int = 7) -> None:
        """Fill the company: vendors, products, terms and `count` orders in every state; same dice, same rows."""
        seed(self, count, dice=dice)

    def fail_next(self, fault: Fault, count: int = 1, *, on: Endpoint = "query", applied: bool = False) -> None:
        """Let the next `count` calls of that endpoint fail in this way, after the failures asked for before.

        `applied` does what was asked first, and only then fails.
        """
        self.faults.plan(on, Planned(fault, applied), count)

    def heal(self) -> None:
        """Forget the failures that were asked for."""
        self.faults.clear()

    def queries(self) -> list[Request]:
        """The genericQuery calls among the last requests."""
        return [request for request in self.seen if request.path.endswith(QUERY_PATH)]

    def writes(self) -> list[Request]:
        """The calls of write endpoints among the last requests."""
        return [request for request in self.seen if Wrappers.serves(self._path(request))]

    async def answer(self, request: Request) -> Reply:
        """One request in, one reply out, after waiting for a free worker."""
        self.seen.append(request)
        try:
            async with asyncio.timeout(self.options.queue_wait):
                await self._workers.acquire()
        except TimeoutError:
            return self.faults.reply("503")
        self._working += 1
        self.most_at_once = max(self.most_at_once, self._working)
        try:
            await asyncio.sleep(self.options.latency)
            return self._route(request)
        finally:
            self._working -= 1
            self._workers.release()

    def _route(self, request: Request) -> Reply:
        path = self._path(request)
        if path == TOKEN_PATH and request.method == "POST":
            return self.faults.answered("token", request, self._token)
        if path == QUERY_PATH and request.method == "GET":
            return self.faults.answered("query", request, self._query)
        if Wrappers.serves(path):
            return self.faults.answered("write", request, self._write)
        return self.faults.reply("404")

    def _path(self, request: Request) -> str:
        return request.path.removeprefix(self.options.base_path)

    def _token(self, request: Request) -> Reply:
        if "content-length" not in request.headers:
            return Reply(0, manner="reset")  # seen on real ones: a POST that announces no body
        given = self.login.token(request)
        return self._refusal() if given is None else self._json(201, given)

    def _query(self, request: Request) -> Reply:
        if not self.options.query_allowed:
            return self._json(503, {"errorCode": 503, "errorMessage": "API não permitida"})
        if not self.login.opens(request.headers.get("authorization", "")):
            return self._refusal()
        branch = self._branch(request.headers.get("tenantid"))
        if branch is None:
            return self._json(400, ttalk("400", "Empresa ou filial inválida", "tenantId"))
        if self.before_query:
            self.before_query()
        try:
            return self._json(200, generic_query(self, {**request.headers, **request.query}, branch, self._limits))
        except QueryFault as fault:
            return self._json(500, {"errorCode": 500, "errorMessage": str(fault)})

    def _write(self, request: Request) -> Reply:
        if not self.login.opens(request.headers.get("authorization", "")):
            return self._refusal()
        branch = self._branch(request.headers.get("tenantid"))
        if branch is None:
            return self._json(400, ttalk("400", "Empresa ou filial inválida", "tenantId"))
        return self._json(*self._wrappers.answer(request.method, self._path(request), request.body, branch))

    def _branch(self, tenant: str | None) -> str | None:
        """The branch a tenantId selects; none given: the first one; not ours: None."""
        if tenant is None:
            return self.branches[0]
        company, _, branch = tenant.partition(",")
        if company != self.company or branch not in {"", *self.branches}:
            return None
        return branch or self.branches[0]

    def _refusal(self) -> Reply:
        return self.faults.reply("401_empty" if self.options.empty_401 else "401")

    def _json(self, status: int, content: Any) -> Reply:
        return json_reply(status, content, self.options.charset)


@asynccontextmanager
async def simulated_protheus(options: Options | None = None) -> AsyncIterator[SimulatedProtheus]:
    """Run one on a free port of 127.0.0.1 (or `options.port`) until the block ends."""
    erp = SimulatedProtheus(options or Options())
    try:
        async with serve(erp.answer, port=erp.options.port) as port:
            erp.url = f"http://127.0.0.1:{port}{erp.options.base_path}"
            yield erp
    finally:
        erp.close()
