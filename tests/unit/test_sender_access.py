"""What a sender shows its receiver: headers, logins, tokens and certificates, over real sockets."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import parse_qs, unquote_plus

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.domain.access import Access, given
from relay.domain.deliveries import Outcome
from relay.domain.egress import Policy
from relay.domain.errors import UserError
from relay.domain.retry import classify
from relay.wire import tokens
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender, check_access
from tests.fixtures.certificates import Authority
from tests.fixtures.sockets import closing_after, request_of

HERE = Policy(allow_private=True)
CANARY = "canary"


class Receiver:
    """Keeps the heads of requests; answers with `status_of(its authorization)`."""

    def __init__(self, status_of=lambda _: 200):
        self.status_of, self.heads = status_of, []

    async def __call__(self, reader, writer):
        while True:
            head, _ = await request_of(reader)
            self.heads.append(headers_of(head))
            status = self.status_of(self.heads[-1].get("authorization"))
            writer.write(f"HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n".encode())


class TokenServer:
    """Gives token-1, token-2 and so on, or whatever `told` says; keeps the forms and heads."""

    def __init__(self, told=None, *, status=200, **more):
        self.told, self.status, self.more = told, status, more
        self.heads, self.forms = [], []
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = asyncio.Event()

    async def __call__(self, reader, writer):
        while True:
            head, form = await request_of(reader)
            self.heads.append(headers_of(head))
            self.forms.append(parse_qs(form.decode(), strict_parsing=True))
            self.asked.set()
            await self.hold.wait()
            token = {"access_token": f"token-{len(self.forms)}-{CANARY}", "token_type": "Bearer", "expires_in": 3600}
            body = json.dumps({**token, **self.more}).encode() if self.told is None else self.told
            writer.write(f"HTTP/1.1 {self.status} So\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


def headers_of(head):
    lines = head.decode().split("\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@asynccontextmanager
async def sending(url, access, seconds=20.0, policy=HERE):
    within = timedelta(seconds=seconds)
    sender = WebhookSender(url, Dialling(within, within, 4, policy), access)
    try:
        yield sender
    finally:
        await sender.close()


async def sent(sender):
    answer = await sender.send({"webhook-id": "evt_1"}, b"{}")
    assert CANARY not in repr(answer)
    return answer


def oauth2(server, **more):
    secret = {"client_id": "us:&é", "client_secret": f"{CANARY} &=é"}
    return given({"auth": {"kind": "oauth2", "token_url": server.url, **secret, **more}})


async def test_headers_and_logins_are_sent_with_each_webhook(serve):
    receiver = Receiver()
    server = await serve(receiver)
    login = {"kind": "basic", "username": "us", "password": CANARY}
    access = given({"headers": {"X-Api-Key": CANARY, "User-Agent": "us"}, "auth": login})
    async with sending(server.url, access) as sender:
        for _ in range(2):
            assert (await sent(sender)).status == 200
        await sender.ask({})
    for head in receiver.heads:
        assert (head["x-api-key"], head["user-agent"], head["accept-encoding"]) == (CANARY, "us", "identity")
        assert base64.b64decode(head["authorization"].removeprefix("Basic ")) == b"us:canary"
    assert [head.get("webhook-id") for head in receiver.heads] == ["evt_1", "evt_1", None]


async def test_a_token_is_fetched_once_and_sent_with_each_webhook(serve):
    receiver, giving = Receiver(), TokenServer()
    server, token_server = await serve(receiver), await serve(giving)
    async with sending(server.url, oauth2(token_server, scope="a b", audience="them")) as sender:
        for _ in range(3):
            assert (await sent(sender)).status == 200
        assert (await sender.ask({})).answer.status == 200
    assert {head["authorization"] for head in receiver.heads} == {f"Bearer token-1-{CANARY}"}
    assert giving.forms == [{"grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["them"]}]
    [head] = giving.heads
    login = base64.b64decode(head["authorization"].removeprefix("Basic ")).decode().split(":")
    assert [unquote_plus(each) for each in login] == ["us:&é", f"{CANARY} &=é"]
    assert "webhook-id" not in head
    assert head["content-type"] == "application/x-www-form-urlencoded"


async def test_a_client_may_authenticate_in_the_form(serve):
    giving = TokenServer()
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server, authenticates="body")) as sender:
        assert (await sent(sender)).status == 200
    [form] = giving.forms
    assert (form["client_id"], form["client_secret"]) == (["us:&é"], [f"{CANARY} &=é"])
    assert "authorization" not in giving.heads[0]


async def test_headers_of_the_endpoint_are_not_for_the_token_server(serve):
    giving = TokenServer()
    server, token_server = await serve(Receiver()), await serve(giving)
    access = oauth2(token_server).model_copy(update={"headers": given({"headers": {"x-key": CANARY}}).headers})
    async with sending(server.url, access) as sender:
        await sent(sender)
    assert "x-key" not in giving.heads[0]


async def test_many_at_once_share_one_token_and_one_who_gives_up_ends_nothing_for_the_others(serve):
    giving = TokenServer()
    giving.hold.clear()
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        waiting = [asyncio.create_task(sent(sender)) for _ in range(10)]
        await giving.asked.wait()
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        giving.hold.set()
        assert {(await each).status for each in waiting[1:]} == {200}
    assert len(giving.forms) == 1


async def test_a_token_that_is_refused_is_replaced_and_the_webhook_sent_again_in_the_same_attempt(serve):
    receiver, giving = Receiver(lambda shown: 401 if "token-1-" in shown else 200), TokenServer()
    server, token_server = await serve(receiver), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        answers = await asyncio.gather(*(sent(sender) for _ in range(5)))
        assert {answer.status for answer in answers} == {200}
    assert len(giving.forms) == 2


async def test_a_webhook_that_is_refused_with_a_new_token_too_is_not_sent_a_third_time(serve):
    receiver, giving = Receiver(lambda _: 401), TokenServer()
    server, token_server = await serve(receiver), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        answer = await sent(sender)
    assert (answer.status, answer.error, len(receiver.heads), len(giving.forms)) == (401, "", 2, 2)


async def test_a_webhook_is_not_sent_again_with_the_token_that_was_refused(serve):
    receiver, giving = Receiver(lambda _: 401), TokenServer(access_token="always-the-same")
    server, token_server = await serve(receiver), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        assert (await sent(sender)).status == 401
    assert (len(receiver.heads), len(giving.forms)) == (1, 2)


async def test_when_a_refused_token_cannot_be_replaced_both_are_told(serve):
    giving = TokenServer()

    def refuse(_):
        giving.status, giving.told = 503, b""
        return 401

    server, token_server = await serve(Receiver(refuse)), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        answer = await sent(sender)
    assert (answer.status, answer.error, answer.detail) == (401, "auth", "the token server answered 503")


@pytest.mark.parametrize(
    ("lasts", "tokens_for_three"),
    [({"expires_in": 3600}, 1), ({"expires_in": "3600"}, 1), ({"expires_in": None}, 1), ({"expires_in": "soon"}, 1),
     ({"expires_in": [1]}, 1), ({"expires_in": True}, 1), ({"expires_in": 10**18}, 1), ({"expires_in": 1e308}, 1),
     ({"expires_in": 0}, 3), ({"expires_in": -5}, 3), ({"expires_in": "nan"}, 3)],
)  # fmt: skip
async def test_a_token_is_kept_as_long_as_it_says(serve, lasts, tokens_for_three):
    giving = TokenServer(**lasts)
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        for _ in range(3):
            assert (await sent(sender)).status == 200
    assert len(giving.forms) == tokens_for_three


@pytest.mark.parametrize(
    ("seconds", "kept"), [(3600, 3570), (40, 30), (10**9, 24 * 3600 - 30), (0, 0), ("3600", 3570), (None, 270)]
)
async def test_a_token_is_replaced_before_it_ends(serve, seconds, kept):
    giving = TokenServer(expires_in=seconds)
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        before = asyncio.get_running_loop().time()
        await sent(sender)
        assert 0 <= sender._tokens._until - before - kept < 20


HTML = b"<html>canary</html>"
FAILURES = {
    "refused": (TokenServer(b'{"error":"invalid_client","error_description":"canary"}', status=401),
                "the token server answered 401 (invalid_client)"),
    "an unknown error": (TokenServer(b'{"error":"canary"}', status=400), "the token server answered 400"),
    "an error that is none": (TokenServer(b'{"error":["canary"]}', status=400), "the token server answered 400"),
    "HTML": (TokenServer(HTML), "the token server answered 200 without an access_token in JSON"),
    "JSON of another shape": (TokenServer(b'["canary"]'), "the token server answered 200 without"),
    "a redirect": (TokenServer(HTML, status=302), "the token server answered 302"),
    "an empty token": (TokenServer(access_token=""), "the token server answered 200 without"),
    "a token that is none": (TokenServer(access_token=5), "the token server answered 200 without"),
    "another kind of token": (TokenServer(token_type="mac"), "gave a token whose token_type is not Bearer"),
    "a kind that is none": (TokenServer(token_type=[]), "gave a token whose token_type is not Bearer"),
    "a token with a line break": (TokenServer(access_token="a\r\ncanary: b"), "a token that no header can carry"),
    "a token of 100 KB": (TokenServer(access_token="c" * 60_000), "a token that no header can carry"),
    "an answer without end": (TokenServer(b" " * 200_000), "the token server answered 200 without"),
}  # fmt: skip


@pytest.mark.parametrize(("giving", "says"), FAILURES.values(), ids=FAILURES)
async def test_a_token_server_that_gives_no_token_is_told_apart_from_the_receiver(serve, giving, says):
    receiver = Receiver()
    server, token_server = await serve(receiver), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        answer = await sent(sender)
    assert (answer.status, answer.error, answer.excerpt, receiver.heads) == (None, "auth", b"", [])
    assert says in answer.detail
    assert classify(answer) is Outcome.RETRY


async def test_a_token_server_that_is_silent_ends_at_the_attempts_deadline(serve):
    giving = TokenServer()
    giving.hold.clear()
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server), seconds=0.3) as sender:
        answer = await sent(sender)
    assert (answer.error, answer.detail[:16]) == ("auth", "the token server")


async def test_an_attempt_that_came_late_does_not_wait_longer_than_its_own_deadline(serve):
    giving = TokenServer()
    giving.hold.clear()
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        other = asyncio.create_task(sent(sender))
        await giving.asked.wait()
        reply = await sender._tokens.get(asyncio.get_running_loop().time() + 0.05)
        assert (reply.error, reply.detail) == ("auth", "the token server gave no token before the deadline")
        giving.hold.set()
        assert (await other).status == 200


async def test_a_token_server_that_hangs_up_is_told_of_without_its_url(serve):
    server, token_server = await serve(Receiver()), await serve(closing_after())
    async with sending(server.url, oauth2(token_server)) as sender:
        answer = await sent(sender)
    assert answer.error == "auth"
    assert answer.detail.startswith("the token server was not reached: reset (")
    assert "://" not in answer.detail


async def test_a_token_server_must_have_an_address_that_may_be_called(serve):
    """Or an endpoint's settings would reach what its URL may not."""
    giving = TokenServer()
    server, token_server = await serve(Receiver()), await serve(giving)
    access = oauth2(token_server)
    within = timedelta(seconds=20)
    sender = tokens.Tokens(access.auth, Dialling(within, within, 4, Policy()), access)
    reply = await sender.get(asyncio.get_running_loop().time() + 20)
    await sender.close()
    assert reply.detail == "the token server was not reached: policy (127.0.0.1 is this machine (loopback))"
    assert (giving.forms, server.connections) == ([], 0)


