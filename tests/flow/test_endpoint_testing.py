"""`relay endpoints test`: samples over real sockets, what came back, and what to do about it."""

import asyncio
import base64
import os
import re
import socket
from contextlib import asynccontextmanager, closing

import orjson
import pytest

from relay.demo.received import Kind
from relay.demo.receiver import always, receiver
from relay.domain.access import given as access_given
from relay.domain.access import written
from relay.domain.catalogue import TYPES
from relay.domain.signing import verifying_key
from relay.store.database import opened
from relay.store.keys import KeyStore
from relay.store.registry import Registry
from relay.vault import Keyring, MasterKeys, Place, Purpose, Vault

pytest_plugins = ["tests.fixtures.cli"]


@pytest.fixture
def installed(relay, environment, database_url):
    """The command line of an installation whose receivers are on this machine."""
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    environment.setenv("RELAY_DELIVER__ALLOW_HTTP", "true")
    environment.setenv("RELAY_EGRESS__PRIVATE", "true")
    return relay


def add(installed, url, *more):
    """Add an endpoint; what its receiver verifies with."""
    added = installed("endpoints", "add", "--customer", "acme", "--name", "hook", "--url", url, "--json", *more)
    assert added.code == 0, added.err
    return [verifying_key(each) for each in (added.json["secret"], added.json["public_key"]) if each]


def received(here, at):
    """What has come, in order."""
    return [at(here.received.get_nowait) for _ in range(at(here.received.qsize))]


