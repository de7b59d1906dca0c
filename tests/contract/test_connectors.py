"""The shared suite: what every connector promises, whatever its ERP."""

import json
import logging
import traceback
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
import pytest

from relay.control.look import first_look
from relay.domain.errors import CredentialsRefused, RelayError, Throttled, Unavailable, UnexpectedReply, Unsupported
from relay.domain.orders import PurchaseOrder, content_hash
from relay.ports import Mappings
from tests.contract.erps import HARNESSES
from tests.contract.harness import (
    CANARY,
    LATER,
    LONG_AGO,
    PAGE_SIZES,
    SAMPLED,
    UNKNOWN_ID,
    Failing,
    Remembering,
    Replay,
    Watching,
    differently,
    ids_of,
    latest,
    pages_of,
    places,
    walked,
)

pytestmark = pytest.mark.parametrize("harness", HARNESSES, ids=lambda harness: harness.kind.name)

JUNK = [None, "", "9", "x\x00\ud800", "\x01", -1, 1.5, 10**40, True, [], {}, ["x"], {"x": 1}, "9" * 30_000]


@asynccontextmanager
async def opened(harness):
    async with harness.open() as transport:
        yield transport


@dataclass
class Uncounted:
    """A connector whose ERP is asked too much when it is to count."""

    inner: object

    async def count(self, _begin):
        raise Throttled("slow down")

    def __getattr__(self, name):
        return getattr(self.inner, name)


def versioned(_request):
    return httpx.Response(200, json={"id": 1, "result": "7.0.1"})  # recordings hold no versions


def hashes(orders):
    return {key: content_hash(order.tree()) for key, order in orders.items()}


# reading


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_the_first_sync_gives_every_order_whole_wherever_pages_end(harness, page_size):
    async with opened(harness) as erp:
        orders = latest(await pages_of(harness.connect(erp, page_size=page_size)))
        assert orders.keys() == harness.ids
        whole = latest(await pages_of(harness.connect(erp)))
        assert hashes(orders) == hashes(whole)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_every_pages_cursor_resumes_without_a_gap(harness, page_size):
    async with opened(harness) as erp:
        pages = await pages_of(harness.connect(erp, page_size=page_size))
        for stored, page in enumerate(pages, 1):
            rest = await pages_of(harness.connect(erp, page_size=page_size), page.cursor)
            assert hashes(latest([*pages[:stored], *rest])) == hashes(latest(pages))


async def test_a_poll_with_nothing_new_tells_nothing_new(harness):
    async with opened(harness) as erp:
        connector = harness.connect(erp)
        pages = await pages_of(connector)
        before = hashes(latest(pages))
        for _ in range(3):
            again = await pages_of(connector, pages[-1].cursor)
            assert hashes(latest(again)).items() <= before.items()
            pages = again or pages


async def test_reading_twice_gives_the_same_orders(harness):
    async with opened(harness) as erp:
        first, second = [latest(await pages_of(harness.connect(erp))) for _ in range(2)]
        assert {key: order.model_dump() for key, order in first.items()} == {
            key: order.model_dump() for key, order in second.items()
        }


async def test_one_order_read_alone_is_the_order_of_the_page(harness):
    async with opened(harness) as erp:
        connector = harness.connect(erp)
        for key, order in latest(await pages_of(connector)).items():
            assert content_hash((await connector.read(key)).tree()) == content_hash(order.tree())


async def test_an_order_that_is_not_there_reads_as_none(harness):
    async with opened(harness) as erp:
        assert await harness.connect(erp).read(UNKNOWN_ID) is None


async def test_the_full_pass_names_every_order_that_is_not_deleted(harness):
    async with opened(harness) as erp:
        connector = harness.connect(erp)
        alive = {key for key, order in latest(await pages_of(connector)).items() if not order.remote_was_deleted}
        assert await ids_of(connector) == alive


async def test_an_order_survives_its_own_json(harness):
    async with opened(harness) as erp:
        for order in latest(await pages_of(harness.connect(erp))).values():
            assert PurchaseOrder.model_validate_json(order.model_dump_json()).tree() == order.tree()


async def test_no_page_rejects_and_every_cursor_is_text(harness):
    async with opened(harness) as erp:
        for page in await pages_of(harness.connect(erp)):
            assert page.rejected == ()
            assert isinstance(page.cursor, str)


# one pass over all orders