async def test_a_failed_token_server_is_left_alone_for_a_moment(serve):
    giving = TokenServer(HTML, status=500)
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        details = {(await sent(sender)).detail for _ in range(3)}
        assert (details, len(giving.forms)) == ({"the token server answered 500"}, 1)
        sender._tokens._rests_until = 0.0
        giving.status, giving.told = 200, None
        assert (await sent(sender)).status == 200


async def test_a_token_servers_retry_after_is_obeyed(serve):
    async def behave(reader, writer):
        await request_of(reader)
        writer.write(b"HTTP/1.1 429 Slow\r\nretry-after: 77\r\nwebhook-delivery: disable\r\ncontent-length: 0\r\n\r\n")

    server, token_server = await serve(Receiver()), await serve(behave)
    async with sending(server.url, oauth2(token_server)) as sender:
        answer = await sent(sender)
    assert (answer.error, answer.retry_after, answer.wish) == ("auth", 77, "")


async def test_closing_while_a_token_is_fetched_ends_the_attempt(serve):
    giving = TokenServer()
    giving.hold.clear()
    server, token_server = await serve(Receiver()), await serve(giving)
    async with sending(server.url, oauth2(token_server)) as sender:
        attempt = asyncio.create_task(sent(sender))
        await giving.asked.wait()
        await sender.close()
        assert (await attempt).error == "auth"


