"""Pulling: receivers read their endpoint's log over real HTTP, from the real store."""

import asyncio
import base64
import hashlib
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx
import orjson
import pytest

from relay.api.app import application, served
from relay.api.refusals import MOST
from relay.control.pull import PullTokens
from relay.domain.cursors import cursor_of
from relay.domain.deliveries import Outcome
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.errors import NotFound
from relay.domain.pulling import Logged
from relay.store.database import opened
from relay.store.log import LogStore
from relay.store.retention import RetentionStore
from tests.fixtures.store import World, attempt, endpoint_named, entry

HOOK = "end_acme_hook"
LONG = 30
"""Seconds until what never comes fails its test."""


def frozen(remote_id, sequence):
    """A body that no JSON library would write again as it is."""
    return f'{{"type" : "é\\u00e9", "data":{{"n":1.500,"id":"{remote_id} {sequence}"}}}}'.encode()


@dataclass
class Pulling:
    """Relay's HTTP side over a world, and a receiver with a token."""

    world: World
    client: httpx.AsyncClient
    tokens: PullTokens

    async def tell(self, *remote_ids):
        """Events with bodies of JSON, admitted."""
        entries = []
        for remote_id in remote_ids:
            self.world.told[remote_id] += 1
            made = entry(self.erp.lease.subject, remote_id, self.world.told[remote_id])
            entries.append(replace(made, body=frozen(remote_id, made.sequence)))
        await self.world.orders.save_page(self.erp.lease, self.erp.subject, [], entries, None)
        await self.world.admissions.admit([each.event_id for each in entries])

    async def begin(self):
        self.hook, self.erp = await self.world.endpoint(), await self.world.connection()
        self.token = (await self.tokens.issue("hook")).token

    async def get(self, endpoint=HOOK, token=None, **query):
        headers = {"authorization": f"Bearer {token or self.token}"}
        return await self.client.get(f"/v1/endpoints/{endpoint}/events", params=query, headers=headers)

    async def page(self, **query):
        reply = await self.get(**query)
        assert reply.status_code == 200, reply.text
        return reply.json()


@asynccontextmanager
async def serving(world, log=None):
    app = application({}, log or LogStore(world.database))
    async with served(app, "127.0.0.1", 0) as url, httpx.AsyncClient(base_url=url, timeout=LONG) as client:
        yield Pulling(world, client, PullTokens(world.registry))


@pytest.fixture
async def pulling(world):
    async with serving(world) as running:
        await running.begin()
        yield running


def numbers(page):
    return [each["number"] for each in page["events"]]


# The log


async def test_the_log_has_every_event_in_order_with_its_state_and_its_very_bytes(pulling):
    await pulling.tell("p1", "p2")
    await pulling.tell("p1")
    first, second = await pulling.world.heads(pulling.hook)
    await pulling.world.record(pulling.hook.lease, [attempt(first), attempt(second, Outcome.DEAD)])
    reply = await pulling.get()
    page = reply.json()
    assert numbers(page) == [1, 2, 3]
    assert [each["state"] for each in page["events"]] == ["delivered", "dead", "waiting"]
    assert [each["event_id"] for each in page["events"][:2]] == [first.event_id, second.event_id]
    assert [each["delivery_id"] for each in page["events"][:2]] == [first.id, second.id]
    assert [each["cursor"] for each in page["events"]] == [cursor_of(HOOK, number) for number in (1, 2, 3)]
    assert (page["next"], page["more"], page["last"]) == (cursor_of(HOOK, 3), False, 3)
    assert reply.headers["cache-control"] == "no-store"
    lines = reply.content.split(b"\n")[1:-1]
    bodies = [line.removesuffix(b",").partition(b',"body":')[2].removesuffix(b"}") for line in lines]
    assert bodies == [frozen("p1", 1), frozen("p2", 1), frozen("p1", 2)]