@asynccontextmanager
async def answering(answer):
    """A server that answers every request with these bytes: its URL, and the heads of the requests that it heard."""
    heard = []

    async def behave(reader, writer):
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(behave, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", heard
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("signing", ["hmac", "ed25519", "both"])
def test_a_sample_is_signed_as_deliveries_are_and_known_as_a_test(installed, signing, running):
    with running(receiver([])) as (here, at):
        keys = add(installed, here.url, "--signing", signing)
        at(lambda: here.trust(keys))
        told = installed("endpoints", "test", "hook", "--type", "approved", "--json")
        [webhook] = received(here, at)
        tally = at(lambda: here.tally)
    assert (told.code, told.json["ok"]) == (0, True)
    [sent] = told.json["tries"]
    assert (sent["type"], sent["status"], sent["ok"], sent["error"]) == ("purchase_order.approved", 204, True, "")
    assert (sent["address"], sent["advice"]) == ("127.0.0.1", "")
    assert 0 <= sent["milliseconds"] < 15_000
    assert (webhook.verified, webhook.kind, webhook.event_id) == (True, Kind.TEST, sent["webhook_id"])
    assert webhook.event_id.startswith("test_")
    body = orjson.loads(webhook.body)
    assert (body["type"], body["data"]["event_id"]) == (sent["type"], webhook.event_id)
    assert (body["data"]["customer_id"], body["data"]["order"]["customer_id"]) == ("acme", "acme")
    assert (tally.tests, tally.received) == (1, 0)


def test_every_type_that_the_endpoint_wants_is_sent_or_one_or_those_that_are_named(installed, running):
    with running(receiver([])) as (here, at):
        keys = add(installed, here.url, "--type", "approved", "--type", "closed")
        at(lambda: here.trust(keys))

        def types(*arguments):
            assert installed("endpoints", "test", "hook", *arguments).code == 0
            return [each.type.removeprefix("purchase_order.") for each in received(here, at)]

        assert types() == ["approved"]
        assert types("--all") == ["approved", "closed"]
        assert types("--type", "deleted", "--type", "created") == ["deleted", "created"]
    assert installed("endpoints", "test", "hook", "--all", "--type", "closed").code == 2
    assert installed("endpoints", "test", "hook", "--type", "eaten").code == 2
    assert installed("endpoints", "test", "nobody").code == 4


def test_an_endpoint_that_wants_everything_gets_every_sample_and_nothing_is_recorded(installed, running):
    with running(receiver([])) as (here, at):
        keys = add(installed, here.url)
        at(lambda: here.trust(keys))
        told = installed("endpoints", "test", "hook", "--all")
        types = [each.type for each in received(here, at)]
    assert (told.code, types) == (0, list(TYPES))
    lines = told.out.splitlines()
    assert re.match(r"^purchase_order\.created  204 in \d+ ms from 127\.0\.0\.1  test_[0-9a-f]{24}$", lines[0])
    assert installed("deliveries", "list", "--json").json == []
    assert set(installed("endpoints", "show", "hook", "--json").json["counts"].values()) == {0}


def test_a_sample_is_as_thin_as_what_the_endpoint_gets(installed, running):
    with running(receiver([])) as (here, at):
        keys = add(installed, here.url, "--set", "payload=thin")
        at(lambda: here.trust(keys))
        assert installed("endpoints", "test", "hook").code == 0
        [webhook] = received(here, at)
    data = orjson.loads(webhook.body)["data"]
    assert (data["payload"], data["event_id"], "order" in data) == ("thin", webhook.event_id, False)


def test_what_the_endpoint_asks_for_is_shown_and_never_told(installed, running, database_url):
    async def allow():
        async with opened(database_url, connections=1) as database:
            registry, ring = Registry(database), Keyring.from_text(os.environ["RELAY_VAULT__MASTER_KEY"])
            vault = Vault(MasterKeys.of(ring), KeyStore(database))
            subject = (await registry.endpoint("hook")).subject
            place = Place(subject.customer_id, subject.id, Purpose.ACCESS)
            access = access_given({"auth": {"kind": "bearer", "token": "canary-token"}})
            sealed = await vault.seal(place, written(access))
            async with database.session() as connection:
                await connection.execute("UPDATE endpoints SET access = $2 WHERE id = $1", subject.id, sealed)

    with running(answering(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")) as ((url, heard), _):
        add(installed, url)
        asyncio.run(allow())
        told = installed("endpoints", "test", "hook", "--json")
    assert "authorization: bearer canary-token\r\n" in heard[0]
    assert (told.code, "canary" in told.out + told.err) == (1, False)


def test_a_refused_signature_is_explained_and_one_refusal_is_enough_to_fail(installed, running):
    def answer(each):
        return 204 if each.type == "purchase_order.created" else 422

    with running(receiver([], answer=answer)) as (here, at):
        keys = add(installed, here.url)
        refused = installed("endpoints", "test", "hook")
        assert refused.code == 1
        assert "401 in" in refused.out
        assert "answered: no signature fits" in refused.out
        assert "401: the receiver refuses the signature" in refused.out
        at(lambda: here.trust(keys))
        told = installed("endpoints", "test", "hook", "--type", "created", "--type", "updated", "--json")
    assert (told.code, told.json["ok"]) == (1, False)
    assert [each["ok"] for each in told.json["tries"]] == [True, False]
    assert told.json["tries"][1]["advice"].startswith("422: the receiver could not use the webhook")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 302 Go\r\nlocation: https://new.example/x\r\ncontent-length: 0\r\n\r\n", "302: redirects are not"),
        (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", "404: there is nothing at this path"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nline\nline", "500: the receiver failed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf", "reset: the connection was closed before"),
        (b"220 mail.example ESMTP\r\n", "protocol: what answers does not speak HTTP"),
    ],
)
def test_what_a_receiver_does_wrong_is_said_in_plain_words(installed, answer, says, running):
    with running(answering(answer)) as ((url, _), _):
        add(installed, url)
        told = installed("endpoints", "test", "hook")
    assert told.code == 1
    assert says in told.out


def test_a_port_where_nobody_listens_is_named_as_such(installed):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        add(installed, f"http://127.0.0.1:{taken.getsockname()[1]}/")
        told = installed("endpoints", "test", "hook", "--json")
    assert (told.code, told.json["tries"][0]["error"]) == (1, "refused")
    assert told.json["tries"][0]["status"] is None


def test_a_receiver_that_says_nothing_ends_at_the_deadline(installed, running):
    async def silent(_each):
        await asyncio.Event().wait()

    with running(receiver([], answer=silent)) as (here, at):
        keys = add(installed, here.url, "--deadline", "1s")
        at(lambda: here.trust(keys))
        told = installed("endpoints", "test", "hook")
    assert told.code == 1
    assert "timeout: no answer in time" in told.out


def test_addresses_that_webhooks_may_not_go_to_are_not_tested_either(installed, environment, running):
    with running(receiver([], answer=always)) as (here, at):
        add(installed, here.url)
        environment.setenv("RELAY_EGRESS__PRIVATE", "false")
        told = installed("endpoints", "test", "hook", "--json")
        assert at(here.received.empty)
    assert (told.code, told.json["tries"][0]["error"]) == (1, "policy")


def test_it_needs_the_master_key(installed, environment, running):
    with running(receiver([])) as (here, _):
        add(installed, here.url)
        environment.delenv("RELAY_VAULT__MASTER_KEY")
        assert installed("endpoints", "test", "hook").code == 1
        environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
        told = installed("endpoints", "test", "hook", "--json")
    assert (told.code, "whsec_" in told.out + told.err) == (1, False)


def test_a_receiver_that_was_asked_for_permission_hears_who_sends(installed, environment, running):
    environment.setenv("RELAY_DELIVER__ORIGIN", "hub.example")
    with running(answering(b"HTTP/1.1 204 No\r\n\r\n")) as ((url, heard), _):
        add(installed, url, "--set", "verification=cloudevents")
        assert installed("endpoints", "test", "hook").code == 0
    assert "webhook-request-origin: hub.example\r\n" in heard[0]
    assert "relay-test: true\r\n" in heard[0]
