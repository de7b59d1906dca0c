"""Health, metrics, the catalogue and the API's description, over real HTTP on a free port."""

import asyncio
import re
import socket
import time

import httpx
import jsonschema
import pytest

from relay import __version__
from relay.api import arrivals, problems, pull, reading, refusals
from relay.api.app import application, served
from relay.api.arrivals import Arrivals
from relay.api.reading import Reading
from relay.api.refusals import EACH, KEPT, MOST, Refusals
from relay.docs.openapi import openapi
from relay.docs.pages import ROOT
from relay.domain.deliveries import DeliveryState
from relay.domain.endpoints import Ordering
from relay.domain.errors import Unavailable, UserError
from relay.domain.events import EVENT_TYPES
from relay.store import log


async def well():
    return None


async def away():
    raise Unavailable("PostgreSQL does not answer: is it running?")


async def hangs():
    await asyncio.Event().wait()


async def asked(path, **checks):
    async with served(application(checks, patience=0.05), "127.0.0.1", 0) as url, httpx.AsyncClient() as client:
        return await client.get(url + path)


async def test_live_needs_nothing_else_to_answer():
    reply = await asked("/health/live", database=away)
    assert (reply.status_code, reply.json()) == (200, {"status": "live", "version": __version__})


async def test_ready_when_all_parts_answer():
    reply = await asked("/health/ready", database=well, broker=well)
    assert reply.status_code == 200
    assert reply.json() == {"status": "ready", "parts": {"database": "ok", "broker": "ok"}}


async def test_not_ready_says_which_part_and_why():
    reply = await asked("/health/ready", database=away, broker=well, slow=hangs)
    assert reply.status_code == 503
    assert reply.json() == {
        "status": "waiting",
        "parts": {
            "database": "PostgreSQL does not answer: is it running?",
            "broker": "ok",
            "slow": "no answer within 0.05 s",
        },
    }