async def test_a_reader_goes_on_where_it_stopped(pulling):
    await pulling.tell("p1", "p2", "p3")
    page = await pulling.page(limit=2)
    assert (numbers(page), page["more"], page["last"]) == ([1, 2], True, 3)
    page = await pulling.page(after=page["next"], limit=2)
    assert (numbers(page), page["more"]) == ([3], False)
    page = await pulling.page(after=page["next"])
    assert (numbers(page), page["next"]) == ([], cursor_of(HOOK, 3))
    await pulling.tell("p1")
    assert numbers(await pulling.page(after=page["next"])) == [4]


async def test_an_empty_page_has_no_lines_of_events(pulling):
    assert (await pulling.get()).content.split(b"\n")[1:-1] == []


async def test_an_empty_log_gives_a_cursor_that_misses_nothing(pulling):
    page = await pulling.page()
    assert page == {"events": [], "next": cursor_of(HOOK, 0), "more": False, "last": 0}
    await pulling.tell("p1")
    assert numbers(await pulling.page(after=page["next"])) == [1]


async def test_every_endpoint_has_numbers_of_its_own(pulling):
    await pulling.tell("p1", "p2")
    await pulling.world.endpoint("later")
    await pulling.tell("p1")
    token = (await pulling.tokens.issue("later")).token
    page = (await pulling.get("end_acme_later", token)).json()
    assert [(each["number"], each["body"]["data"]["id"]) for each in page["events"]] == [(1, "p1 2")]


async def test_what_a_reader_sees_while_many_admit_has_no_gap_behind_it(pulling):
    """The promise that a cursor rests on: whoever has seen a number can see all before it."""
    erps = [pulling.erp, *[await pulling.world.connection(f"erp{n}") for n in range(3)]]

    async def admit(erp):
        for _ in range(12):
            await pulling.world.admissions.admit(await pulling.world.tell(erp, "p1", "p2"))

    log, seen, after = LogStore(pulling.world.database), [], 0
    async with asyncio.timeout(LONG), asyncio.TaskGroup() as tasks:
        for erp in erps:
            tasks.create_task(admit(erp))
        while after < 4 * 24:
            page = await log.page(HOOK, after, 5)
            seen += [each.number for each in page.events]
            after = page.until
    assert seen == list(range(1, 4 * 24 + 1))


async def test_a_page_is_limited_by_its_bytes_and_always_goes_on(world):
    async with serving(world, LogStore(world.database, page_bytes=2 * len(frozen("p1", 1)))) as pulling:
        await pulling.begin()
        await pulling.tell("p1", "p2", "p3")
        assert numbers(await pulling.page()) == [1, 2]
    small = LogStore(world.database, page_bytes=1)
    page = await small.page(HOOK, 2, 100)
    (event,) = await world.sql("SELECT id, body FROM deliveries JOIN outbox USING (position) WHERE number = 3")
    assert page.events == (Logged(3, page.events[0].event_id, event["id"], "waiting", event["body"]),)


# What is no longer kept


async def test_a_cursor_older_than_retention_is_told_where_to_go_on(pulling):
    await pulling.tell("p1", "p2", "p3")
    first, second, _ = await pulling.world.heads(pulling.hook)
    await pulling.world.record(pulling.hook.lease, [attempt(first), attempt(second)])
    await pulling.world.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    assert await RetentionStore(pulling.world.database, timedelta(days=30)).forget() == 2
    reply = await pulling.get(after=cursor_of(HOOK, 0))
    assert reply.status_code == 410
    assert reply.headers["content-type"] == "application/problem+json"
    assert (reply.json()["oldest"], reply.json()["first_number"]) == (cursor_of(HOOK, 2), 3)
    assert numbers(await pulling.page(after=reply.json()["oldest"])) == [3]
    assert numbers(await pulling.page()) == [3], "without a cursor it begins with the oldest"


