"""A simulated TOTVS RM behind real HTTP, as bad as the real ones.

    async with simulated_rm(RmOptions(latency=0.3)) as erp:
        erp.seed(300)
        order = erp.create_order([NewItem(1001, 100, 1.25)])
        erp.faults.next("after reset", on="create")
        ... GET {erp.url}/api/mov/v1/movements

Tokens last five minutes, pages shift, business errors are 500s, fields that are set once are refused or dropped, few
calls are answered at once, and any fault can be asked for (`rm_faults.py`). What it holds can be looked at in the same
process, and at {erp.url}/simulator/movements.
"""

import asyncio
import datetime as dt
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

from relay.demo.protheus_login import Logins
from relay.demo.rm import RmDesk
from relay.demo.rm_faults import Faults, instead, ttalk
from relay.demo.rm_list import page_of, shown
from relay.demo.rm_rows import Id, Record
from relay.demo.rm_rules import Lines, RmSaysNo, changed_movement, check_open, new_movement
from relay.demo.rm_seed import seed
from relay.demo.rough_http import Charset, Reply, Request, json_reply, serve

TOKEN_PATH: Final = "/api/connect/token/"  # noqa: S105 - a path
LIST_PATH: Final = "/api/mov/v1/movements"
_ONE: Final = f"{LIST_PATH}/"
_CANCEL: Final = f"{LIST_PATH}/cancel/"
_TOKEN_PARTS: Final = ("access_token", "expires_in", "refresh_token", "token_type")
_WHOLE: Final = {"expand": "Items"}


def utc_now() -> dt.datetime:
    """The time now, aware."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class RmOptions:
    """One installation's habits. Times are seconds."""

    port: int = 0
    username: str = "relay"
    password: str = field(default="Senha#Forte1", repr=False)
    zone: str = "America/Sao_Paulo"
    charset: Charset = "utf-8"
    misspelt: bool = True
    """Whether vendors are CostumerVendorCode, as the contract has it."""
    by_change: bool = True
    """Whether the list can be ordered by RECMODIFIEDON."""
    largest_page: int = 1000
    expands: tuple[Literal["list", "read"], ...] = ("list", "read")
    """Where `expand` is heeded."""
    loud: bool = True
    """Whether a PUT with a field that is set only once is refused; else the field is dropped."""
    lines: Lines = "replace"
    workers: int = 3
    queue_wait: float = 5.0
    latency: float = 0.0
    token_lifetime: float = 300
    refresh_lifetime: float = 57_600
    clock: Callable[[], dt.datetime] = utc_now


