"""Tryton, its purchase orders read over its JSON-RPC; `writing` writes them.

    first sync    orders by id, page by page ─┐
    afterwards    what is new since the cursor ┴─> whole orders read back -> Page(orders, cursor)

A purchase changes in places that leave its own write_date alone: a line written directly, the second part of a
receipt, a line deleted from a draft. So four kinds of record are watched by their stamps, and drafts by their lines.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Final

import httpx
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, StringConstraints, field_validator

from relay.connectors.kit.mapping import capabilities
from relay.connectors.tryton.derive import Record
from relay.connectors.tryton.orders import OrderReader, Wishes, raw_of
from relay.connectors.tryton.own import Own, there, unread
from relay.connectors.tryton.rpc import ErpSaidNo, Rpc, SessionAuth
from relay.connectors.tryton.rules import OVERRIDABLE, RULES
from relay.connectors.tryton.schema import Schema, schema_of
from relay.connectors.tryton.taken import WRITABLE, taken
from relay.connectors.tryton.watch import Mark, count, ids_after, ids_before, listed, look, newest
from relay.connectors.tryton.writing import TrytonWriter
from relay.domain.capabilities import Capabilities
from relay.domain.connections import Cursor
from relay.domain.errors import Permanent, RecordRejected, Transient
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder
from relay.ports import ConnectorKind, Found, Mappings, Pace, Page, Rejected, Sample, Writer

NAME: Final = "tryton"
_AS_IT_IS: Final = Mappings()
IDS_PER_CALL: Final = 1000
"""How many bare ids are asked for at once."""


class TrytonSettings(BaseModel):
    """Where a Tryton is, and what to take from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: HttpUrl = Field(description="Address of the server, without the database: https://tryton.example.com")
    database: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="Name of the database.")
    company: int | None = Field(default=None, description="Only this company's orders, by its id; all when left out.")
    overlap: timedelta = Field(
        default=timedelta(minutes=5), ge=timedelta(0), description="How long a change may stay uncommitted in Tryton."
    )
    page_size: int = Field(default=100, ge=1, le=1000, description="Orders read in one call.")
    mark_field: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = Field(
        default="reference", description="Field of the order that keeps relay's or the sender's own key of a new one."
    )
    keep_raw: bool = Field(default=False, description="Keep Tryton's record in the order's `raw`.")

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, url: HttpUrl) -> HttpUrl:
        if url.username or url.password:
            raise ValueError("leave the user and the password out of the address: they are credentials")
        return url


