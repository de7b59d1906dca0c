"""A forward proxy on the way: what it is asked, what it must not learn, and whose fault a failure is."""

import asyncio
import base64
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from socket import socket

import pytest

from relay.domain.access import given
from relay.domain.egress import Policy, Proxy, networks, proxy
from relay.domain.errors import UserError
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender, check_host
from tests.fixtures.certificates import Authority
from tests.fixtures.sockets import answering, closing_after, request_of

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
LOGIN = "canary%40us:p%3Acanary"
CANARIES = ("canary", base64.b64encode(b"canary@us:p:canary").decode())


class ForwardProxy:
    """CONNECT and absolute-form, to `leads` whatever the name; keeps the heads it was asked with."""

    def __init__(self, leads):
        self.leads, self.heads = leads, []

    async def __call__(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        there, out = await asyncio.open_connection("127.0.0.1", self.leads.port)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n")
        else:  # as proxies do: origin-form, and without what is for the proxy
            line, *lines = head.split(b"\r\n")
            method, url, version = line.split(b" ")
            path = b"/" + url.split(b"/", 3)[3]
            kept = [each for each in lines if not each.lower().startswith(b"proxy-")]
            out.write(b"\r\n".join([b" ".join([method, path, version]), *kept]))
        try:
            await asyncio.gather(passed(reader, out), passed(there, writer))
        finally:
            out.close()


async def passed(reader, writer):
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def resolved(_host, _port):
    return ["127.0.0.1"]


async def unresolved(_host, _port):
    raise OSError(-2, "no such name")


@asynccontextmanager
async def sending(url, way, *, resolve=resolved, resolves=False, access=None, seconds=20.0, login=LOGIN):
    within = timedelta(seconds=seconds)
    port = way if isinstance(way, int) else way.port
    policy = Policy(allow=networks("127.0.0.0/8"), proxy=proxy(f"http://{login}@127.0.0.1:{port}", resolves=resolves))
    sender = WebhookSender(url, Dialling(within, within, 4, policy, resolve), access or given({}))
    try:
        yield sender
    finally:
        await sender.close()


async def sent(sender):
    answer = await sender.send({"webhook-id": "evt_1"}, b"{}")
    assert not any(canary in repr(answer) for canary in CANARIES)
    return answer


def by_name(server):
    return server.url.replace("127.0.0.1", "hooks.invalid")


class Receiver:
    def __init__(self, status=200):
        self.status, self.heads = status, []

    async def __call__(self, reader, writer):
        while True:
            self.heads.append((await request_of(reader))[0].decode())
            writer.write(f"HTTP/1.1 {self.status} So\r\ncontent-length: 0\r\n\r\n".encode())


async def test_https_goes_through_a_tunnel_and_neither_side_learns_the_others_secrets(serve, tmp_path):
    authority, receiver = Authority(), Receiver()
    server = await serve(receiver, tls=authority.server(tmp_path))
    forward = ForwardProxy(server)
    way = await serve(forward)
    access = given({"authority": authority.root, "headers": {"x-key": "canary-of-the-endpoint"}})
    async with sending(server.url, way, access=access) as sender:
        for _ in range(3):
            answer = await sent(sender)
            assert (answer.status, answer.address) == (200, f"127.0.0.1:{way.port}")
    [asked] = forward.heads  # one tunnel, kept
    assert asked.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
    assert f"proxy-authorization: Basic {CANARIES[1]}" in asked
    assert "of-the-endpoint" not in asked
    assert "token" not in asked
    assert len(receiver.heads) == 3
    assert not any("proxy-" in head.lower() or CANARIES[1] in head for head in receiver.heads)


async def test_the_receivers_name_is_in_the_tunnel_and_the_certificate_is_judged_by_it(serve, tmp_path):
    authority = Authority()
    server = await serve(Receiver(), tls=authority.server(tmp_path))  # a certificate of 127.0.0.1
    forward = ForwardProxy(server)
    async with sending(by_name(server), await serve(forward), access=given({"authority": authority.root})) as sender:
        assert (await sent(sender)).error == "tls"
    assert forward.heads[0].startswith(f"CONNECT hooks.invalid:{server.port} ")


async def test_plain_http_is_asked_of_the_proxy_by_its_whole_url(serve):
    receiver = Receiver()
    server = await serve(receiver)
    forward = ForwardProxy(server)
    async with sending(by_name(server), await serve(forward)) as sender:
        assert (await sent(sender)).status == 200
    assert forward.heads[0].startswith(f"POST http://hooks.invalid:{server.port}/hook?token=canary")
    assert receiver.heads[0].startswith("POST /hook?token=canary")
    assert "proxy-" not in receiver.heads[0].lower()


FAULTS = {
    "a login is wanted": (b"HTTP/1.1 407 Login\r\ncontent-length: 0\r\n\r\n", "the proxy wants a login (407)"),
    "not reached": (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nabc", "the proxy did not connect"),
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy did not connect"),
    "noise": (b"SSH-2.0-OpenSSH_9.6\r\n", "the proxy did not connect"),
    "nothing": (b"", "the proxy hung up"),
    "too much": (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, "the proxy's answer is too long"),
}


@pytest.mark.parametrize(("says", "detail"), FAULTS.values(), ids=FAULTS)
async def test_what_the_proxy_does_to_a_tunnel_is_not_the_receivers_fault(serve, says, detail):
    """Outpost, too, does not charge an endpoint with its proxy's faults."""

    async def behave(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        await writer.drain()

    async with sending("https://hooks.invalid/hook", await serve(behave)) as sender:
        answer = await sent(sender)
    assert (answer.status, answer.error) == (None, "proxy")
    assert answer.detail.startswith(detail)


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_proxy_that_is_not_there_is_not_the_receivers_fault(scheme):
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        async with sending(f"{scheme}://hooks.invalid/hook", held.getsockname()[1]) as sender:
            answer = await sent(sender)
    assert (answer.error, answer.detail.partition(":")[0]) == ("proxy", "the proxy is not reached")


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_proxy_with_a_certificate_that_is_not_known_is_not_the_receivers_fault(serve, tmp_path, scheme):
    way = await serve(closing_after(), tls=Authority().server(tmp_path))
    within = timedelta(seconds=20)
    policy = Policy(allow=networks("127.0.0.0/8"), proxy=Proxy(f"https://us:canary@127.0.0.1:{way.port}"))
    sender = WebhookSender(f"{scheme}://hooks.invalid/hook", Dialling(within, within, 4, policy, resolved))
    answer = await sent(sender)
    await sender.close()
    assert (answer.error, answer.detail[:24]) == ("proxy", "the proxy is not reached")


async def test_a_login_that_a_proxy_wants_for_plain_http_is_no_answer_of_the_receiver(serve):
    way = await serve(answering(b"HTTP/1.1 407 Login\r\ncontent-length: 0\r\nwebhook-delivery: disable\r\n\r\n"))
    async with sending("http://hooks.invalid/hook", way) as sender:
        answer = await sent(sender)
    assert (answer.status, answer.error, answer.answer_seconds) == (None, "proxy", None)
    assert answer.wish == ""


@pytest.mark.parametrize("status", [407, 502, 504])
async def test_what_a_receiver_answers_through_the_tunnel_is_its_own(serve, tmp_path, status):
    authority = Authority()
    server = await serve(Receiver(status), tls=authority.server(tmp_path))
    access = given({"authority": authority.root})
    async with sending(server.url, await serve(ForwardProxy(server)), access=access) as sender:
        answer = await sent(sender)
    assert (answer.status, answer.error) == (status, "")


async def test_a_receiver_that_hangs_up_in_the_tunnel_has_its_own_fault(serve, tmp_path):
    authority = Authority()
    server = await serve(closing_after(), tls=authority.server(tmp_path))
    access = given({"authority": authority.root})
    async with sending(server.url, await serve(ForwardProxy(server)), access=access) as sender:
        assert (await sent(sender)).error == "reset"


async def test_a_proxy_that_is_silent_ends_at_the_deadline(serve):
    async def behave(reader, _):
        await reader.read()

    async with sending("https://hooks.invalid/hook", await serve(behave), seconds=0.3) as sender:
        assert (await sent(sender)).error == "timeout"


async def test_an_address_that_may_not_be_called_is_not_asked_of_the_proxy(serve):
    async def private(_host, _port):
        return ["10.0.0.1"]

    forward = ForwardProxy(None)
    way = await serve(forward)
    for resolves in (False, True):
        async with sending("https://hooks.invalid/hook", way, resolve=private, resolves=resolves) as sender:
            assert (await sent(sender)).error == "policy"
        async with sending("https://169.254.169.254/hook", way, resolves=resolves) as sender:
            assert (await sent(sender)).error == "policy"
    assert way.connections == 0


async def test_a_name_that_cannot_be_resolved_here_is_left_to_the_proxy_only_when_it_resolves(serve):
    receiver = Receiver()
    server = await serve(receiver)
    way = await serve(ForwardProxy(server))
    async with sending(by_name(server), way, resolve=unresolved) as sender:
        assert (await sent(sender)).error == "resolve"
    assert way.connections == 0
    async with sending(by_name(server), way, resolve=unresolved, resolves=True) as sender:
        assert (await sent(sender)).status == 200


async def test_a_new_endpoint_is_checked_by_the_same_rule():
    soon = timedelta(seconds=1)
    url = "https://hooks.invalid/"
    for resolves, notices in ((True, 0), (False, 1)):
        policy = Policy(proxy=proxy("http://proxy.example:3128", resolves=resolves))
        assert len(await check_host(url, policy, within=soon, resolve=unresolved)) == notices
        with pytest.raises(UserError, match="this machine"):
            await check_host(url, policy, within=soon, resolve=resolved)


async def test_token_servers_are_asked_through_the_proxy_too(serve):
    token = b'{"access_token":"t"}'
    giving = answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(token) + token)
    token_server = await serve(giving)
    forward = ForwardProxy(token_server)
    auth = {"kind": "oauth2", "token_url": by_name(token_server), "client_id": "us", "client_secret": "canary"}
    async with sending(by_name(token_server), await serve(forward), access=given({"auth": auth})) as sender:
        assert (await sent(sender)).status == 200
    assert forward.heads[0].startswith("POST http://hooks.invalid:")


@pytest.mark.parametrize(
    "text",
    ["proxy:3128", "socks5://canary:1", "http://", "http://canary", "http://canary:0x1", "http://canary:99999",
     "http://u:canary@h:1/path", "http://canary:1?q", "http://canary:1#f", "http://cän:1", "http://can ary:1",
     "http://[canary:1"],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="write the proxy as http://host:port") as caught:
        proxy(text)
    assert "canary" not in str(caught.value)


def test_a_proxys_login_is_in_no_repr():
    assert proxy("") is None
    known = proxy("http://us:canary@Proxy.example:3128/")
    assert "canary" not in repr(Policy(proxy=known)) + str(known)
    assert str(known) == "proxy.example:3128"
    assert str(proxy("https://us:canary@[2001:DB8::1]:443")) == "[2001:db8::1]:443"
