"""The receiver over real sockets, spoken to in raw bytes and by our own sender."""

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import orjson
import pytest
import uvloop

from relay.demo.listener import BODY_CAP, HEAD_CAP
from relay.demo.received import Kind, Received, webhook_of
from relay.demo.receiver import KEPT, Tally, receiver
from relay.domain.command_samples import sample_result
from relay.domain.deliveries import Delivery, DeliveryId
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.egress import Policy
from relay.domain.errors import UserError
from relay.domain.results import Outcome
from relay.domain.signing import signing_key, verifying_key, webhook_headers
from relay.domain.verification import challenge_body
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender

KEY = b"a signing secret of 32 bytes...."


def event(order="po_1", sequence=1):
    data = {"order_id": order, "remote_id": "000123", "sequence": sequence, "connection_id": "con_1"}
    return orjson.dumps({"type": "purchase_order.updated", "timestamp": "2026-03-01T12:00:00Z", "data": data})


def signed(body=None, event_id="evt_1", attempts=0, secrets=(KEY,)):
    body = event() if body is None else body
    delivery = Delivery(DeliveryId("dlv_1"), event_id, "lane", 1, datetime.now(UTC), attempts, body)
    return webhook_headers(secrets, delivery, int(time.time())), body


def raw(headers, body, *, length=True, method="POST", version="1.1"):
    headers = headers | ({"content-length": str(len(body))} if length else {})
    lines = [f"{method} /hook HTTP/{version}", "host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connected(running):
    port = int(running.url.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answer_of(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    _, _, length = head.lower().partition("content-length: ")
    body = await reader.readexactly(int(length.split("\r\n")[0])) if length else b""
    return int(head.split()[1]), body.decode()


async def answer_to(running, data):
    async with connected(running) as (reader, writer):
        writer.write(data)
        return await answer_of(reader)


async def test_a_signed_webhook_is_taken_and_told():
    async with receiver([KEY]) as running:
        assert await answer_to(running, raw(*signed(attempts=2))) == (204, "")
        got = await running.received.get()
    assert (got.event_id, got.delivery, got.attempt) == ("evt_1", "dlv_1", 3)
    assert (got.type, got.order_id, got.sequence) == ("purchase_order.updated", "po_1", 1)
    assert (got.verified, got.problem, got.body) == (True, "", event())
    assert abs(got.timestamp - time.time()) < 60


async def test_our_sender_and_the_receiver_understand_each_other():
    async with receiver([KEY]) as running:
        dialling = Dialling(timedelta(seconds=10), timedelta(seconds=5), 4, Policy(allow_private=True))
        sender = WebhookSender(running.url, dialling)
        for sequence in range(1, 21):
            headers, body = signed(event(sequence=sequence), event_id=f"evt_{sequence}")
            assert (await sender.send(headers, body)).status == 204
        await sender.close()
        assert (running.tally.unique, running.tally.latest) == (20, {"po_1": 20})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"webhook-signature": None}, "webhook-signature is missing"),
        ({"webhook-timestamp": "soon"}, "webhook-timestamp is malformed"),
        ({"webhook-timestamp": "1"}, "s old"),
        ({"webhook-id": "evt_2"}, "no signature fits"),
        ({"webhook-id": "é"}, "webhook-id is malformed"),
        ({"webhook-signature": "v1"}, "webhook-signature is malformed"),
        ({"webhook-signature": "nothing like it"}, "webhook-signature is malformed"),
        ({"webhook-signature": "v1,é"}, "webhook-signature is malformed"),
        ({"webhook-signature": "v1,AA=="}, "webhook-signature is malformed"),
    ],
)
@pytest.mark.parametrize("body", [event(), b"\xff\xfe no text \x00"], ids=["event", "no text"])
async def test_a_bad_signature_is_answered_401_with_the_reason(change, says, body):
    """The reference library (standardwebhooks 1.1.0) raises something else for half of these: the answer is a 500."""
    headers, body = signed(body)
    headers = {name: value for name, value in (headers | change).items() if value is not None}
    async with receiver([KEY]) as running:
        status, text = await answer_to(running, raw(headers, body))
        got = await running.received.get()
        assert (running.tally.refused, running.tally.unverified, running.tally.unique) == (1, 1, 0)
    assert (status, got.verified) == (401, False)
    assert says in text
    assert says in got.problem


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"3",
        b"[" * 5000,
        b'{"data": []}',
        b'{"type": 5, "data": {"order_id": 7, "sequence": "x"}}',
    ],
)
async def test_a_signed_body_that_is_no_event_is_received_all_the_same(body):
    async with receiver([KEY]) as running:
        assert (await answer_to(running, raw(*signed(body))))[0] == 204
        got = await running.received.get()
    assert (got.verified, got.type, got.order_id, got.sequence, got.body) == (True, "?", "", 0, body)