@pytest.mark.parametrize("begin", [None, LONG_AGO])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_a_walk_gives_every_order_once_and_ends_where_changes_begin(harness, page_size, begin):
    async with opened(harness) as erp:
        connector = harness.connect(erp, page_size=page_size)
        pages = await walked(connector, begin=begin)
        read = [order.remote_id for page in pages for order in page.orders]
        assert (sorted(read), set(read)) == (sorted(harness.ids), harness.ids)
        whole = hashes(latest(await pages_of(harness.connect(erp))))
        assert hashes(latest(pages)) == whole
        since = await pages_of(connector, pages[-1].cursor)
        assert hashes(latest(since)).items() <= whole.items()


@pytest.mark.parametrize("begin", [None, LONG_AGO])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_a_walk_goes_on_behind_every_page_and_ends(harness, page_size, begin):
    async with opened(harness) as erp:
        pages = await walked(harness.connect(erp, page_size=page_size), begin=begin)
        for stored, page in enumerate(pages, 1):
            rest = await walked(harness.connect(erp, page_size=page_size), page.cursor, begin)
            assert hashes(latest([*pages[:stored], *rest])) == hashes(latest(pages))
        assert await walked(harness.connect(erp, page_size=page_size), pages[-1].cursor, begin) == []


async def test_a_walk_of_a_window_without_orders_gives_none_and_leads_to_the_changes(harness):
    async with opened(harness) as erp:
        pages = await walked(harness.connect(erp), begin=LATER)
        assert latest(pages) == {}
        assert pages[-1].cursor


async def test_orders_are_counted_where_that_costs_a_call_only(harness):
    async with opened(harness) as erp:
        connector = harness.connect(erp)
        assert await connector.count(None) == await connector.count(LONG_AGO) == len(harness.ids)
        assert await connector.count(LATER) == 0


async def test_a_first_look_tells_how_many_orders_there_are_or_why_it_is_not_known(harness):
    async with opened(harness) as erp:
        asked = Failing(erp, lambda request: b"server.version" in request.content, versioned)
        given = (harness.made_settings(), harness.credentials(), harness.mapping)
        look = await first_look(replace(harness.kind, build=lambda *_: harness.connect(asked)), *given)
        assert look.orders_in_all == len(harness.ids)
        look = await first_look(replace(harness.kind, build=lambda *_: Uncounted(harness.connect(asked))), *given)
        assert (look.orders > 0, look.orders_in_all) == (True, None)
        assert look.warnings[-1] == "How many orders there are in all could not be asked: slow down"


# what the ERP sees


async def test_only_reading_calls_and_logins_are_sent(harness):
    async with opened(harness) as erp:
        watching = Watching(erp)
        connector = harness.connect(watching)
        pages = await pages_of(connector)
        await pages_of(connector, pages[-1].cursor)
        await ids_of(connector)
        await connector.read(next(iter(harness.ids)))
        assert watching.requests
        assert all(harness.is_read(request) != harness.is_login(request) for request in watching.requests)


async def test_one_login_is_enough(harness):
    async with opened(harness) as erp:
        watching = Watching(erp)
        await pages_of(harness.connect(watching))
        assert sum(harness.is_login(request) for request in watching.requests) == 1


# capabilities


async def test_every_field_that_has_a_value_is_a_readable_capability(harness):
    async with opened(harness) as erp:
        connector = harness.connect(erp)
        orders = latest(await pages_of(connector))
        fields = connector.capabilities().fields
        readable = {field.path for field in fields if field.readable}
        unreadable = {field.path for field in fields if not field.readable}
        assert len({field.path for field in fields}) == len(fields)
        for order in orders.values():
            given = set(_paths(order.model_dump(mode="json")))
            assert given - readable - OURS == set()
            assert not given & unreadable
            assert set(order.field_presence) == unreadable


OURS = {"remote_id", "remote_was_deleted", "field_presence", "lines[].remote_id", "lines[].remote_was_deleted"}


