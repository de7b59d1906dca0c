"""The sender against real sockets: each server misbehaves in one way, and each answer must come by the deadline."""

import asyncio
import gzip
import socket
import threading
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.deliveries import Answer, Outcome, Wish
from relay.domain.egress import Policy
from relay.domain.errors import UserError
from relay.domain.retry import classify
from relay.domain.verification import Permission
from relay.wire.connection import BODY_CAP
from relay.wire.exchange import EXCERPT
from relay.wire.pinned import Dialling
from relay.wire.reply import LONGEST_DETAIL, LONGEST_LOCATION
from relay.wire.tls import trust_one_bundle
from relay.wire.webhook import WebhookSender, check_url
from tests.fixtures.certificates import Authority
from tests.fixtures.sockets import answering, closing_after, request_of, resetting_after

HERE = Policy(allow_private=True)
SOON, PATIENCE = 0.3, 30.0
"""Deadlines: one that comes, and one that is not to."""
SECRET_QUERY = "?token=canary-in-the-query"
HEADERS = {"content-type": "application/json", "webhook-id": "evt_1"}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@asynccontextmanager
async def sender_to(url, seconds=PATIENCE):
    sender = WebhookSender(url, Dialling(timedelta(seconds=seconds), timedelta(seconds=seconds), 4, HERE))
    try:
        yield sender
    finally:
        await sender.close()


async def send_to(url, seconds=PATIENCE, body=b"{}"):
    async with sender_to(url, seconds) as sender:
        answer = await sender.send(HEADERS, body)
    assert "canary" not in repr(answer)
    assert answer.location or "://" not in answer.detail
    return unmeasured(answer)


def unmeasured(answer):
    """The answer without times and address, which are checked here."""
    assert answer.address in {"", "127.0.0.1"}
    assert 0 <= answer.resolve_seconds <= (answer.answer_seconds or 60)
    assert (answer.status is None) == (answer.answer_seconds is None)
    return replace(answer, address="", resolve_seconds=0, answer_seconds=None)


def dripping(start):
    """A byte every few milliseconds: the pause is the misbehaviour under test."""

    async def behave(reader, writer):
        await request_of(reader)
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    return behave


async def test_the_body_arrives_as_it_is_with_our_headers_and_none_that_invite_surprises(serve):
    seen = []

    async def behave(reader, writer):
        seen.append(await request_of(reader))
        writer.write(OK)
        await writer.drain()

    server = await serve(behave)
    answer = await send_to(server.url, body=b'{"a": "\xc3\xa9"}')
    assert answer == Answer(status=200, excerpt=b"hi")
    [(head, body)] = seen
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == f"post /hook{SECRET_QUERY} http/1.1"
    assert body == b'{"a": "\xc3\xa9"}'
    assert {"accept-encoding: identity", "content-type: application/json", "webhook-id: evt_1"} <= set(lines)
    assert any(line.startswith("user-agent: relay/0") for line in lines)


@pytest.mark.parametrize("status", [204, 400, 404, 410, 429, 500, 501, 503, 999])
async def test_a_status_is_an_answer(serve, status):
    server = await serve(answering(f"HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n".encode()))
    assert await send_to(server.url) == Answer(status=status)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(serve, status):
    other = await serve(answering(OK))
    location = f"HTTP/1.1 {status} Go\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n"
    server = await serve(answering(location.encode()))
    answer = await send_to(server.url)
    assert (answer.status, other.connections) == (status, 0)
    assert answer.location == other.url.removesuffix(SECRET_QUERY)
    assert answer.detail == f"redirects are not followed: give the final URL, {answer.location}"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:canary@new.example/a?canary#canary", "https://new.example/a"),
        ("/hooks/other?canary", "http://127.0.0.1:PORT/hooks/other"),
        ("other", "http://127.0.0.1:PORT/other"),
        ("//canary@new.example\\@x/", "http://new.example/@x/"),
        ("HTTPS://NEW.example:443", "https://new.example/"),
        ("javascript:canary()", ""),
        ("http://[canary", ""),
        ("http://h\xe9/", ""),
        ("", ""),
        ("/" + "a" * 5000, f"http://127.0.0.1:PORT/{'a' * 5000}"),
    ],
)
async def test_where_a_redirect_leads_is_told_without_its_secrets_and_within_bounds(serve, location, shown):
    head = f"HTTP/1.1 302 Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    server = await serve(answering(head.encode("latin-1")))
    answer = await send_to(server.url)
    port = server.url.split(":")[2].partition("/")[0]
    assert answer.location == shown.replace("PORT", port)[:LONGEST_LOCATION]
    assert answer.detail.startswith("redirects are not followed: give the final URL")
    assert len(answer.detail) <= LONGEST_DETAIL