# Certificates


async def test_an_authority_of_ones_own_is_trusted_by_this_endpoint_only(serve, tmp_path):
    ours, theirs = Authority("ours"), Authority("theirs")
    server = await serve(Receiver(), tls=ours.server(tmp_path))
    for authority, error in ((ours.root, ""), (theirs.root + ours.root, ""), (theirs.root, "tls"), ("", "tls")):
        async with sending(server.url, given({"authority": authority})) as sender:
            assert (await sent(sender)).error == error


async def test_a_receiver_that_demands_a_certificate_gets_it(serve, tmp_path):
    ours, other = Authority("ours"), Authority("other")
    server = await serve(Receiver(), tls=ours.server(tmp_path, clients=ours))
    for authority, answered in ((ours, True), (other, False), (None, False)):
        chain, key = authority.issued() if authority else (None, None)
        certificate = {"certificate": {"chain": chain, "key": key}} if authority else {}
        async with sending(server.url, given({"authority": ours.root, **certificate})) as sender:
            answer = await sent(sender)
            assert (answer.status == 200) is answered
            assert answered or answer.error in {"tls", "reset"}


async def test_the_certificate_and_authority_hold_for_the_token_server_too(serve, tmp_path):
    ours = Authority("ours")
    tls = ours.server(tmp_path, clients=ours)
    giving = TokenServer()
    server, token_server = await serve(Receiver(), tls=tls), await serve(giving, tls=tls)
    chain, key = ours.issued()
    certificate = given({"authority": ours.root, "certificate": {"chain": chain, "key": key}})
    access = certificate.model_copy(update={"auth": oauth2(token_server).auth})
    async with sending(server.url, access) as sender:
        assert (await sent(sender)).status == 200
    assert len(giving.forms) == 1


def test_access_is_checked_with_the_rules_for_urls():
    def auth(url):
        return given({"auth": {"kind": "oauth2", "token_url": url, "client_id": "us", "client_secret": CANARY}})

    assert check_access(given({})) == Access()
    assert check_access(auth("HTTPS://Login.example:443/t")).auth.token_url == "https://login.example/t"
    assert check_access(auth("http://login.example/t"), allow_http=True).auth.token_url == "http://login.example/t"
    for url in ("http://login.example/canary", "https://canary@login.example/", "https://2130706433/canary"):
        with pytest.raises(UserError, match="the token server's URL") as caught:
            check_access(auth(url))
        assert CANARY not in str(caught.value)


def test_a_certificate_that_tls_cannot_use_is_refused_when_it_is_given():
    ours = Authority()
    chain, key = ours.issued()
    assert check_access(given({"authority": ours.root, "certificate": {"chain": chain, "key": key}}))
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    chain, key = ours.issued(weak)
    with pytest.raises(UserError, match="of a kind that TLS cannot use"):
        check_access(given({"certificate": {"chain": chain, "key": key}}))