async def test_the_answer_is_the_callers_to_give_at_once_or_later():
    gate = asyncio.Event()

    async def later():
        await gate.wait()
        return 200

    def answer(each):
        return 503 if each.attempt == 1 else later()

    async with receiver([KEY], answer=answer) as running:
        assert (await answer_to(running, raw(*signed())))[0] == 503
        async with connected(running) as (reader, writer):
            second, third = (raw(*signed(attempts=1, event_id=name)) for name in ("evt_1", "evt_2"))
            writer.write(second + third)  # pipelined: the third waits for the second's answer
            gate.set()
            assert [await answer_of(reader), await answer_of(reader)] == [(200, ""), (200, "")]
        tally = running.tally
    assert (tally.received, tally.refused, tally.unique, tally.duplicates) == (3, 1, 2, 0)


async def test_leaving_ends_answers_that_never_come():
    asked = asyncio.Event()

    async def never():
        asked.set()
        await asyncio.Event().wait()
        return 200

    async with receiver([KEY], answer=lambda _: never()) as running, connected(running) as (_, writer):
        writer.write(raw(*signed()))
        await asked.wait()


async def test_a_webhook_whose_sender_gave_up_waiting_is_counted_when_it_is_taken():
    asked, gate = asyncio.Event(), asyncio.Event()

    async def slow():
        asked.set()
        await gate.wait()
        return 200

    async with receiver([KEY], answer=lambda _: slow()) as running:
        async with connected(running) as (_, writer):
            writer.write(raw(*signed()))
            await asked.wait()
            writer.transport.abort()
        gate.set()
        assert (await running.received.get()).event_id == "evt_1"
        assert running.tally.unique == 1


async def test_a_body_may_come_in_chunks_with_trailers_in_any_pieces():
    headers, body = signed()
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:40], body[40:]))
    whole = raw(headers | {"transfer-encoding": "chunked"}, b"", length=False) + chunks
    async with receiver([KEY]) as running, connected(running) as (reader, writer):
        for end in (b"0\r\n\r\n", b"0\r\ntrailer: x\r\n\r\n"):
            for byte in whole + end:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)  # the receiver's turn: it gets the pieces one by one
            assert await answer_of(reader) == (204, "")
        writer.write((whole + b"0\r\n\r\n") * 2)
        assert [await answer_of(reader), await answer_of(reader)] == [(204, ""), (204, "")]
        assert running.tally.received == 4
        assert {running.received.get_nowait().body for _ in range(4)} == {body}


async def test_a_body_is_asked_for_when_the_sender_waits_to_be_asked():
    headers, body = signed()
    async with receiver([KEY]) as running, connected(running) as (reader, writer):
        writer.write(raw(headers | {"expect": "100-continue"}, body)[: -len(body)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert await answer_of(reader) == (204, "")


@pytest.mark.parametrize(("extra", "version"), [({"connection": "close"}, "1.1"), ({}, "1.0")])
async def test_a_connection_is_closed_when_the_sender_wants_it(extra, version):
    headers, body = signed()
    async with receiver([KEY]) as running, connected(running) as (reader, writer):
        writer.write(raw(headers | extra, body, version=version))
        assert (await answer_of(reader))[0] == 204
        assert await reader.read() == b""


CHUNKED = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 405, "POST"),
        (b"hello\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/2.0\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400, "header line"),
        (b"POST / HTTP/1.1\r\n: x\r\n\r\n", 400, "header line"),
        (b"POST / HTTP/1.1\r\nname : x\r\n\r\n", 400, "header line"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "not a number"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "not a number"),
        (b"POST / HTTP/1.1\r\ncontent-length: 16777217\r\n\r\n", 413, str(BODY_CAP)),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400, "unclear"),
        (CHUNKED[:-2] + b"content-length: 5\r\n\r\n", 400, "unclear"),
        (CHUNKED + b"zz\r\n", 400, "chunk"),
        (CHUNKED + b"1" * 2000, 400, "chunk"),
        (CHUNKED + b"1\r\nabc\r\n", 400, "longer than it says"),
        (CHUNKED + b"1ffffff\r\n", 413, str(BODY_CAP)),
        (CHUNKED + b"0\r\n" + b"x: y\r\n" * HEAD_CAP, 431, "trailers"),
        (b"POST / HTTP/1.1\r\nx: " + b"y" * HEAD_CAP, 431, str(HEAD_CAP)),
    ],
)
async def test_a_bad_request_is_answered_with_what_is_wrong_and_the_connection_closed(data, status, says):
    async with receiver([KEY]) as running, connected(running) as (reader, writer):
        writer.write(data)
        got, text = await answer_of(reader)
        assert got == status
        assert says in text
        assert running.tally.received == 0