class TrytonCredentials(BaseModel):
    """A Tryton user with a password; the group Purchase is enough."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    username: Annotated[str, Field(min_length=1, max_length=200)]
    password: SecretStr


class TrytonConnector:
    """One database of one Tryton, as one user."""

    def __init__(
        self,
        settings: TrytonSettings,
        credentials: TrytonCredentials,
        client: httpx.AsyncClient,
        mappings: Mappings = _AS_IT_IS,
    ) -> None:
        base = str(settings.url).rstrip("/")
        auth = SessionAuth(base, settings.database, credentials.username, credentials.password.get_secret_value())
        self._rpc = Rpc(client, auth)
        self._own = Own(mappings)
        self._told: tuple[str, ...] = ()
        self._settings = settings
        self._schema: Schema | None = None
        self._writer = TrytonWriter(
            self._rpc, self._known, mappings.current, settings.company, mark_field=settings.mark_field
        )

    async def changed_since(self, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Pages of orders that changed, oldest change first; see `Connector.changed_since`."""
        mark = Mark.of(cursor)
        pages = self.walk(cursor, None) if mark.since is None else self._changes(mark)
        async for page in pages:
            yield page

    async def walk(self, cursor: Cursor | None, begin: date | None) -> AsyncIterator[Page]:
        """Every order by id, or those dated, made or written since `begin`; the last page leads to the changes."""
        mark, company = Mark.of(cursor), self._settings.company
        if mark.since is not None:
            return
        until = mark.until or await newest(self._rpc, company)
        last, full = mark.after_id or 0, until is not None
        while full:
            ids = await ids_after(self._rpc, last, self._settings.page_size, company, begin)
            full = len(ids) == self._settings.page_size
            last = ids[-1] if ids else last
            yield await self._page(ids, Mark(after_id=last, until=until) if full else Mark(since=until))

    async def count(self, begin: date | None) -> int | None:
        """How many orders there are."""
        return await count(self._rpc, self._settings.company, begin)

    async def remote_ids(self) -> AsyncIterator[tuple[str, ...]]:
        """Batches of the ids of all orders."""
        last, full = 0, True
        while full:
            ids = await ids_after(self._rpc, last, IDS_PER_CALL, self._settings.company)
            if ids:
                yield tuple(map(str, ids))
                last = ids[-1]
            full = len(ids) == IDS_PER_CALL

    async def read(self, remote_id: str) -> PurchaseOrder | None:
        """One order, or None when Tryton does not show it; raises RecordRejected when it cannot be read."""
        if not remote_id.isascii() or not remote_id.isdecimal():
            return None
        found = await self._records([int(remote_id)])
        return (await self._reader(self._own.mappings.current)).order(found[0]) if found else None

    async def sample(self, most: int) -> Sample:
        """The orders made last, and the plain fields of theirs that nobody asks for; see `Connector.sample`."""
        schema = await self._known()
        ids = await ids_before(self._rpc, most, self._settings.company)
        page = await self._page(ids, Mark())
        unmapped = await unread(self._rpc, ids, schema) if ids else ()
        return Sample(page, unmapped, self._own.missing(schema))

    async def found(self) -> Found:
        """Its version, when it tells it."""
        try:
            version = await self._rpc.version()
        except (Transient, Permanent):
            version = None
        return Found(
            version=version,
            changes="by write dates, of orders and of what belongs to them",
            time_zone="times are UTC; dates have no time zone",
        )

    def capabilities(self) -> Capabilities:
        """What Tryton gives, field by field; exact for this user once something has been read."""
        hidden = self._schema.hidden | set(self._own.missing(self._schema)) if self._schema else frozenset()
        rules = (*RULES, *self._own.rules())
        return taken(
            capabilities(NAME, rules, hidden=hidden, writable=WRITABLE),
            self._schema,
            self._own.mappings.current.statuses,
        )

    def writer(self) -> Writer | None:
        """With the same session; what it has looked up it keeps for a minute."""
        return self._writer

    async def _changes(self, mark: Mark) -> AsyncIterator[Page]:
        schema = await self._known()
        window = await look(self._rpc, mark, self._settings.overlap, schema.feeds, self._settings.company)
        due = window.due(mark)
        size = self._settings.page_size
        for part in (due[start : start + size] for start in range(0, len(due), size)):
            all_done = part[-1] == due[-1]
            yield await self._page(part, window.whole(mark) if all_done else window.up_to(part[-1], mark))

    async def _page(self, ids: Sequence[int], mark: Mark) -> Page:
        """Read these orders and turn them into a page; those deleted meanwhile are left to the reconciliation."""
        reader = await self._reader(self._own.mappings.current)
        schema = await self._known()
        records, rejected = await self._readable(ids)
        orders = []
        for record in records:
            try:
                orders.append(reader.order(record))
            except RecordRejected as error:
                rejected.append(Rejected(error.remote_id, error.field, str(error), raw_of(record)))
        oldest_first = {str(order): place for place, order in enumerate(ids)}
        orders.sort(key=lambda order: oldest_first.get(order.remote_id, len(ids)))
        warnings, self._told = (*self._told, *reader.warnings), ()

        def under(mapping: MappingOverrides) -> dict[str, PurchaseOrder]:
            return self._reader_of(schema, mapping).orders(records)

        return Page(tuple(orders), mark.cursor(), tuple(rejected), warnings, under)

    async def _readable(self, ids: Sequence[int]) -> tuple[list[Record], list[Rejected]]:
        """The records, and those that Tryton itself fails to compute: one of them fails a whole call."""
        try:
            return await self._records(ids), []
        except ErpSaidNo as error:
            refusal = error
        records: list[Record] = []
        rejected: list[Rejected] = []
        for each in ids:
            try:
                records += await self._records([each])
            except ErpSaidNo as error:
                rejected.append(Rejected(str(each), "", str(error), b"{}"))
        if not records and not await self._can_read_others(ids):
            raise refusal
        return records, rejected

    async def _can_read_others(self, ids: Sequence[int]) -> bool:
        others = [["id", "not in", list(ids)]]
        try:
            return bool(await self._search_read(others, limit=1))
        except ErpSaidNo:
            return False

    async def _records(self, ids: Sequence[int]) -> list[Record]:
        return await self._search_read([["id", "in", list(ids)]], limit=None)

    async def _search_read(self, domain: list[Any], *, limit: int | None) -> list[Record]:
        # Not `read`: it fails as a whole when one of the ids has been deleted meanwhile.
        fields = list((await self._known()).fields)
        if self._settings.company is not None:
            domain = [*domain, ["company", "=", self._settings.company]]
        found = await self._rpc.call("model.purchase.purchase.search_read", domain, 0, limit, [["id", "ASC"]], fields)
        return listed(found)

    async def _known(self) -> Schema:
        if self._schema is None:
            self._schema = await schema_of(self._rpc, self._own.fields, self._own.line_fields)
            missing = self._own.missing(self._schema)
            self._told = (*self._schema.warnings, *(f"Tryton has no field {name}, or hides it" for name in missing))
        return self._schema

    async def _reader(self, mapping: MappingOverrides) -> OrderReader:
        return self._reader_of(await self._known(), mapping)

    def _reader_of(self, schema: Schema, mapping: MappingOverrides) -> OrderReader:
        return OrderReader(Wishes(there(mapping, schema), self._settings.keep_raw), self.capabilities().unreadable())


TRYTON: Final = ConnectorKind(
    name=NAME,
    title="Tryton",
    settings=TrytonSettings,
    credentials=TrytonCredentials,
    pace=Pace(per_second=10, burst=20, at_once=4),
    build=TrytonConnector,
    overridable=OVERRIDABLE,
)