async def test_a_location_beside_another_status_leads_nowhere(serve):
    server = await serve(answering(b"HTTP/1.1 201 Created\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"))
    assert await send_to(server.url) == Answer(status=201)


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        (b"disable", Wish.DISABLE),
        (b"Abort-Message", Wish.ABORT),
        (b"\t DISABLE ", Wish.DISABLE),
        (b"", Wish.NONE),
        (b"disabled", Wish.NONE),
        (b"disable, abort-message", Wish.NONE),
        (b"dis\xe4ble", Wish.NONE),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 503])
async def test_a_receiver_may_ask_for_no_more_with_any_status(serve, status, value, wish):
    """Svix' hosted service reads this header, and its free server does not."""
    head = f"HTTP/1.1 {status} So\r\ncontent-length: 0\r\nWebhook-Delivery: ".encode() + value + b"\r\n\r\n"
    assert await send_to((await serve(answering(head))).url) == Answer(status=status, wish=wish)


async def test_the_phases_of_an_attempt_are_timed_and_its_address_is_told(serve):
    release = asyncio.Event()

    async def behave(reader, writer):
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh")
        await release.wait()
        writer.write(b"i")
        await writer.drain()

    async def resolve(_host, _port):
        asyncio.get_running_loop().call_later(0.2, release.set)
        return ["127.0.0.1"]

    server = await serve(behave)
    url = server.url.replace("127.0.0.1", "hooks.invalid")
    began = asyncio.get_running_loop().time()
    sender = WebhookSender(url, Dialling(timedelta(seconds=10), timedelta(seconds=10), 4, HERE, resolve))
    answer = await sender.send(HEADERS, b"{}")
    took = asyncio.get_running_loop().time() - began
    await sender.close()
    assert (answer.status, answer.address, answer.excerpt) == (200, "127.0.0.1", b"hi")
    assert 0 < answer.resolve_seconds < answer.answer_seconds < took


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120),
        (b"Sun, 01 Mar 2020 12:00:00 GMT", 0),
        (b"soon", None),
        (b"\xe9\xff", None),
        (b"9" * 300, None),
    ],
)
async def test_retry_after_is_read_and_nonsense_in_it_ignored(serve, value, seconds):
    server = await serve(answering(b"HTTP/1.1 503 No\r\nretry-after: " + value + b"\r\ncontent-length: 0\r\n\r\n"))
    assert await send_to(server.url) == Answer(status=503, retry_after=seconds)


async def test_a_url_is_asked_for_its_permission_and_the_answers_headers_are_told(serve):
    seen = []

    async def behave(reader, writer):
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: relay\r\nAllow: \xe9\r\ncontent-length: 2\r\n\r\nhi")
        await writer.drain()

    server = await serve(behave)
    async with sender_to(server.url) as sender:
        permission = await sender.ask({"webhook-request-origin": "relay"})
    assert unmeasured(permission.answer) == Answer(status=200, excerpt=b"hi")
    assert permission == Permission(permission.answer, origin="relay", rate="", allow="")
    assert seen[0].startswith(f"OPTIONS /hook{SECRET_QUERY} HTTP/1.1\r\n")
    assert "webhook-request-origin: relay\r\n" in seen[0].lower()


async def test_a_url_that_does_not_answer_gives_no_permission(serve):
    async def behave(reader, _writer):
        await reader.readuntil(b"\r\n\r\n")

    server = await serve(behave)
    async with sender_to(server.url) as sender:
        assert (await sender.ask({})).answer.error == "reset"


async def test_connections_are_kept_for_the_next_webhook(serve):
    server = await serve(answering(OK))
    async with sender_to(server.url) as sender:
        for _ in range(5):
            assert (await sender.send(HEADERS, b"{}")).status == 200
    assert server.connections == 1