async def test_a_receiver_may_learn_its_secret_after_its_url():
    async with receiver([]) as running:
        assert (await answer_to(running, raw(*signed())))[0] == 401
        running.trust([KEY])
        assert (await answer_to(running, raw(*signed())))[0] == 204


async def test_a_receiver_verifies_with_a_public_key():
    private = new_private_key(b"a seed that has just 32 bytes...")
    async with receiver([verifying_key(public_key(private))]) as running:
        assert (await answer_to(running, raw(*signed())))[0] == 401
        assert (await answer_to(running, raw(*signed(secrets=[signing_key(private)]))))[0] == 204


async def test_a_request_without_a_body_is_a_webhook_without_a_signature():
    async with receiver([KEY]) as running:
        assert (await answer_to(running, raw({}, b"", length=False)))[0] == 401


async def test_a_late_answer_closes_the_connection_when_the_sender_wants_it():
    async def later():
        return 200

    headers, body = signed()
    async with receiver([KEY], answer=lambda _: later()) as running, connected(running) as (reader, writer):
        writer.write(raw(headers | {"connection": "close"}, body))
        assert (await answer_of(reader))[0] == 200
        assert await reader.read() == b""


async def test_the_longest_allowed_body_is_taken():
    async with receiver([KEY]) as running:
        assert (await answer_to(running, raw(*signed(b"x" * BODY_CAP))))[0] == 204


async def test_a_taken_port_is_named():
    async with receiver([KEY]) as running:
        port = int(running.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is taken"):
            async with receiver([KEY], port=port):
                pass


@pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("127.0.0.1", 70_000), ("nowhere.invalid", 0)])
async def test_an_address_that_cannot_be_listened_on_is_named(host, port):
    with pytest.raises(UserError, match=f"cannot listen on {host} port {port}"):
        async with receiver([KEY], host=host, port=port):
            pass


async def test_a_failing_answer_breaks_the_connection_and_not_the_receiver():
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    async def later():
        raise ArithmeticError

    def answer(each):
        return later() if each.attempt == 1 else 200 // (each.attempt - 2)

    async with receiver([KEY], answer=answer) as running:
        for attempts in (0, 1):
            async with connected(running) as (reader, writer):
                writer.write(raw(*signed(attempts=attempts)))
                assert await reader.read() == b""
        assert (await answer_to(running, raw(*signed(attempts=2))))[0] == 200
    gc.collect()
    # Each is told when its task is forgotten, in no order.
    assert {type(each) for each in failures} == {ZeroDivisionError, ArithmeticError}
    assert len(failures) == 2


def test_it_works_on_uvloop_as_well():
    async def scene():
        async with receiver([KEY]) as running, connected(running) as (reader, writer):
            writer.write(raw(*signed()))
            return await answer_of(reader)

    assert uvloop.run(scene()) == (204, "")


def taken(event_id, order="po_1", sequence=1, *, verified=True):
    return Received(event_id, "dlv", 1, 0, "t", order, sequence, b"", verified)


def test_the_tally_tells_duplicates_from_disorder_and_refusals_from_both():
    tally = Tally()
    for each, status in [
        (taken("a", sequence=1), 503),  # refused: its retry is no duplicate
        (taken("a", sequence=1), 204),
        (taken("c", sequence=3), 204),
        (taken("b", sequence=2), 204),  # out of order
        (taken("b", sequence=2), 204),  # a duplicate, not a second disorder
        (taken("x", "po_2", 7), 200),
        (taken("y", verified=False), 401),
        (taken("no order", "", 0), 204),
        (taken("none either", "", 0), 204),
    ]:
        tally.count(each, status)
    assert (tally.received, tally.refused, tally.unverified) == (9, 2, 1)
    assert (tally.unique, tally.duplicates, tally.out_of_order) == (6, 1, 1)
    assert tally.latest == {"po_1": 3, "po_2": 7}