async def test_one_that_still_waits_does_not_hide_that_later_ones_are_gone(pulling):
    await pulling.tell("p1", "p2", "p3")
    _, second, _ = await pulling.world.heads(pulling.hook)
    await pulling.world.record(pulling.hook.lease, [attempt(second)])
    await pulling.world.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    assert await RetentionStore(pulling.world.database, timedelta(days=30)).forget() == 1
    page = await pulling.page(after=cursor_of(HOOK, 0))
    assert (numbers(page), page["more"]) == ([1], True)
    reply = await pulling.get(after=page["next"])
    assert (reply.status_code, reply.json()["first_number"]) == (410, 3)


async def test_events_of_a_removed_connection_are_gone_and_the_log_goes_on(pulling):
    await pulling.tell("p1")
    await pulling.world.registry.remove("connections", pulling.erp.lease.subject)
    reply = await pulling.get(after=cursor_of(HOOK, 0))
    assert (reply.status_code, reply.json()["oldest"]) == (410, cursor_of(HOOK, 1))
    pulling.erp = await pulling.world.connection("another")
    await pulling.tell("p9")
    assert numbers(await pulling.page(after=cursor_of(HOOK, 1))) == [2]


# Waiting


async def test_a_reader_at_the_end_waits_for_the_next_event(pulling):
    reading = asyncio.create_task(pulling.page(after=cursor_of(HOOK, 0), wait="30s"))
    others = [asyncio.create_task(pulling.page(wait="30s")) for _ in range(20)]
    done, _ = await asyncio.wait([reading, *others], timeout=0.7)
    assert not done
    await pulling.tell("p1")
    async with asyncio.timeout(10):
        assert [numbers(await each) for each in (reading, *others)] == [[1]] * 21


async def test_a_wait_ends_without_events(pulling):
    page = await pulling.page(wait="1s")
    assert (page["events"], page["more"]) == ([], False)


@pytest.mark.parametrize("wait", ["31s", "20", "-1s", "1m", "s", "999999s", "١s"])
async def test_a_wait_is_bounded(pulling, wait):
    reply = await pulling.get(wait=wait)
    assert (reply.status_code, reply.json()["detail"]) == (400, "wait: give 0s to 30s")


# What is refused


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"after": "garbage!"}, "the cursor cannot be read"),
        ({"after": ""}, "the cursor cannot be read"),
        ({"after": cursor_of("end_other", 1)}, "belongs to another endpoint"),
        ({"after": cursor_of(HOOK, 99)}, "ahead of this log"),
        ({"limit": 0}, "limit: "),
        ({"limit": 1001}, "limit: "),
        ({"limit": "many"}, "limit: "),
    ],
)
async def test_what_cannot_be_used_is_named_and_not_repeated(pulling, query, told):
    reply = await pulling.get(**query)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    assert told in reply.json()["detail"]
    assert not [value for value in query.values() if len(str(value)) > 4 and str(value) in reply.text]


async def test_without_the_right_token_nobody_learns_whether_an_endpoint_exists(pulling):
    other = (await pulling.world.endpoint("other")).lease.subject
    token = (await pulling.tokens.issue("other")).token
    without = (await pulling.world.endpoint("without")).lease.subject
    replies = [
        await pulling.get(token=token),
        await pulling.get(other),
        await pulling.get(without),
        await pulling.get("end_nobody"),
        await pulling.get(token="rlyp_" + "A" * 43),
        await pulling.get(token="junk"),
        await pulling.client.get(f"/v1/endpoints/{HOOK}/events"),
        await pulling.client.get(f"/v1/endpoints/{HOOK}/events", params={"token": pulling.token}),
        await pulling.client.get(f"/v1/endpoints/{HOOK}/events", auth=("relay", pulling.token)),
        await pulling.client.get("/v1/endpoints/end_nobody/events", params={"after": "garbage"}),
    ]
    assert {reply.status_code for reply in replies} == {401}
    assert len({reply.content.replace(reply.headers["request-id"].encode(), b"") for reply in replies}) == 1
    assert {reply.headers["www-authenticate"] for reply in replies} == {'Bearer realm="relay"'}