class SimulatedRm(RmDesk):
    """A running RM: where to reach it, the hands of its users, and its faults on demand."""

    def __init__(self, options: RmOptions) -> None:
        super().__init__(clock=options.clock, zone=options.zone)
        self.options = options
        self.username, self.password = options.username, options.password
        self.url = ""
        self.login = Logins(
            options.username,
            options.password,
            lifetime=options.token_lifetime,
            refresh_lifetime=options.refresh_lifetime,
            clock=options.clock,
        )
        self.faults = Faults()
        self.seen: deque[Request] = deque(maxlen=1000)
        """The last requests, oldest first."""
        self.before_list: Callable[[], None] | None = None
        """Called before each page is answered: change movements here and the pages shift under the reader."""
        self.most_at_once = 0
        """The highest number of calls worked on at the same time."""
        self._working = 0
        self._workers = asyncio.Semaphore(options.workers)

    def seed(self, count: int, *, dice: int = 7) -> None:
        """Fill the company: vendors, products, terms and `count` orders in every state; same dice, same orders."""
        seed(self, count, dice=dice)

    async def answer(self, request: Request) -> Reply:
        """One request in, one reply out, after waiting for a free worker."""
        if request.path.startswith("/simulator/"):
            return self._looked_at(request)
        self.seen.append(request)
        try:
            async with asyncio.timeout(self.options.queue_wait):
                await self._workers.acquire()
        except TimeoutError:
            return instead("503", self.options.charset)
        self._working += 1
        self.most_at_once = max(self.most_at_once, self._working)
        try:
            await asyncio.sleep(self.options.latency)
            return self._route(request)
        finally:
            self._working -= 1
            self._workers.release()

    def _route(self, request: Request) -> Reply:
        call, act = self._call(request)
        if act is None:
            return instead("404", self.options.charset)
        done = act if call == "token" else partial(self._inside, act)
        return self.faults.answered(call, request, done, self.options.charset)

    def _call(self, request: Request) -> tuple[str, Callable[[Request], Reply] | None]:
        """What is asked for, and who does it. Paths are the same in any case of letters."""
        path = request.path.lower()
        match request.method:
            case "POST" if path.rstrip("/") == TOKEN_PATH.rstrip("/"):
                return "token", self._token
            case "GET" if path == LIST_PATH:
                return "list", self._list
            case "POST" if path == LIST_PATH:
                return "create", self._create
            case "POST" if path.startswith(_CANCEL):
                return "cancel", self._cancel
            case "GET" | "PUT" | "DELETE" as method if path.startswith(_ONE):
                name = {"GET": "read", "PUT": "update", "DELETE": "delete"}[method]
                return name, {"read": self._read, "update": self._update, "delete": self._delete}[name]
        return "", None

    def _inside(self, act: Callable[[Request], Reply], request: Request) -> Reply:
        """The call of a user that is logged in; what RM refuses is a fault with its sentence."""
        if not self.login.opens(request.headers.get("authorization", "")):
            return instead("401", self.options.charset)
        try:
            return act(request)
        except RmSaysNo as no:
            return self._json(no.status, ttalk(f"FE{no.status}", str(no), no.detail))

    def _token(self, request: Request) -> Reply:
        try:
            given = _body(request)
        except RmSaysNo as no:
            return self._json(no.status, ttalk("FE400", str(no)))
        known = {name: value for name, value in given.items() if isinstance(value, str)}
        pair = self.login.token(replace(request, query=known, headers={}, body=b""))
        if pair is None:
            return instead("401", self.options.charset)
        return self._json(200, {name: pair[name] for name in _TOKEN_PARTS})

    def _list(self, request: Request) -> Reply:
        if self.before_list:
            self.before_list()
        options = self.options
        query = self._heeded(request, "list")
        page = page_of(self.movements(), query, by_change=options.by_change, largest=options.largest_page)
        return self._json(200, page | {"items": [self._spelt(record) for record in page["items"]]})

    def _read(self, request: Request) -> Reply:
        return self._movement(self._named(request)[1], self._heeded(request, "read"))

    def _create(self, request: Request) -> Reply:
        key = self.insert(new_movement(self, _body(request)))
        return self._movement(self.movement(key) or {}, _WHOLE)

    def _update(self, request: Request) -> Reply:
        key, record = self._named(request)
        options = self.options
        self.replace(key, changed_movement(self, record, _body(request), loud=options.loud, lines=options.lines))
        return self._movement(self.movement(key) or {}, _WHOLE)

    def _cancel(self, request: Request) -> Reply:
        key, record = self._named(request)
        check_open(record, "cancelado")
        self.cancel(key)
        return Reply(204)

    def _delete(self, request: Request) -> Reply:
        self.delete(self._named(request)[0])
        return Reply(204)

    def _named(self, request: Request) -> tuple[Id, Record]:
        """The movement that a path ends with. Raises RmSaysNo: there is none."""
        company, _, number = request.path.rpartition("/")[2].partition("|")
        key = (int(company), int(number)) if company.isdecimal() and number.isdecimal() else (0, 0)
        record = self.movement(key)
        if record is None:
            raise RmSaysNo("Movimento não localizado na base.", f"TMOV {company}|{number}", status=404)
        return key, record

    def _heeded(self, request: Request, call: Literal["list", "read"]) -> Mapping[str, str]:
        return request.query if call in self.options.expands else {**request.query, "expand": ""}

    def _movement(self, record: Record, query: Mapping[str, str]) -> Reply:
        return self._json(200, self._spelt(shown(record, query)))

    def _spelt(self, record: Record) -> Record:
        if not self.options.misspelt:
            return record
        return {name.replace("CustomerVendor", "CostumerVendor", 1): value for name, value in record.items()}

    def _json(self, status: int, content: Any) -> Reply:
        return json_reply(status, content, self.options.charset)

    def _looked_at(self, request: Request) -> Reply:
        """The simulator's own doors, which no RM has: what it holds, and faults to come."""
        if (request.method, request.path) == ("GET", "/simulator/movements"):
            return json_reply(200, {"movements": self.movements()})
        if (request.method, request.path) == ("POST", "/simulator/faults"):
            try:
                given = _body(request)
                self.faults.next(str(given["fault"]), int(given.get("count", 1)), on=str(given["on"]))
            except (RmSaysNo, LookupError, ValueError, TypeError) as error:
                return json_reply(400, {"message": str(error)})
            return Reply(204)
        return Reply(404)


@asynccontextmanager
async def simulated_rm(options: RmOptions | None = None) -> AsyncIterator[SimulatedRm]:
    """Run one on a free port of 127.0.0.1 (or `options.port`) until the block ends."""
    erp = SimulatedRm(options or RmOptions())
    async with serve(erp.answer, port=erp.options.port) as port:
        erp.url = f"http://127.0.0.1:{port}"
        yield erp


def _body(request: Request) -> Record:
    """The object in a request's body. Raises RmSaysNo."""
    try:
        content = json.loads(request.body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise RmSaysNo("Corpo da requisição inválido.", "JSON", status=400)
    return content