async def test_receipts_that_nobody_takes_out_stay_bounded():
    async with receiver([KEY]) as running:
        for number in range(KEPT + 5):
            running._done(taken(f"evt_{number}"), 204)
        assert running.received.qsize() == KEPT
        assert (await running.received.get()).event_id == "evt_5"


async def test_a_signed_challenge_is_answered_with_its_text_and_is_no_event():
    body = challenge_body("the text", datetime.now(UTC))
    async with receiver([KEY]) as running:
        assert await answer_to(running, raw(*signed(body, event_id="chl_1"))) == (200, "the text\n")
        got, tally = await running.received.get(), running.tally
    assert (got.kind, got.verified) == (Kind.CHALLENGE, True)
    assert (tally.challenges, tally.received, tally.unique, tally.refused) == (1, 0, 0, 0)


async def test_a_challenge_of_somebody_else_is_refused():
    headers, _ = signed()
    async with receiver([KEY]) as running:
        status, text = await answer_to(running, raw(headers, challenge_body("the text", datetime.now(UTC))))
        assert (status, "the text" in text, running.tally.unverified) == (401, False, 1)


async def test_a_challenge_without_a_text_is_answered_with_none():
    body = orjson.dumps({"type": "endpoint.challenge", "data": {"challenge": 5}})
    async with receiver([KEY]) as running:
        assert await answer_to(running, raw(*signed(body))) == (200, "")


async def test_a_test_is_taken_and_counted_apart():
    async with receiver([KEY]) as running:
        assert (await answer_to(running, raw(*signed(event_id="test_1"))))[0] == 204
        got, tally = await running.received.get(), running.tally
    assert (got.kind, tally.tests, tally.received, tally.latest) == (Kind.TEST, 1, 0, {})


async def handshake(running, headers):
    async with connected(running) as (reader, writer):
        writer.write(raw(headers, b"", method="OPTIONS", length=False))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    return int(first.split()[1]), dict(each.split(": ") for each in lines)


async def test_a_handshake_is_granted_to_whoever_says_who_asks():
    async with receiver([KEY]) as running:
        status, headers = await handshake(running, {"WebHook-Request-Origin": "hub.example"})
        assert (status, headers["allow"]) == (200, "OPTIONS, POST")
        assert (headers["webhook-allowed-origin"], headers["webhook-allowed-rate"]) == ("hub.example", "*")
        got = await running.received.get()
        assert (got.kind, got.asked_by, running.tally.challenges) == (Kind.HANDSHAKE, "hub.example", 1)
        _, nameless = await handshake(running, {})
        assert "webhook-allowed-origin" not in nameless


async def test_what_the_answer_does_not_take_is_not_proved():
    body = challenge_body("the text", datetime.now(UTC))
    async with receiver([KEY], answer=lambda _: 403) as running:
        assert await answer_to(running, raw(*signed(body))) == (403, "")
        status, headers = await handshake(running, {"webhook-request-origin": "hub.example"})
    assert (status, "webhook-allowed-origin" in headers) == (403, False)


async def test_our_sender_asks_a_receiver_for_permission():
    async with receiver([KEY]) as running:
        running.allowed_rate = "90"
        dialling = Dialling(timedelta(seconds=10), timedelta(seconds=5), 4, Policy(allow_private=True))
        sender = WebhookSender(running.url, dialling)
        permission = await sender.ask({"webhook-request-origin": "hub.example"})
        await sender.close()
    assert (permission.origin, permission.rate, permission.allow) == ("hub.example", "90", "OPTIONS, POST")
    assert permission.answer.status == 200


def test_a_result_is_none_of_its_orders_events():
    tally = Tally()
    for number, outcome in enumerate((Outcome.ACCEPTED, Outcome.APPLIED)):
        body = sample_result(outcome).model_dump_json().encode()
        came = webhook_of({"webhook-id": f"res_{number}"}, body, "")
        assert (came.type, came.order_id, came.kind) == (f"purchase_order.command_{outcome}", "", Kind.EVENT)
        tally.count(came, 204)
    assert (tally.unique, tally.out_of_order) == (2, 0)