async def test_metrics_are_prometheus_text():
    reply = await asked("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert "relay_delivery_attempt_seconds_bucket" in reply.text


async def test_the_catalogue_has_every_type_and_valid_schemas():
    catalogue = (await asked("/v1/catalogue")).json()
    assert tuple(catalogue["event_types"]) == EVENT_TYPES
    for schema in catalogue["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_the_port_is_free_again_afterwards():
    async with served(application({}), "127.0.0.1", 0) as url:
        port = httpx.URL(url).port
    async with served(application({}), "127.0.0.1", port) as again:
        assert again == url


async def test_a_taken_port_names_the_setting():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} on 127\.0\.0\.1 is taken.*RELAY_HTTP__PORT"):
            async with served(application({}), "127.0.0.1", port):
                pass


async def test_an_address_of_another_machine_names_the_setting():
    with pytest.raises(UserError, match=r"cannot listen on port 0 of 192\.0\.2\.1.*RELAY_HTTP__HOST"):
        async with served(application({}), "192.0.2.1", 0):
            pass


async def test_a_request_that_hangs_does_not_hold_up_the_end():
    begun = asyncio.Event()

    async def slow():
        begun.set()
        await hangs()

    checks = {"slow": slow}
    async with httpx.AsyncClient() as client:
        async with served(application(checks, patience=60), "127.0.0.1", 0) as url:
            request = asyncio.create_task(client.get(url + "/health/ready"))
            await asyncio.wait_for(begun.wait(), 10)
            at = time.monotonic()
        assert time.monotonic() - at < 10
        await asyncio.wait([request])
        request.exception()


# Refusals, arrivals, reads


class Now:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def failed(refusals, times, who=("192.0.2.1", "end_1")):
    for _ in range(times):
        refusals.count(who)
    return refusals.wait(who)


def test_failures_are_allowed_up_to_a_number_and_then_one_by_one():
    clock = Now()
    refusals = Refusals(clock)
    assert failed(refusals, MOST - 1) == 0
    assert failed(refusals, 1) == EACH
    clock.now += EACH - 1
    assert failed(refusals, 0) == 1
    clock.now += 1
    assert failed(refusals, 0) == 0
    assert failed(refusals, 1) == EACH
    clock.now += MOST * EACH
    assert failed(refusals, MOST - 1) == 0


def test_failures_of_one_are_not_those_of_another():
    refusals = Refusals(Now())
    assert failed(refusals, MOST) > 0
    assert failed(refusals, 0, ("192.0.2.1", "end_2")) == failed(refusals, 0, ("192.0.2.2", "end_1")) == 0


def test_strangers_without_number_cost_no_memory_without_end():
    refusals = Refusals(Now())
    for each in range(KEPT + 10):
        failed(refusals, 1, (str(each), "end_1"))
    assert len(refusals._clear) == KEPT


async def test_one_look_serves_all_who_wait_and_nobody_looks_when_nobody_waits():
    looks, numbers = [], {"end_1": 5, "end_2": 1}

    async def reached(endpoint_ids):
        looks.append(endpoint_ids)
        if len(looks) == 2:
            raise Unavailable("away")
        return numbers

    waiting = Arrivals(reached, every=0.01)
    async with asyncio.timeout(20):
        early = [asyncio.create_task(waiting.beyond("end_1", 5, 20)) for _ in range(10)]
        late = asyncio.create_task(waiting.beyond("end_2", 1, 20))
        while len(looks) < 3:  # noqa: ASYNC110 - the looks ring no bell
            await asyncio.sleep(0)
        numbers["end_1"] = 6
        await asyncio.gather(*early)
        assert not late.done()
        late.cancel()
        while waiting._looking:  # noqa: ASYNC110 - the looks ring no bell
            await asyncio.sleep(0)
        assert looks[0] == {"end_1", "end_2"}
        seen = len(looks)
        await waiting.beyond("end_1", 5, 0)
        assert len(looks) == seen, "who does not want to wait is not looked for"
        await waiting.beyond("end_1", 5, 20)


async def test_a_read_that_takes_too_long_or_gets_no_turn_is_given_up():
    few = Reading(reads=1, patience=0.05)
    with pytest.raises(Unavailable, match="busy"):
        async with few.turn(), few.turn():
            pass
    async with few.turn():
        pass


# The description and the pages


def page(name):
    return " ".join((ROOT / "docs" / name).read_text().split())


CALLS = [f"{method.upper()} {path}" for path, calls in openapi()["paths"].items() for method in calls]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_in_the_page_of_the_api(call):
    assert f"`{call}`" in page("api.md")


def test_every_operation_has_a_name_of_its_own():
    names = [call["operationId"] for calls in openapi()["paths"].values() for call in calls.values()]
    assert len(names) == len(set(names))


def test_the_description_has_valid_names_and_says_what_is_refused_how():
    described = openapi()
    for names in described["components"].values():
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)
    for path in ("events", "keys"):
        answers = described["paths"][f"/v1/endpoints/{{endpoint_id}}/{path}"]["get"]["responses"]
        assert "422" not in answers
        for status in answers.keys() - {"200"}:
            assert list(answers[status]["content"]) == [problems.MEDIA_TYPE]


@pytest.mark.parametrize("word", [*DeliveryState, *Ordering])
def test_every_state_and_ordering_is_in_the_receivers_page(word):
    assert f"| `{word}` |" in page("receiving.md")


def test_the_limits_that_the_pages_name_are_those_of_the_code():
    assert f"`limit` is up to {pull.MOST};" in page("receiving.md")
    assert f"`wait` (up to `{pull.LONGEST_WAIT}s`)" in page("receiving.md")
    assert (refusals.MOST, refusals.EACH) == (10, 6.0)
    assert "After ten wrong tokens" in page("api.md")
    assert "every six seconds" in page("api.md")
    assert (reading.READS, reading.PATIENCE, arrivals.Arrivals.every) == (2, 10.0, 0.5)
    assert "At most two reads" in page("api.md")
    assert f"at most {pull.MOST} events and {log.PAGE_BYTES // 1024**2} MiB" in page("api.md")
