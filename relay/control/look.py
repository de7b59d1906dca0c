"""Look: read one page of orders from an ERP before its connection is stored, and say what to do when that fails."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx
from pydantic import BaseModel

from relay.control.connection_views import FirstLook, RejectedView
from relay.domain.capabilities import Capabilities
from relay.domain.connections import Cursor
from relay.domain.errors import CredentialsRefused, Permanent, Throttled, Transient, UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides
from relay.ports import Connector, ConnectorKind, Mappings, Page, Sample
from relay.wire.erp import polite_client

MOST_REJECTED = 20
"""Rejected records that are listed; the dead letters hold them all."""

_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (CredentialsRefused, "Check user and password, and that this user may log in to the API"),
    (UnexpectedReply, "Check the address: it must be the ERP's API with its base path, not a web page or a proxy"),
    (Unsupported, "Give this user the permission that is named, or ask who runs the ERP"),
    (Throttled, "The ERP asks to slow down: try again later"),
    (Transient, "Check that address and port are right, that the ERP runs, and that it can be reached from here"),
    (Permanent, "Check the settings"),
)


async def first_look(
    kind: ConnectorKind, settings: BaseModel, credentials: BaseModel, mapping: MappingOverrides
) -> FirstLook:
    """Read the first page of orders.

    Raises the connector's errors, with what to do: CredentialsRefused, UnexpectedReply, Unsupported, Unavailable,
    Throttled.
    """
    async with polite_client(kind.pace) as client, _advised():
        connector = kind.build(settings, credentials, client, Mappings(mapping))
        page = await _first_page(connector) or Page((), Cursor(""))
        found = await connector.found()
        in_all, uncounted = await _counted(connector)
    missing = connector.capabilities().unreadable()
    return FirstLook(
        found=found,
        orders=len(page.orders),
        orders_in_all=in_all,
        currency_gaps=_gaps((each.currency_raw, each.currency) for each in page.orders),
        unit_gaps=_gaps((line.unit_raw, line.unit) for each in page.orders for line in each.lines),
        missing_fields=missing,
        fix=(*found.fix, *_to_fix(page)),
        example=next((each.number or each.remote_id for each in page.orders), None),
        rejected=tuple(RejectedView.of(each) for each in page.rejected[:MOST_REJECTED]),
        warnings=(*page.warnings, *uncounted),
    )


async def _counted(connector: Connector) -> tuple[int | None, tuple[str, ...]]:
    """About how many orders there are in all; a count that fails is a word beside what was found, and no failure."""
    try:
        return await connector.count(None), ()
    except (Transient, Permanent) as error:
        return None, (f"How many orders there are in all could not be asked: {error}",)


def _gaps(codes: Iterable[tuple[str | None, str | None]]) -> tuple[str, ...]:
    return tuple(sorted({raw for raw, known in codes if raw and not known}))


def _to_fix(page: Page) -> Iterable[str]:
    if not page.orders and not page.rejected:
        yield "No order was found: check that this user may see some, and that the settings name the right company"
    if page.rejected:
        yield f"{len(page.rejected)} record(s) cannot be read: mend them in the ERP; the others are not held up by them"
    yield from page.warnings


async def first_look_at(
    kind: ConnectorKind, settings: BaseModel, credentials: BaseModel, mappings: Mappings, most: int
) -> tuple[Sample, Capabilities]:
    """A sample of live orders with these mappings, and the system as the connector knows it by then.

    Raises the connector's errors, with what to do.
    """
    async with polite_client(kind.pace) as client, _advised():
        built = kind.build(settings, credentials, client, mappings)
        sample = await built.sample(most)
        return sample, built.capabilities()


@asynccontextmanager
async def unconnected(
    kind: ConnectorKind, settings: BaseModel, credentials: BaseModel, mapping: MappingOverrides
) -> AsyncIterator[Connector]:
    """A connector that is asked nothing of the ERP, for its field mapping."""
    async with httpx.AsyncClient() as client:
        yield kind.build(settings, credentials, client, Mappings(mapping))


async def _first_page(connector: Connector) -> Page | None:
    pages = connector.changed_since(None)
    try:
        return await anext(pages, None)
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


@asynccontextmanager
async def _advised() -> AsyncIterator[None]:
    try:
        yield
    except (Transient, Permanent) as error:
        advice = next(words for kind, words in _ADVICE if isinstance(error, kind))
        error.args = (f"{str(error).rstrip('.')}. {advice}. Nothing was stored.",)
        error.of_erp = True
        raise