async def test_a_kept_connection_that_was_closed_meanwhile_costs_no_attempt(serve):
    server = await serve(closing_after(OK))
    async with sender_to(server.url) as sender:
        assert (await sender.send(HEADERS, b"{}")).status == 200
        await server.ended.wait()
        assert (await sender.send(HEADERS, b"{}")).status == 200
    assert server.connections == 2


async def test_a_webhook_that_is_taken_back_closes_its_connection(serve):
    """Or its answer would be taken for the next one's."""
    arrived = asyncio.Event()

    async def behave(reader, _):
        await request_of(reader)
        arrived.set()
        await reader.read()

    server = await serve(behave)
    async with sender_to(server.url) as sender:
        sending = asyncio.create_task(sender.send(HEADERS, b"{}"))
        await arrived.wait()
        sending.cancel()
        await server.ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_interim_answers_are_passed_over_with_what_they_say(serve):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nwebhook-delivery: disable\r\nretry-after: 9\r\n\r\n"
    server = await serve(answering(interim + OK))
    async with sender_to(server.url) as sender:
        for _ in range(2):
            assert unmeasured(await sender.send(HEADERS, b"{}")) == Answer(status=200, excerpt=b"hi")
    assert server.connections == 1


async def test_a_wish_in_a_head_that_never_ended_is_none(serve):
    server = await serve(closing_after(b"HTTP/1.1 200 OK\r\nwebhook-delivery: disable\r\nretry-after: 9\r\n"))
    assert (await send_to(server.url)) == Answer(error="reset", detail="the receiver hung up")


@pytest.mark.parametrize("status", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK\r\nconnection: close"])
async def test_a_receiver_that_closes_its_connections_gets_new_ones(serve, status):
    server = await serve(closing_after(status + b"\r\ncontent-length: 2\r\n\r\nhi"))
    async with sender_to(server.url) as sender:
        for _ in range(3):
            assert (await sender.send(HEADERS, b"{}")).excerpt == b"hi"
    assert server.connections == 3


async def test_silence_ends_at_the_deadline(serve):
    async def behave(reader, _):
        await reader.read()

    answer = await send_to((await serve(behave)).url, SOON)
    assert answer == Answer(error="timeout", detail="no whole answer before the deadline")


async def test_a_dripping_head_ends_at_the_deadline(serve):
    answer = await send_to((await serve(dripping(b"HTTP/1.1 200 OK\r\nx-slow: "))).url, SOON)
    assert (answer.status, answer.error) == (None, "timeout")


async def test_endless_interim_answers_end_at_the_deadline(serve):
    async def behave(reader, writer):
        await request_of(reader)
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert (await send_to((await serve(behave)).url, SOON)).error == "timeout"


async def test_a_dripping_body_ends_at_the_deadline_and_is_tried_again(serve):
    server = await serve(dripping(b"HTTP/1.1 200 OK\r\n\r\n"))
    answer = await send_to(server.url, SOON)
    assert (answer.status, answer.error) == (200, "timeout")
    assert set(answer.excerpt) == set(b"x")
    assert classify(answer) is Outcome.RETRY
    await server.ended.wait()


async def test_a_receiver_that_never_reads_the_body_ends_at_the_deadline(serve):
    async def behave(reader, _):
        reader._transport.pause_reading()
        await asyncio.Event().wait()

    answer = await send_to((await serve(behave)).url, SOON, body=b"x" * 8_000_000)
    assert answer.error == "timeout"


async def test_an_endless_body_is_read_to_the_cap_and_its_connection_closed(serve):
    sent = 0

    async def behave(reader, writer):
        nonlocal sent
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 1024)
            await writer.drain()
            sent += 1024

    server = await serve(behave)
    answer = await send_to(server.url)
    assert answer == Answer(status=200, excerpt=b"x" * EXCERPT)
    await server.ended.wait()
    assert sent > BODY_CAP


async def test_a_compressed_bomb_is_not_unpacked(serve):
    bomb = gzip.compress(b"a" * 1_000_000)
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    assert (await send_to((await serve(answering(head, bomb))).url)).excerpt == bomb[:EXCERPT]


