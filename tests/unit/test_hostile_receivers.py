"""Receivers that attack: each attempt ends by its deadline, and memory stays where it was.

The sender runs in a process of its own. Named in the cases are peers whose bug each would be: Svix reads a body without
end or cap, Convoy unpacks what is packed, Hook0 reads without bound within 15 s, and clients with a time per read
(httpx, and all that build on it) never end on a receiver that drips.
"""

import asyncio
import functools
import json
import os
import subprocess
import sys
import zlib
from datetime import timedelta
from pathlib import Path

import pytest

from relay.domain.egress import Policy
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender
from tests.fixtures.sockets import answering, closing_after, request_of, reset

ROOT = Path(__file__).parents[2]
DEADLINE, SLACK = 0.25, 5.0
PATIENCE = 20.0
"""A deadline that is not to come."""
TIMES = 3
MOST_KEPT, HIGHEST_PEAK = 1_000_000, 16_000_000
MOST_ROUNDS = 6
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def attacked():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.fixtures.attacked"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True) as child:

        def ask(**attack):
            child.stdin.write(json.dumps(attack) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        yield ask
        child.stdin.close()


async def attack(attacked, url, *, seconds=PATIENCE, times=TIMES, body=2_000):
    """The answers of a round that left memory as it was.

    The first round is for what a process takes once (code, threads, room for a head), and allocators give back when
    they like: a leak shows in every round.
    """
    send = functools.partial(attacked, url=url, seconds=seconds, body=body)
    await asyncio.to_thread(send, times=1)
    rounds = []
    while not rounds or (rounds[-1]["kept"] > MOST_KEPT and len(rounds) < MOST_ROUNDS):
        rounds.append(await asyncio.to_thread(send, times=times))
    assert rounds[-1]["kept"] <= MOST_KEPT
    assert max(each["peak"] for each in rounds) < HIGHEST_PEAK
    assert max(answer["took"] for answer in rounds[-1]["answers"]) < seconds + SLACK
    return {(answer["status"], answer["error"]) for answer in rounds[-1]["answers"]}


def pouring(start, again, *, pause=None):
    """`start`, and then the same again for ever: as fast as it is read, or with a pause."""

    async def behave(reader, writer):
        await request_of(reader)
        writer.write(start)
        while True:
            writer.write(again)
            await writer.drain()
            if pause is not None:
                await asyncio.sleep(pause)

    return behave


def resetting(after):
    async def behave(reader, writer):
        if after is not None:
            await request_of(reader)
            writer.write(after)
            await writer.drain()
        reset(writer)

    return behave


async def half_closing(reader, writer):
    """Its writing side is shut at once; it goes on reading."""
    writer.write_eof()
    await reader.read()


async def half_closing_in_the_head(reader, writer):
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    writer.write_eof()
    await reader.read()


async def reading_half(reader, _writer):
    await reader.readexactly(100)


async def answering_unread(reader, writer):
    """It answers before the body is there, and does not read the rest."""
    await reader.readuntil(b"\r\n\r\n")
    reader._transport.pause_reading()
    writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()
    await asyncio.Event().wait()


async def silent(reader, _writer):
    await reader.read()


BIG = b"x" * 65_536
HEAD = b"HTTP/1.1 200 OK\r\n"


@functools.cache
def bomb():
    """A quarter of a gibibyte of zeros as gzip."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([pack.compress(bytes(1 << 20)) for _ in range(256)]) + pack.flush()


DRIPPING = {
    "a head that drips (httpx #1450)": pouring(HEAD + b"x-slow: ", b"x", pause=0.01),
    "header lines that drip": pouring(HEAD, b"x: y\r\n", pause=0.02),
    "silence": silent,
    "interim answers that drip": pouring(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.01),
}


@pytest.mark.parametrize("behave", DRIPPING.values(), ids=DRIPPING)
async def test_a_head_without_end_ends_at_the_deadline(serve, attacked, behave):
    assert await attack(attacked, (await serve(behave)).url, seconds=DEADLINE) == {(None, "timeout")}


BODIES_THAT_DRIP = {
    "by length (Svix: the body has no deadline)": pouring(HEAD + b"content-length: 9999\r\n\r\n", b"x", pause=0.01),
    "to the connection's end": pouring(HEAD + b"\r\n", b"x", pause=0.01),
    "in chunks": pouring(CHUNKED, b"1\r\nx\r\n", pause=0.01),
    "a chunk's size": pouring(CHUNKED, b"0", pause=0.01),
    "trailers": pouring(CHUNKED + b"0\r\n", b"x: y\r\n", pause=0.01),
}


@pytest.mark.parametrize("behave", BODIES_THAT_DRIP.values(), ids=BODIES_THAT_DRIP)
async def test_a_body_that_drips_ends_at_the_deadline(serve, attacked, behave):
    assert await attack(attacked, (await serve(behave)).url, seconds=DEADLINE) == {(200, "timeout")}


BODIES = {
    "10 GB by length (Svix: no cap)": pouring(HEAD + b"content-length: 10000000000\r\n\r\n", BIG),
    "endless to the connection's end (Hook0: unbounded)": pouring(HEAD + b"\r\n", BIG),
    "endless in chunks": pouring(CHUNKED, b"10000\r\n" + BIG + b"\r\n"),
    "endless in chunks of one byte": pouring(CHUNKED, b"1\r\nx\r\n" * 10_000),
    "one chunk of 16 EB": pouring(CHUNKED + b"ffffffffffffffff\r\n", BIG),
}


@pytest.mark.parametrize("behave", BODIES.values(), ids=BODIES)
async def test_a_body_without_end_is_read_to_the_cap(serve, attacked, behave):
    assert await attack(attacked, (await serve(behave)).url) == {(200, "")}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_what_is_packed_stays_packed(serve, attacked, coding):
    """Convoy's cap is on the packed bytes, and then it unpacks all of them."""
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(bomb())}\r\n\r\n".encode()
    assert await attack(attacked, (await serve(closing_after(head, bomb()))).url) == {(200, "")}