def _paths(value, path=""):
    """Canonical paths that hold something."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name not in {"custom_fields", "field_presence", "raw"}:
                yield from _paths(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for part in value:
            yield from _paths(part, f"{path}[]")
    elif value is not None:
        yield path


@pytest.mark.parametrize("mapped", [True, False], ids=["own mapping", "none"])
async def test_every_capability_says_how_it_may_be_written_without_contradiction(harness, mapped):
    async with opened(harness) as erp:
        connector = harness.connect(erp, None if mapped else Mappings())
        for field in connector.capabilities().fields:
            assert field.creatable or not field.required, field.path
            assert field.updatable == (field.updatable_until is not None), field.path
            assert not (field.creatable or field.updatable) or field.source, field.path


# a mapping of one's own


async def test_the_mapping_decides_currencies_units_statuses_and_extra_fields(harness):
    own = harness.mapping
    async with opened(harness) as erp:
        usual = latest(await pages_of(harness.connect(erp, Mappings())))
        mapped = latest(await pages_of(harness.connect(erp)))
    assert mapped.keys() == usual.keys()
    lines = [line for order in mapped.values() for line in order.lines]
    assert {order.currency for order in mapped.values()} == set(own.currencies.values())
    assert set(own.units.values()) <= {line.unit for line in lines}
    assert set(own.statuses.values()) <= {order.status for order in mapped.values()}
    assert not set(own.statuses.values()) & {order.status for order in usual.values()}
    fields = {name for name, kind in own.fields.items() if kind != "omit"}
    for order in mapped.values():
        assert fields <= order.custom_fields.keys()
        assert not {name for name, kind in own.fields.items() if kind == "omit"} & order.custom_fields.keys()
    assert all(own.line_fields.keys() <= line.custom_fields.keys() for line in lines)


async def test_a_page_tells_what_another_mapping_makes_of_the_same_records(harness):
    async with opened(harness) as erp:
        for mappings in differently(harness.mapping):
            pages = await pages_of(harness.connect(erp, mappings))
            for other in mappings.beside:
                alone = latest(await pages_of(harness.connect(erp, Mappings(other))))
                beside = {key: order for page in pages for key, order in page.under(other).items()}
                assert hashes(beside) == hashes(alone)


async def test_a_sample_is_small_whole_and_shows_only_fields_that_no_rule_reads(harness):
    async with opened(harness) as erp:
        known = latest(await pages_of(harness.connect(erp)))
        connector = harness.connect(erp)
        sample = await connector.sample(SAMPLED)
        assert 0 < len(sample.page.orders) <= SAMPLED
        for order in sample.page.orders:
            assert content_hash(order.tree()) == content_hash(known[order.remote_id].tree())
        assert sample.missing == ()
        assert sample.unmapped
        read = {
            (part, field.path.startswith("lines[]."))
            for field in connector.capabilities().fields
            for part in (field.source or "").split(", ")
        }
        assert not read & {(field.source, field.per_line) for field in sample.unmapped}
        for field in sample.unmapped:
            assert len(field.samples) <= 3
            assert all(0 < len(text) <= 40 for text in field.samples)


# junk


async def test_junk_in_any_field_rejects_at_most_its_order(harness):
    async with opened(harness) as erp:
        if isinstance(erp, Replay):
            erp.lenient = True
        remembering = Remembering(erp)
        expected = latest(await pages_of(harness.connect(remembering)))
        victim = sorted(expected)[len(expected) // 2]
        others = hashes({key: order for key, order in expected.items() if key != victim})
        names = sorted({name for record in _records(harness, remembering, victim) for name in _names(harness, record)})
        assert names
        for name in names:
            for junk in JUNK:
                remembering.spoil = _spoiler(harness, victim, name, junk)
                pages = await pages_of(harness.connect(remembering))
                orders = latest(pages)
                told = {rejected.remote_id for page in pages for rejected in page.rejected}
                spot = f"{name} = {str(junk)[:40]!r}"
                assert hashes({key: order for key, order in orders.items() if key in others}) == others, spot
                assert victim in orders or told, spot
                assert told <= {victim}, spot
                for order in orders.values():
                    order.model_dump_json()


def _records(harness, remembering, victim):
    for _status, body in remembering.known.values():
        for record in harness.rows(json.loads(body)) if body else ():
            if harness.owner(record) == victim:
                yield record


def _names(harness, record):
    return {name for _place, name in places(record, harness.keys)}


def _spoiler(harness, victim, spoilt, junk):
    def spoil(content):
        for record in harness.rows(content):
            if harness.owner(record) == victim:
                for place, name in places(record, harness.keys):
                    if name == spoilt:
                        place[name] = junk

    return spoil


# failures


def _raising(error):
    def answer(_request):
        raise error

    return answer


FAILURES = {
    "429": (lambda _: httpx.Response(429, headers={"Retry-After": "70"}), Throttled),
    "503 with Retry-After": (lambda _: httpx.Response(503, headers={"Retry-After": "70"}), Throttled),
    "503": (lambda _: httpx.Response(503), Unavailable),
    "502 html": (lambda _: httpx.Response(502, html="<html>Bad Gateway</html>"), Unavailable),
    "500": (lambda _: httpx.Response(500, text="boom"), Unavailable),
    "403": (lambda _: httpx.Response(403), Unsupported),
    "404": (lambda _: httpx.Response(404, html="<html>no</html>"), Unsupported),
    "302": (lambda _: httpx.Response(302, headers={"Location": "https://login.example/"}), UnexpectedReply),
    "200 html": (lambda _: httpx.Response(200, html="<html>Log in</html>"), UnexpectedReply),
    "200 empty": (lambda _: httpx.Response(200), UnexpectedReply),
    "200 half": (lambda _: httpx.Response(200, text='{"items": [{"c7_num"'), UnexpectedReply),
    "200 other": (lambda _: httpx.Response(200, json=["something", "else"]), UnexpectedReply),
    "timeout": (_raising(httpx.ReadTimeout("slow")), Unavailable),
    "reset": (_raising(httpx.ReadError("reset")), Unavailable),
    "refused": (_raising(httpx.ConnectError("refused")), Unavailable),
    "cut": (_raising(httpx.RemoteProtocolError("incomplete body")), Unavailable),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("call", ["changed_since", "remote_ids", "read"])
async def test_a_failing_read_says_what_to_do_next(harness, failure, call):
    answer, error = FAILURES[failure]
    async with opened(harness) as erp:
        connector = harness.connect(Failing(erp, harness.is_read, answer))
        with pytest.raises(error) as caught:
            await _call(harness, connector, call)
        if isinstance(caught.value, Throttled):
            assert caught.value.retry_after == 70


@pytest.mark.parametrize("failure", ["429", "503", "500", "200 html", "200 empty", "200 other", "timeout", "reset"])
async def test_a_failing_login_is_no_refusal(harness, failure):
    answer, error = FAILURES[failure]
    async with opened(harness) as erp:
        connector = harness.connect(Failing(erp, harness.is_login, answer))
        with pytest.raises(error):
            await pages_of(connector)


async def test_a_refused_login_is_tried_once_and_never_again(harness):
    async with opened(harness) as erp:
        failing = Failing(erp, harness.is_login, lambda _: httpx.Response(401))
        connector = harness.connect(failing)
        for call in ("changed_since", "remote_ids", "read", "changed_since"):
            with pytest.raises(CredentialsRefused):
                await _call(harness, connector, call)
        assert failing.failed == 1


async def test_a_session_that_is_always_refused_ends_in_refused_credentials(harness):
    async with opened(harness) as erp:
        watching = Watching(Failing(erp, harness.is_read, lambda _: httpx.Response(401)))
        connector = harness.connect(watching)
        for _ in range(3):
            with pytest.raises(CredentialsRefused):
                await pages_of(connector)
        assert sum(harness.is_login(request) for request in watching.requests) <= 2


async def test_a_session_that_ends_in_the_middle_is_renewed(harness):
    async with opened(harness) as erp:
        ended = iter([True])
        failing = Failing(
            erp, lambda request: harness.is_read(request) and next(ended, False), lambda _: httpx.Response(401)
        )
        connector = harness.connect(failing)
        assert latest(await pages_of(connector)).keys() == harness.ids
        assert failing.failed == 1


async def _call(harness, connector, call):
    match call:
        case "changed_since":
            await pages_of(connector)
        case "remote_ids":
            await ids_of(connector)
        case "read":
            await connector.read(min(harness.ids))


# secrets


async def test_the_password_shows_nowhere(harness, caplog):
    caplog.set_level(logging.DEBUG)
    seen = [repr(harness.credentials()), str(harness.credentials()), harness.credentials().model_dump_json()]
    async with opened(harness) as erp:
        connector = harness.connect(erp)
        await pages_of(connector)
        seen += [repr(connector), str(vars(connector))]
        everything = (harness.is_read, harness.is_login)
        for answer, _error in [*FAILURES.values(), (lambda _: httpx.Response(401), CredentialsRefused)]:
            for when in everything:
                try:
                    await pages_of(harness.connect(Failing(erp, when, answer)))
                except RelayError as error:
                    seen.append("".join(traceback.format_exception(error)))
    seen.append(caplog.text)
    assert not [text for text in seen if CANARY in text]


async def test_a_reply_that_echoes_the_password_does_not_pass_it_on(harness):
    async with opened(harness) as erp:
        for status in (200, 400, 401, 500):
            echo = Failing(erp, harness.is_login, lambda _, status=status: httpx.Response(status, text=f"bad {CANARY}"))
            with pytest.raises(RelayError) as caught:
                await pages_of(harness.connect(echo))
            assert CANARY not in "".join(traceback.format_exception(caught.value))