@pytest.mark.parametrize(
    ("noise", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(10_000)) + b"\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nx-long: " + b"y" * 4_000_000 + b"\r\n\r\n", "protocol"),
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "reset"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "reset"),
    ],
)
async def test_noise_and_half_an_answer_are_named_and_tried_again(serve, noise, error):
    answer = await send_to((await serve(closing_after(noise))).url)
    assert (answer.error, classify(answer)) == (error, Outcome.RETRY)
    assert answer.detail


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
async def test_a_reset_before_or_after_the_head_is_tried_again(serve, start):
    answer = await send_to((await serve(resetting_after(start))).url)
    assert (answer.error, classify(answer)) == ("reset", Outcome.RETRY)


async def test_a_port_that_nobody_listens_on_is_refused():
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take it meanwhile
        answer = await send_to(f"http://127.0.0.1:{held.getsockname()[1]}/{SECRET_QUERY}")
    assert answer.error == "refused"
    assert "refused" in answer.detail


async def test_a_name_that_does_not_exist_is_a_resolve_error():
    assert (await send_to(f"http://nowhere.invalid/{SECRET_QUERY}")).error == "resolve"


async def test_an_unanswered_connection_ends_at_the_deadline():
    with closing(socket.socket()) as full, closing(socket.socket()) as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # the backlog is full: the next connection waits for ever
        answer = await send_to(f"http://127.0.0.1:{full.getsockname()[1]}/{SECRET_QUERY}", SOON)
    assert answer.error == "timeout"