HEADS = {
    "many kinds of interim answers": pouring(b"", b"".join(b"HTTP/1.1 1%02d X\r\n\r\n" % n for n in range(2, 99))),
    "102s with headers in a flood": pouring(b"", b"HTTP/1.1 102 Processing\r\nx: " + b"y" * 8000 + b"\r\n\r\n"),
    "interim answers in a flood": pouring(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "headers without end": pouring(HEAD, b"x-n: y\r\n" * 1000),
    "10,000 headers": closing_after(HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(10_000)) + b"\r\n"),
    "a header without end": pouring(HEAD + b"x: ", BIG),
    "a header's name without end": pouring(HEAD, BIG),
    "a status line without end": pouring(b"HTTP/1.1 200 ", BIG),
    "a status line of 1 MB": closing_after(b"HTTP/1.1 200 " + b"O" * 1_000_000 + b"\r\n\r\n"),
    "a folded header without end": pouring(HEAD + b"x: y\r\n", b" y\r\n" * 1000),
    "empty lines without end": pouring(b"", b"\r\n" * 1000),
    "two lengths": closing_after(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nhi"),
    "bytes that are no text": closing_after(bytes(range(256)) * 100),
}


@pytest.mark.parametrize("behave", HEADS.values(), ids=HEADS)
async def test_a_head_beyond_measure_is_no_answer(serve, attacked, behave):
    assert await attack(attacked, (await serve(behave)).url) == {(None, "protocol")}


CHUNKS = {
    "no number": b"zz\r\n",
    "a sign": b"-1\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "more than 64 bits": b"ffffffffffffffffff\r\n",
    "a size without end": b"0" * 1_000_000,
    "an extension without end": b"5;" + b"x" * 1_000_000,
    "no line end after the bytes": b"5\r\nhelloX0\r\n\r\n",
}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
async def test_a_chunk_that_is_none_ends_the_answer(serve, attacked, chunk):
    [(status, error)] = await attack(attacked, (await serve(closing_after(CHUNKED + chunk))).url)
    assert (status, error in {"protocol", "reset"}) == (200, True)


@pytest.mark.parametrize("line", [b"x: y\r\n" * 1000, BIG], ids=["many", "one line"])
async def test_trailers_without_end_end_the_answer(serve, attacked, line):
    assert await attack(attacked, (await serve(pouring(CHUNKED + b"0\r\n", line))).url) == {(200, "protocol")}


RESETS = {
    "after connecting": (None, {"reset", "refused"}),
    "after the request": (b"", {"reset"}),
    "in the status line": (b"HTTP/1.1 2", {"reset"}),
    "in the head": (HEAD + b"content-", {"reset"}),
}


@pytest.mark.parametrize(("after", "errors"), RESETS.values(), ids=RESETS)
async def test_a_reset_before_the_head_was_whole_is_no_answer(serve, attacked, after, errors):
    answers = await attack(attacked, (await serve(resetting(after))).url)
    assert {status for status, _ in answers} == {None}
    assert {error for _, error in answers} <= errors


@pytest.mark.parametrize("after", [b"content-length: 9\r\n\r\n", b"content-length: 9\r\n\r\nhalf"])
async def test_a_reset_after_the_head_is_no_whole_answer(serve, attacked, after):
    answers = await attack(attacked, (await serve(resetting(HEAD + after))).url)
    assert {error for _, error in answers} == {"reset"}
    assert {status for status, _ in answers} <= {200, None}  # the reset may overtake the head


HALVES = {
    "shut at once": (half_closing, {"reset"}),
    "shut in the head": (half_closing_in_the_head, {"reset"}),
    "half of the request read": (reading_half, {"reset", "protocol"}),
}


@pytest.mark.parametrize(("behave", "errors"), HALVES.values(), ids=HALVES)
async def test_a_connection_that_is_half_closed_is_no_answer(serve, attacked, behave, errors):
    answers = await attack(attacked, (await serve(behave)).url, body=500_000)
    assert {status for status, _ in answers} == {None}
    assert {error for _, error in answers} <= errors


async def test_an_answer_that_comes_before_the_request_was_read_counts(serve, attacked):
    answers = await attack(attacked, (await serve(answering_unread)).url, seconds=2, body=1_000_000)
    assert (413, "") in answers


async def test_a_switch_of_protocols_is_an_answer_and_what_follows_is_not_read(serve, attacked):
    behave = pouring(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", BIG)
    [(status, error)] = await attack(attacked, (await serve(behave)).url)
    assert (status, error) in {(101, ""), (None, "protocol")}


@pytest.mark.parametrize(
    ("noise", "seconds", "error"),
    [
        (b"", DEADLINE, "timeout"),
        (b"\x16\x03\x03\x40\x00", DEADLINE, "timeout"),
        (b"\x16\x03\x03\x40\x00\x02\xff\xff\xff" + b"x" * 16_380, PATIENCE, "tls"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", PATIENCE, "tls"),
    ],
    ids=["silence", "a record that is announced", "a handshake of 16 MB", "plain http"],
)
async def test_tls_that_stalls_or_is_none_ends_by_the_deadline(serve, attacked, noise, seconds, error):
    async def behave(reader, writer):
        await reader.read(1)
        writer.write(noise)
        await writer.drain()
        await reader.read()

    url = (await serve(behave)).url.replace("http:", "https:")
    assert await attack(attacked, url, seconds=seconds) == {(None, error)}


async def test_tls_that_hands_out_records_without_end_ends_by_the_deadline(serve, attacked):
    """Records of warnings: each is whole, and none ends the handshake."""

    async def behave(reader, writer):
        await reader.read(1)
        while True:
            writer.write(b"\x15\x03\x03\x00\x02\x01\x5a" * 1000)
            await writer.drain()

    url = (await serve(behave)).url.replace("http:", "https:")
    assert await attack(attacked, url) == {(None, "tls")}


@pytest.mark.parametrize(
    "extra",
    [
        b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n" * 1000,
        b"garbage",
        b"\r\n\r\n",
        b"HTTP/1.1 4",
    ],
    ids=["an answer", "many answers", "garbage", "empty lines", "half an answer"],
)
async def test_what_comes_with_an_answer_is_never_the_next_webhooks_answer(serve, attacked, extra):
    """An answer nobody asked for would disable the endpoint (410), or lose an event (200)."""
    behave = answering(ACCEPTED + extra)
    answers = await attack(attacked, (await serve(behave)).url, times=20)
    assert answers == {(202, "")}


async def test_what_comes_between_two_webhooks_is_never_the_nexts_answer(serve):
    async def behave(reader, writer):
        await request_of(reader)
        writer.write(ACCEPTED)
        await taken.wait()
        writer.write(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    taken = asyncio.Event()
    server = await serve(behave)
    within = timedelta(seconds=30)
    sender = WebhookSender(server.url, Dialling(within, within, 4, Policy(allow_private=True)))
    assert (await sender.send({}, b"{}")).status == 202
    taken.set()
    await server.ended.wait()  # the sender has hung up
    assert (await sender.send({}, b"{}")).status == 202
    await sender.close()


@pytest.fixture
def flood():
    """The URL of a receiver in a process of its own that answers with interim answers as fast as it can."""
    with subprocess.Popen([sys.executable, "-c", FLOODING], stdout=-1, stderr=-3, text=True) as child:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/"
        child.kill()


async def test_a_flood_of_interim_answers_ends_at_once_and_stops_nobody_else(serve, flood):
    """Whoever reads on as long as there is something to read lets all others wait."""

    def sender_to(url):
        within = timedelta(seconds=PATIENCE)
        return WebhookSender(url, Dialling(within, within, 4, Policy(allow_private=True)))

    hostile, other = sender_to(flood), sender_to((await serve(answering(ACCEPTED))).url)
    attempts = [asyncio.create_task(hostile.send({}, b"{}")) for _ in range(4)]
    for _ in range(20):
        assert (await other.send({}, b"{}")).status == 202
    assert {(await attempt).error for attempt in attempts} <= {"protocol", "reset"}
    await hostile.close()
    await other.close()


FLOODING = """
import socket
import threading
def pour(there):
    there.recv(65536)
    while True:
        there.sendall(b"".join(b"HTTP/1.1 1%02d X\\r\\n\\r\\n" % n for n in range(2, 99)) * 500)
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    threading.Thread(target=pour, args=[listening.accept()[0]], daemon=True).start()
"""


def test_the_process_under_attack_measures_what_it_takes():
    """Or the bounds above would bound nothing."""
    took = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=-1, check=True
    )
    assert int(took.stdout) > 5 * HIGHEST_PEAK


MEASURED = """
from tests.fixtures.attacked import measuring, memory
before = measuring()
del [bytes(range(256)) * 400_000][0]
print(memory("VmHWM") - before)
"""
