"""Endpoints, deliveries, replays and explanations through the control API, over a real socket and database."""

import asyncio

import pytest

from relay.control.at_hand import Usual
from relay.domain.deliveries import Answer
from relay.domain.egress import Policy
from tests.fixtures.api import control_of, serving_control
from tests.fixtures.store import attempt

HOOK = {"customer": "acme", "name": "portal", "url": "https://portal.example/hooks"}


async def public(_host, _port):
    return ["93.184.215.14"]


@pytest.fixture
async def api(world):
    async with serving_control(world, control=control_of(world, resolve=public)) as running:
        yield running


async def added(api, **values):
    reply = await api.post("/v1/endpoints", {**HOOK, **values})
    assert reply.status_code == 201, reply.text
    return reply.json()


async def test_an_endpoint_lives_through_the_api(api):
    made = await added(api, event_types=["approved"], options={"ordering": "latest_only"}, deadline="PT5S")
    end = made["endpoint"]["id"]
    assert made["secret"].startswith("whsec_")
    assert (made["endpoint"]["deadline"], made["endpoint"]["at_once"]) == ("PT5S", 64)
    path = f"/v1/endpoints/{end}"
    changed = await api.call("PATCH", path, json={"event_types": [], "deadline": "20s", "defaults": ["ordering"]})
    assert (changed.json()["event_types"], changed.json()["deadline"]) == ([], "PT20S")
    assert changed.json()["options"]["ordering"] == "strict"
    assert (await api.post(f"{path}/disable")).json()["state"] == "disabled"
    assert (await api.post(f"{path}/enable")).json()["state"] == "active"
    refused = await api.call("POST", f"{path}/secrets", content=b"null")
    assert (refused.status_code, refused.json()["detail"]) == (400, "the body is null: send an object, or no body")
    rotated = (await api.call("POST", f"{path}/secrets")).json()
    assert rotated["secret"] != made["secret"]
    assert [each["signing"] for each in (await api.get(f"{path}/secrets")).json()] == ["hmac", "hmac"]
    token = (await api.post(f"{path}/pull-token")).json()["token"]
    assert (await api.get(f"{path}/events", key=token)).status_code == 200
    await api.call("DELETE", f"{path}/pull-token")
    assert (await api.get(f"{path}/events", key=token)).status_code == 401
    assert (await api.get(path)).json()["counts"]["waiting"] == 0
    assert (await api.call("DELETE", path)).json()["id"] == end
    assert (await api.get(path)).status_code == 404
    said = [action for (action,) in await api.audited("action")]
    assert said == [
        *("add_endpoint", "change_endpoint", "disable_endpoint", "enable_endpoint", "rotate_secret"),
        *("issue_pull_token", "revoke_pull_token", "remove_endpoint"),
    ]
    assert {subject for (subject,) in await api.audited("subject")} == {end}


async def test_endpoints_are_listed_by_page_by_customer_and_by_name(api):
    for customer in ("acme", "other"):
        for name in ("a", "b", "c"):
            await added(api, customer=customer, name=name)
    seen, after = [], {}
    while after is not None:
        page = (await api.get("/v1/endpoints", params={"limit": 4, **after})).json()
        seen += [(each["customer"], each["name"]) for each in page["items"]]
        after = page["next"] and {"after": page["next"]}
    assert seen == [(customer, name) for customer in ("acme", "other") for name in ("a", "b", "c")]
    for query, count in (({"customer": "acme"}, 3), ({"name": "a"}, 2), ({"name": "acme/a"}, 1), ({"name": "x"}, 0)):
        assert len((await api.get("/v1/endpoints", params=query)).json()["items"]) == count, query


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"url": "http://portal.example"}, 400, "https"),
        ({"url": "https://10.0.0.1/"}, 400, "private"),
        ({"event_types": ["aproved"]}, 400, "unknown event type"),
        ({"options": {"orderin": "strict"}}, 400, "orderin"),
        ({"name": "a/b"}, 400, "name"),
        ({"deadline": "15"}, 400, "deadline"),
        ({"connections": ["erp"]}, 404, "erp"),
        ({"canary": "x"}, 400, "canary"),
        ({"access": {"auth": {"kind": "bearer", "tokn": "canary-7"}}}, 400, "tokn"),
    ],
)
async def test_what_cannot_be_used_is_refused_by_name(api, wrong, status, says):
    reply = await api.post("/v1/endpoints", {**HOOK, **wrong})
    assert reply.status_code == status, reply.text
    assert says in reply.json()["detail"]
    assert "canary-7" not in reply.text
    assert (await api.get("/v1/endpoints")).json()["items"] == []