async def test_a_new_token_ends_the_old_one_and_a_revoked_one_is_good_for_nothing(pulling):
    old = pulling.token
    made = await pulling.tokens.issue("acme/hook")
    assert made.path == f"/v1/endpoints/{HOOK}/events"
    assert made.token not in repr(made)
    assert (await pulling.get(token=made.token)).status_code == 200
    assert (await pulling.get(token=old)).status_code == 401
    assert (await pulling.tokens.revoke("hook")).id == HOOK
    assert (await pulling.get(token=made.token)).status_code == 401
    with pytest.raises(NotFound):
        await pulling.tokens.issue("nobody")


async def test_a_token_is_kept_as_a_digest_only(pulling):
    everything = str(await pulling.world.everything())
    assert pulling.token not in everything
    digest = await pulling.world.one("SELECT pull_token FROM endpoints WHERE id = $1", HOOK)
    assert digest == hashlib.sha256(pulling.token.encode()).digest()


async def test_wrong_tokens_again_and_again_are_answered_without_a_look_and_lock_out_nobody_else(pulling):
    await pulling.world.endpoint("other")
    token = (await pulling.tokens.issue("other")).token
    statuses = [(await pulling.get(token="wrong")).status_code for _ in range(MOST + 1)]
    assert statuses == [401] * MOST + [429]
    reply = await pulling.get()
    assert reply.status_code == 429
    assert 1 <= int(reply.headers["retry-after"]) <= 6
    assert (await pulling.get("end_acme_other", token)).status_code == 200


async def test_a_database_that_is_away_is_a_503_that_tells_nothing_of_it(pulling, database_url):
    async with opened(database_url, connections=1) as closed:
        log = LogStore(closed)
    async with serving(pulling.world, log) as away:
        for path in ("events", "keys"):
            reply = await away.client.get(
                f"/v1/endpoints/{HOOK}/{path}", headers={"authorization": f"Bearer {pulling.token}"}
            )
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
            assert reply.json()["detail"] == "relay's database does not answer now: try again"


# Public keys


async def test_the_public_keys_are_there_for_everybody_as_a_jwks_and_as_text(pulling):
    texts = [public_key(new_private_key(os.urandom(32))) for _ in range(3)]
    await pulling.world.registry.add_endpoint(endpoint_named("keyed"), texts)
    reply = await pulling.client.get("/v1/endpoints/end_acme_keyed/keys")
    assert reply.headers["cache-control"] == "public, max-age=300"
    found = reply.json()
    assert found["public_keys"] == texts
    for key, text in zip(found["keys"], texts, strict=True):
        raw = base64.b64decode(text.removeprefix("whpk_"))
        assert base64.urlsafe_b64decode(key["x"] + "=") == raw
        canonical = orjson.dumps({"crv": "Ed25519", "kty": "OKP", "x": key["x"]})
        assert base64.urlsafe_b64decode(key["kid"] + "=") == hashlib.sha256(canonical).digest()
        assert {name: key[name] for name in key.keys() - {"x", "kid"}} == {
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
        }


async def test_an_endpoint_with_a_shared_secret_has_no_public_keys(pulling):
    assert (await pulling.client.get(f"/v1/endpoints/{HOOK}/keys")).json() == {"keys": [], "public_keys": []}


@pytest.mark.parametrize(("endpoint", "status"), [("end_nobody", 404), ("a%00b", 400), ("x" * 81, 400)])
async def test_keys_of_an_endpoint_that_is_not_there(pulling, endpoint, status):
    reply = await pulling.client.get(f"/v1/endpoints/{endpoint}/keys")
    assert (reply.status_code, reply.json()["status"]) == (status, status)
