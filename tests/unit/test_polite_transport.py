"""The transport that all calls to an ERP go through: paced, few at once, reads retried, failures in our own words."""

import asyncio
import gzip
from datetime import timedelta

import httpx
import pytest

from relay.demo.protheus_http import QUERY_PATH, Options, simulated_protheus
from relay.domain.errors import Unavailable, UnexpectedReply
from relay.domain.pace import READING
from relay.domain.schedules import Schedule
from relay.ports import Pace
from relay.wire.erp import LARGEST_BODY, PoliteTransport, polite_client

QUICK = Pace(per_second=1000, burst=1000, at_once=3, timeout=5)


class Sleeper:
    """Sleeps at once, and remembers for how long."""

    def __init__(self):
        self.slept = []

    async def __call__(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0)


def client(handler, *, pace=QUICK, sleep=None, clock=lambda: 0.0):
    transport = PoliteTransport(
        httpx.MockTransport(handler), pace, sleep=sleep or Sleeper(), dice=lambda: 0.5, clock=clock
    )
    return httpx.AsyncClient(transport=transport, base_url="https://erp.example")


def answers(*replies):
    """A handler that gives these, in order; exceptions are raised."""
    left = list(replies)

    def handler(_request):
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return handler


async def test_a_read_survives_two_blips():
    sleep = Sleeper()
    handler = answers(httpx.Response(503), httpx.ConnectError("refused"), httpx.Response(200, text="ok"))
    async with client(handler, sleep=sleep) as erp:
        assert (await erp.get("/")).text == "ok"
    assert sleep.slept == [0.75, 1.5]


async def test_after_three_tries_the_last_answer_stands():
    async with client(answers(*(httpx.Response(503) for _ in range(3)))) as erp:
        assert (await erp.get("/")).status_code == 503


async def test_after_three_lost_connections_the_erp_is_unavailable():
    handler = answers(*(httpx.ConnectError("connection refused") for _ in range(3)))
    async with client(handler) as erp:
        with pytest.raises(Unavailable, match=r"no answer from erp\.example/x: ConnectError \(connection refused\)"):
            await erp.get("/x?refresh_token=canary")


async def test_retry_after_is_obeyed():
    sleep = Sleeper()
    handler = answers(httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200))
    async with client(handler, sleep=sleep) as erp:
        await erp.get("/")
    assert sleep.slept == [7]


async def test_a_long_retry_after_is_left_to_the_schedule():
    handler = answers(httpx.Response(429, headers={"Retry-After": "3600"}))
    async with client(handler) as erp:
        assert (await erp.get("/")).status_code == 429


async def test_what_writes_is_sent_once():
    async with client(answers(httpx.Response(503))) as erp:
        assert (await erp.post("/")).status_code == 503
    async with client(answers(httpx.ReadError("reset"))) as erp:
        with pytest.raises(Unavailable):
            await erp.post("/")


async def test_a_post_that_says_it_only_reads_is_retried():
    async with client(answers(httpx.Response(503), httpx.Response(200))) as erp:
        assert (await erp.post("/", extensions={READING: True})).status_code == 200


async def test_calls_are_spread_by_the_token_bucket():
    sleep = Sleeper()
    pace = Pace(per_second=2, burst=1, at_once=3)
    async with client(lambda _: httpx.Response(200), pace=pace, sleep=sleep) as erp:
        for _ in range(3):
            await erp.get("/")
    assert sleep.slept == [0.5, 1.0]


async def test_no_more_calls_at_once_than_the_erp_stands():
    running, most = 0, 0

    async def handler(_request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return httpx.Response(200)

    async with client(handler) as erp:
        await asyncio.gather(*(erp.get("/") for _ in range(20)))
    assert most == 3


async def test_a_body_that_lies_about_its_encoding_is_unexpected():
    # Seen on real systems: "gzip" announced, plain text sent.
    class Plain(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request):
            return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"plain"))

    async with httpx.AsyncClient(transport=PoliteTransport(Plain(), QUICK)) as erp:
        with pytest.raises(UnexpectedReply):
            await erp.get("https://erp.example/")


def replying(body, **headers):
    """A client of an ERP that gives this body, in pieces of 64 KB as a socket does."""

    class Pieces(httpx.AsyncByteStream):
        async def __aiter__(self):
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

    class Erp(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request):
            return httpx.Response(200, headers=headers, stream=Pieces())

    return httpx.AsyncClient(transport=PoliteTransport(Erp(), QUICK))


async def test_a_packed_body_is_unpacked_once():
    async with replying(gzip.compress(b'{"items": []}'), **{"Content-Encoding": "gzip", "Content-Type": "x/y"}) as erp:
        reply = await erp.get("https://erp.example/")
    assert (reply.content, reply.headers["content-type"]) == (b'{"items": []}', "x/y")


@pytest.mark.parametrize("packed", [True, False])
async def test_a_body_that_is_too_large_once_unpacked_is_unexpected(packed):
    body = bytes(LARGEST_BODY + 1)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    async with replying(gzip.compress(body, 1) if packed else body, **headers) as erp:
        with pytest.raises(UnexpectedReply, match=r"erp\.example/ sent more than"):
            await erp.get("https://erp.example/?token=canary")


@pytest.mark.parametrize("fault", ["short", "reset"])
async def test_a_connection_that_breaks_once_is_not_noticed(fault):
    async with simulated_protheus(Options()) as erp, polite_client(QUICK) as caller:
        erp.fail_next(fault)
        reply = await caller.get(f"{erp.url}{QUERY_PATH}?tables=SE4", auth=(erp.username, erp.password))
        assert reply.status_code == 200


async def test_an_erp_that_does_not_answer_in_time_is_unavailable_and_not_asked_again():
    slow = Pace(per_second=100, burst=100, at_once=1, timeout=0.1)
    async with simulated_protheus(Options()) as erp, polite_client(slow) as caller:
        erp.fail_next("timeout", 2)
        with pytest.raises(Unavailable, match="did not answer within"):
            await caller.get(f"{erp.url}{QUERY_PATH}?tables=SE4", auth=(erp.username, erp.password))
        assert len(erp.queries()) == 1


def test_people_may_set_another_pace_for_one_connection():
    usual = Pace(per_second=4, burst=4, at_once=2)
    assert usual.set_by(Schedule()) == usual
    assert usual.set_by(Schedule(calls_per_second=20)) == Pace(per_second=20, burst=4, at_once=2)
    assert usual.set_by(Schedule(answer_within=timedelta(seconds=90))).timeout == 90
    assert usual.set_by(Schedule(calls_at_once=5)) == Pace(per_second=4, burst=10, at_once=5)