async def test_a_proxy_of_the_environment_is_not_used(serve, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    assert (await send_to((await serve(answering(OK))).url)).status == 200


async def test_an_attempt_whose_time_is_over_before_it_connects_is_not_sent(serve):
    server = await serve(answering(OK))
    async with sender_to(server.url) as sender:
        reply = await sender._caller.call("POST", HEADERS, b"{}", ends=asyncio.get_running_loop().time() - 1)
    assert (reply.answer().error, reply.detail) == ("timeout", "no time was left to connect")
    assert server.connections == 0


async def test_many_at_once_each_keep_their_own_deadline(serve):
    async def behave(reader, _):
        await reader.read()

    async with sender_to((await serve(behave)).url, SOON) as sender:
        answers = await asyncio.gather(*(sender.send(HEADERS, b"{}") for _ in range(20)))
    assert {answer.error for answer in answers} == {"timeout"}


async def test_closing_ends_what_is_in_flight(serve):
    arrived = asyncio.Event()

    async def behave(reader, _):
        await request_of(reader)
        arrived.set()
        await reader.read()

    async with sender_to((await serve(behave)).url) as sender:
        sending = asyncio.create_task(sender.send(HEADERS, b"{}"))
        await arrived.wait()
        await sender.close()
        assert (await sending).error == "reset"


@pytest.mark.parametrize("headers", [{"x": "two\r\nlines"}, {"x\r\ny": "1"}, {"x": "\x00"}, {"x": "\u20ac"}])
async def test_headers_that_http_cannot_carry_are_the_callers_mistake(serve, headers):
    server = await serve(answering(OK))
    async with sender_to(server.url) as sender:
        with pytest.raises(ValueError, match=r"header|encode"):
            await sender.send(headers, b"")
    assert server.connections == 0


async def test_a_certificate_of_an_unknown_authority_is_a_tls_error_and_a_known_one_is_not(
    serve, tmp_path, monkeypatch
):
    authority = Authority()
    (tmp_path / "root.pem").write_text(authority.root)
    server = await serve(answering(OK), tls=authority.server(tmp_path))
    answer = await send_to(server.url)
    assert (answer.error, classify(answer)) == ("tls", Outcome.RETRY)
    assert "certificate" in answer.detail
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    assert (await send_to(server.url)).status == 200


@pytest.mark.parametrize("noise", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
async def test_a_tls_handshake_that_fails_is_a_tls_error(serve, noise):
    async def behave(reader, writer):
        await reader.read(1)
        writer.write(noise)
        await writer.drain()

    server = await serve(behave)
    assert (await send_to(server.url.replace("http:", "https:"))).error == "tls"


async def test_a_tls_handshake_that_never_ends_ends_at_the_deadline(serve):
    async def behave(reader, _):
        await reader.read()

    url = (await serve(behave)).url.replace("http:", "https:")
    assert (await send_to(url, SOON)).error == "timeout"


async def test_connecting_has_its_own_shorter_time(serve):
    async def behave(reader, _):
        await reader.read()

    url = (await serve(behave)).url.replace("http:", "https:")
    sender = WebhookSender(url, Dialling(timedelta(hours=1), timedelta(seconds=0.2), 1, HERE))
    assert unmeasured(await sender.send(HEADERS, b"{}")) == Answer(error="timeout", detail="not connected in time")
    await sender.close()


async def test_senders_of_many_endpoints_share_their_threads(serve):
    server = await serve(answering(OK))
    async with AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(sender_to(server.url)) for _ in range(20)]
        answers = await asyncio.gather(*(sender.send(HEADERS, b"{}") for sender in senders))
    assert {answer.status for answer in answers} == {200}
    assert threading.active_count() < 20


@pytest.mark.parametrize(
    ("given_url", "called"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM:443/A?b=c", "https://example.com/A?b=c"),
        ("https://exämple.de/ü", "https://xn--exmple-cua.de/%C3%BC"),
        ("https://[::1]:8443/", "https://[::1]:8443/"),
        ("https://127.0.0.1", "https://127.0.0.1/"),
    ],
)
def test_a_url_is_checked_in_the_spelling_that_is_called(given_url, called):
    assert check_url(given_url) == called
    assert check_url(called) == called


def test_plain_http_must_be_allowed():
    assert check_url("http://127.0.0.1:9/x", allow_http=True) == "http://127.0.0.1:9/x"
    with pytest.raises(UserError, match="https://"):
        check_url("http://127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "https://"),
        ("example.com/canary", "https://"),
        ("https:example.com/canary", "https://"),
        ("ftp://example.com/canary", "https://"),
        ("javascript://x/canary", "https://"),
        ("https://", "no host"),
        ("https:///canary", "no host"),
        ("https://?canary", "no host"),
        ("https://user:canary@example.com/", "user name"),
        ("https://canary@example.com/", "user name"),
        ("https://example.com/#canary", "# part"),
        ("https://example.com/#", "# part"),
        ("https://example.com:0/canary", "port 0"),
        ("https://example.com:99999/canary", "port"),
        ("https://example.com:canary/", "port"),
        ("https://[::1%25eth0]/canary", "IPv6"),
        ("https://exa mple.com/canary", "spaces"),
        ("https://example.com\\canary", "backslashes"),
        ("https://example.com/canary\n", "control"),
        ("https://xn--zzzz--/canary", "domain name"),
        ("https://example.com/" + "canary" * 400, "2048"),
        *[
            (f"https://{host}/canary", "unusual form")
            for host in (
                *("0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "127.0.0.1.", "127.0.0.1.:8443"),
                *("１２７.0.0.1", "127。0。0。1", "%31%32%37.0.0.1", "08.8.8.010".replace("8", "7")),
            )
        ],
    ],
)
def test_a_bad_url_is_refused_with_what_to_change_and_without_repeating_it(url, says):
    with pytest.raises(UserError, match=says) as caught:
        check_url(url, allow_http=True)
    assert "canary" not in str(caught.value)


@given(st.text() | st.text().map(lambda rest: f"https://{rest}"))
def test_no_text_makes_the_check_fail_otherwise_and_what_passes_is_stable(text):
    with suppress(UserError):
        assert check_url(check_url(text)) == check_url(text)


def test_the_systems_authorities_are_read_from_one_file_unless_somebody_says_otherwise(tmp_path):
    there = tmp_path / "bundle.crt"
    there.write_text("")
    for environment, found in (
        ({}, {"SSL_CERT_FILE": str(there)}),
        ({"SSL_CERT_DIR": "/mine"}, {"SSL_CERT_DIR": "/mine"}),
        ({"SSL_CERT_FILE": "/mine"}, {"SSL_CERT_FILE": "/mine"}),
    ):
        trust_one_bundle(environment, [str(tmp_path / "absent"), str(there)])
        assert environment == found
    nothing = {}
    trust_one_bundle(nothing, [str(tmp_path / "absent")])
    assert nothing == {}