async def test_a_read_key_changes_nothing_and_a_connections_token_sees_no_endpoint(api):
    made = await added(api)
    assert (await api.post("/v1/endpoints", {**HOOK, "name": "b"}, key="read")).status_code == 403
    assert (await api.get(f"/v1/endpoints/{made['endpoint']['id']}", key="read")).status_code == 200


async def test_http_is_for_those_whose_relay_allows_it(world):
    control = control_of(world, resolve=public, usual=Usual(allow_http=True), egress=Policy(allow_private=True))
    async with serving_control(world, control=control) as api:
        assert (await added(api, url="http://127.0.0.1:9000/"))["endpoint"]["url"] == "http://127.0.0.1:9000/"


async def test_samples_are_sent_and_what_came_back_is_told(world):
    answered = asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        answered.set()
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    control = control_of(world, usual=Usual(allow_http=True), egress=Policy(allow_private=True))
    async with server, serving_control(world, control=control) as api:
        end = (await added(api, url=f"http://127.0.0.1:{port}/"))["endpoint"]["id"]
        told = (await api.post(f"/v1/endpoints/{end}/test", {"types": ["approved"]})).json()
    assert answered.is_set()
    assert (told["ok"], told["tries"][0]["status"], told["tries"][0]["type"]) == (False, 401, "purchase_order.approved")
    assert "signature" in told["tries"][0]["advice"]


# Deliveries, replays, explanations


@pytest.fixture
async def sent(world):
    """Three events of two orders at one endpoint, the first delivered."""
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1", "p2", "p1"))
    heads = await world.heads(hook)
    await world.record(hook.lease, [attempt(heads[0], answer=Answer(status=204, excerpt=b"thanks"))])
    return heads[0]


async def test_deliveries_are_listed_shown_and_sent_again(api, sent):
    first = (await api.get("/v1/deliveries", params={"limit": 2})).json()
    rest = (await api.get("/v1/deliveries", params={"limit": 2, "after": first["next"]})).json()
    assert [each["remote_id"] for each in first["items"] + rest["items"]] == ["p1", "p2", "p1"]
    assert rest["next"] is None
    for query, count in (
        ({"state": "delivered"}, 1),
        ({"order": "p2"}, 1),
        ({"endpoint": "acme/hook"}, 3),
        ({"type": ["approved", "closed"]}, 0),
        ({"since": "2100-01-01T00:00:00Z"}, 0),
    ):
        assert len((await api.get("/v1/deliveries", params=query)).json()["items"]) == count, query
    shown = (await api.get(f"/v1/deliveries/{sent.id}")).json()
    assert [(each["status"], each["excerpt"]) for each in shown["attempts_made"]] == [(204, "thanks")]
    assert (await api.post(f"/v1/deliveries/{sent.id}/retry")).json()["state"] == "waiting"
    assert (await api.get("/v1/deliveries/dlv_none")).status_code == 404


async def test_what_waits_behind_another_is_not_sent_before_it(api, world, sent):
    await world.expire("connections", "con_acme_erp")
    erp = await world.claimed("connections", "con_acme_erp")
    await world.admissions.admit(await world.tell(erp, "p2"))
    last = (await api.get("/v1/deliveries", params={"order": "p2", "limit": 1})).json()["items"][0]
    refused = await api.post(f"/v1/deliveries/{last['id']}/retry")
    assert (refused.status_code, "waits behind" in refused.json()["detail"]) == (400, True)


async def test_a_replay_is_counted_started_paused_resumed_and_cancelled(api, sent):
    asked = {"endpoint": "hook", "order": "p1", "statuses": ["delivered"]}
    assert (await api.post("/v1/replays/count", asked)).json()["events"] == 1
    begun = await api.post("/v1/replays", asked)
    assert (begun.status_code, begun.json()["state"]) == (201, "running")
    path = f"/v1/replays/{begun.json()['id']}"
    assert (await api.post(f"{path}/pause")).json()["state"] == "paused"
    assert (await api.post(f"{path}/resume")).json()["state"] == "running"
    assert (await api.post(f"{path}/cancel")).json()["state"] == "cancelled"
    assert (await api.get(path)).json()["state"] == "cancelled"
    assert [each["id"] for each in (await api.get("/v1/replays", params={"endpoint": "hook"})).json()] == [
        begun.json()["id"]
    ]
    assert (await api.post("/v1/replays", {**asked, "order": "none"})).status_code == 404


async def test_an_order_is_explained(api, sent):
    told = (await api.get("/v1/explain", params={"order": "p2"})).json()
    assert (told["order"], told["connection"]["name"]) == ("p2", "erp")
    assert (await api.get("/v1/explain", params={"order": "none"})).status_code == 404
