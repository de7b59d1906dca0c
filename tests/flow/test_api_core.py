"""The core of the control API: who may call, how often, what is noted, and that nothing is done twice."""

import asyncio
import re

import asyncpg
import httpx
import pytest
from fastapi import HTTPException
from pydantic import BaseModel

from relay.api import once, rates
from relay.api.app import application
from relay.api.callers import as_local
from relay.api.core import MOST_BYTES, CallNow, ConnectionPath, Core, needs
from relay.api.refusals import MOST
from relay.domain.callers import Scope
from relay.domain.errors import (
    AlreadyThere,
    CredentialsRefused,
    KeyTrouble,
    LeaseLost,
    NotFound,
    RecordRejected,
    Unavailable,
    UserError,
)
from relay.domain.tokens import TokenKind, digest_of, token_of
from relay.store.callers import CallerStore
from relay.store.idempotency import IdempotencyStore
from tests.fixtures.api import Api, control_of, new_key, serving_control

KEY = {"name": "ci", "scope": "read"}


async def connection_token(world, name="erp", customer="acme"):
    claimed = await world.connection(name, customer)
    token = token_of(TokenKind.CONNECTION, claimed.lease.subject.encode().ljust(32, b"-")[:32])
    await CallerStore(world.database).set_token(claimed.lease.subject, digest_of(token))
    return claimed.lease.subject, token


# Who calls


@pytest.mark.parametrize("scope", Scope)
async def test_an_operator_key_says_who_calls_and_how_much_it_may(api, scope):
    reply = await api.get("/v1/me", key=scope)
    assert reply.status_code == 200
    assert (reply.json()["kind"], reply.json()["name"], reply.json()["scope"]) == ("operator", scope, scope)


async def test_a_connections_token_is_its_connection(api):
    connection_id, token = await connection_token(api.world)
    me = (await api.get("/v1/me", key=token)).json()
    assert me == {
        "kind": "connection",
        "id": connection_id,
        "name": "acme/erp",
        "scope": "write",
        "customer": "acme",
        "connection": connection_id,
    }
    assert (await api.get("/v1/audit", key=token)).status_code == 404


@pytest.mark.parametrize("token", ["", "canary", "rlyk_" + "a" * 43, "rlyc_" + "a" * 43, "rlyp_" + "a" * 43])
async def test_without_a_good_token_nothing_is_told(api, token):
    reply = await api.get("/v1/me", key=token)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert not token or token not in reply.text


async def test_a_revoked_key_is_refused_from_the_next_call_on(api):
    made = (await api.post("/v1/operators", KEY)).json()
    assert (await api.get("/v1/me", key=made["key"])).status_code == 200
    revoked = await api.call("DELETE", f"/v1/operators/{made['operator']['id']}")
    assert (revoked.status_code, revoked.json()["revoked_at"] is not None) == (200, True)
    assert (await api.get("/v1/me", key=made["key"])).status_code == 401


@pytest.mark.parametrize(("scope", "status"), [("read", 403), ("write", 403), ("admin", 201)])
async def test_a_scope_that_is_too_small_is_refused_with_the_one_it_takes(api, scope, status):
    reply = await api.post("/v1/operators", KEY, key=scope)
    assert reply.status_code == status
    assert status == 201 or "scope `admin`" in reply.json()["detail"]


async def test_wrong_tokens_are_bounded_and_shut_out_nobody_whose_token_is_good(api):
    assert (await api.get("/v1/me")).status_code == 200
    statuses = [(await api.get("/v1/me", key="rlyk_" + "b" * 43)).status_code for _ in range(MOST + 1)]
    assert statuses == [401] * MOST + [429]
    late = await api.get("/v1/me", key="read")
    assert (late.status_code, int(late.headers["retry-after"]) > 0) == (429, True)
    assert (await api.get("/v1/me")).status_code == 200


async def test_the_local_socket_needs_no_token_and_a_token_there_is_still_a_token(api):
    transport = httpx.ASGITransport(as_local(application({}, None, api.core)))
    async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
        assert (await client.get("/v1/me")).json()["kind"] == "local"
        key = {"authorization": f"Bearer {api.keys['read']}"}
        assert (await client.get("/v1/me", headers=key)).json()["scope"] == "read"
        assert (await client.post("/v1/operators", json=KEY)).status_code == 201
    assert (await api.audited("caller_id", "address", "action", "status"))[-1] == (
        *("local", "127.0.0.1", "add_operator", 201),
    )


async def test_a_caller_that_calls_too_often_waits_and_others_do_not(world):
    async with serving_control(world, rate=0.5) as api:
        assert (await api.get("/v1/me")).status_code == 200
        fast = await api.get("/v1/me")
        assert (fast.status_code, fast.headers["retry-after"]) == (429, "2")
        assert (await api.get("/v1/me", key="read")).status_code == 200


def test_saved_up_calls_are_two_seconds_worth_and_a_refused_one_costs_nothing():
    now = [0.0]
    counted = rates.Rates(10, lambda: now[0])
    assert [counted.wait("a") for _ in range(21)] == [0] * 20 + [1]
    now[0] += 0.1
    assert [counted.wait("a") for _ in range(2)] == [0, 1]
    for each in range(rates.KEPT + 5):
        counted.wait(str(each))
    assert len(counted._buckets) == rates.KEPT


# Problems


class Wanted(BaseModel):
    text: str


ERRORS = {
    "not_found": (NotFound("no such thing"), 404),
    "already_there": (AlreadyThere("taken"), 409),
    "user_error": (UserError("wrong"), 400),
    "key_trouble": (KeyTrouble("missing"), 500),
    "credentials_refused": (CredentialsRefused("no. Check it"), 422),
    "record_rejected": (RecordRejected("junk"), 422),
    "unavailable": (Unavailable("RELAY_DATABASE__URL names nothing"), 503),
    "lease_lost": (LeaseLost("another"), 409),
}


@pytest.fixture
async def odd(world):
    """The API with routes that fail on purpose, and one that waits."""
    core = Core(control_of(world), world.database, rate=10_000)
    app, router = application({}, None, core), core.router("/v1/odd", "odd")
    gate, entered = asyncio.Event(), asyncio.Event()

    @router.get("/errors/{code}")
    async def fail(code: str) -> None:
        raise ERRORS[code][0]

    @router.post("/bugs")
    async def bug(wanted: Wanted) -> None:
        raise RuntimeError(f"canary {wanted.text}")

    @router.post("/refused")
    async def refuse() -> None:
        raise HTTPException(418, "no coffee")

    @router.post("/slow")
    async def slow() -> str:
        entered.set()
        await gate.wait()
        return "done"

    @router.post("/{connection_id}/touched")
    async def touch(connection_id: ConnectionPath, call: CallNow) -> str:
        call.about(connection_id)
        return connection_id

    @router.get("/mine", **needs(Scope.READ, narrowed=True))
    async def mine(call: CallNow) -> str | None:
        return call.caller.connection_id

    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://relay") as client:
        api = Api(world, client, core)
        api.gate, api.entered = gate, entered
        await api.begin()
        yield api


@pytest.mark.parametrize("code", ERRORS)
async def test_an_error_of_ours_is_a_problem_with_its_status_and_the_requests_id(odd, code):
    reply = await odd.get(f"/v1/odd/errors/{code}")
    told = reply.json()
    assert (reply.status_code, told["status"], told["code"]) == (ERRORS[code][1], ERRORS[code][1], code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert re.fullmatch(r"req_[0-9a-f]{24}", told["request_id"])
    assert reply.headers["request-id"] == told["request_id"]
    assert "RELAY_DATABASE__URL" not in reply.text


async def test_what_an_erp_says_to_a_first_look_is_the_askers_to_mend_whatever_it_is(odd):
    error = Unavailable("PostgreSQL is not meant. Check address and port")
    error.of_erp = True
    ERRORS["erp"] = error, 422
    reply = await odd.get("/v1/odd/errors/erp")
    assert (reply.status_code, reply.json()["code"]) == (422, "unavailable")
    assert "Check address" in reply.json()["detail"]


async def test_a_bug_is_answered_noted_and_never_tells_what_was_sent(odd, capsys):
    reply = await odd.post("/v1/odd/bugs", {"text": "secret-5d1f"})
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_server_error")
    assert (await odd.audited("action", "status"))[-1] == ("bug", 500)
    out, err = capsys.readouterr()
    assert "secret-5d1f" not in reply.text + out + err
    assert "request.failed" in out + err


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/odd/bugs", 405), ("/v1/odd/errors/%00", 400)])
async def test_what_is_not_there_is_a_problem_too(odd, path, status):
    reply = await odd.get(path)
    assert (reply.status_code, reply.json()["status"]) == (status, status)
    assert reply.headers["request-id"] == reply.json()["request_id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"text": 1}', 400),
        (b'{"text": "\\u0000"}', 400),
        (b'{"text": "\\ud800"}', 400),
        (b'{"text": "\xff"}', 400),
        (b'{"text": NaN}', 400),
        (b'"' + b"a" * MOST_BYTES + b'"', 413),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_before_anything_is_noted(odd, body, status):
    before = len(await odd.audited("action"))
    headers = {"content-type": "application/json"}
    reply = await odd.call("POST", "/v1/odd/bugs", content=body, headers=headers)
    assert reply.status_code == status
    noted = (await odd.audited("action", "status"))[before:]
    assert noted in ([], [("bug", 400)])


async def test_a_body_that_is_not_called_json_is_refused_with_the_header_it_takes(api):
    reply = await api.call("POST", "/v1/customers", content=b'{"id": "acme"}')
    assert (reply.status_code, "Content-Type: application/json" in reply.json()["detail"]) == (400, True)


async def test_a_body_without_a_length_is_bounded_too(odd):
    async def endless():
        while True:
            yield b"[" * 65536

    assert (await odd.call("POST", "/v1/odd/bugs", content=endless())).status_code == 413


async def test_a_connections_token_reaches_its_connection_and_what_is_narrowed_and_nothing_else(odd):
    connection_id, token = await connection_token(odd.world)
    other_id, _ = await connection_token(odd.world, "other")
    assert (await odd.get("/v1/odd/mine", key=token)).json() == connection_id
    assert (await odd.post(f"/v1/odd/{connection_id}/touched", key=token)).json() == connection_id
    for path in (f"/v1/odd/{other_id}/touched", "/v1/odd/con_nobody/touched", "/v1/odd/slow"):
        assert (await odd.post(path, key=token)).status_code == 404
    assert (await odd.post(f"/v1/odd/{connection_id}/touched", key="read")).status_code == 403


async def test_a_database_that_is_away_is_503_and_says_when_to_try_again(odd, monkeypatch):
    async def away(_token):
        raise Unavailable("PostgreSQL went away: RELAY_DATABASE__URL")

    monkeypatch.setattr(odd.core.callers, "caller", away)
    reply = await odd.get("/v1/odd/mine")
    assert (reply.status_code, reply.headers["retry-after"], "RELAY" in reply.text) == (503, "5", False)


# Audit


async def test_each_change_is_noted_with_who_what_where_and_how_it_ended(api):
    made = (await api.post("/v1/operators", KEY)).json()["operator"]
    await api.post("/v1/operators", KEY)
    reply = await api.call("DELETE", "/v1/operators/key_" + "0" * 24)
    noted = await api.audited("caller_kind", "caller_name", "address", "action", "subject", "status")
    who = ("operator", "admin", "127.0.0.1")
    assert noted == [
        (*who, "add_operator", made["id"], 201),
        (*who, "add_operator", None, 409),
        (*who, "revoke_operator", "key_" + "0" * 24, 404),
    ]
    assert (await api.audited("request_id"))[-1] == (reply.headers["request-id"],)


async def test_the_customer_of_a_connection_is_noted_also_for_operators(odd):
    connection_id, _ = await connection_token(odd.world)
    await odd.post(f"/v1/odd/{connection_id}/touched")
    assert (await odd.audited("subject", "customer_id"))[-1] == (connection_id, "acme")


async def test_a_change_is_noted_before_it_begins_so_that_none_goes_without(odd):
    doing = asyncio.create_task(odd.post("/v1/odd/slow"))
    await asyncio.wait_for(odd.entered.wait(), 30)
    assert await odd.audited("action", "status") == [("slow", None)]
    odd.gate.set()
    assert (await doing).status_code == 200
    assert await odd.audited("action", "status") == [("slow", 200)]


async def test_the_database_refuses_to_change_the_audit_log(api):
    await api.post("/v1/operators", KEY)
    for table in ("audit", "audit_outcomes"):
        for statement in (f"UPDATE {table} SET at = now()", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
                await api.world.sql(statement)


async def test_the_log_is_read_in_pages_and_by_subject_and_caller(api):
    made = [(await api.post("/v1/operators", {"name": f"k{n}", "scope": "read"})).json()["operator"] for n in range(5)]
    seen, after = [], {}
    while True:
        page = (await api.get("/v1/audit", params={"limit": 2, **after})).json()
        seen += [each["subject"] for each in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == [each["id"] for each in reversed(made)]
    one = (await api.get("/v1/audit", params={"subject": made[2]["id"]})).json()["items"]
    assert [(each["subject"], each["action"], each["status"]) for each in one] == [(made[2]["id"], "add_operator", 201)]
    assert (await api.get("/v1/audit", params={"caller": "nobody"})).json() == {"items": [], "next": None}
    wrong = await api.get("/v1/audit", params={"after": "canary"})
    assert (wrong.status_code, "canary" in wrong.text) == (400, False)


# Once


async def test_the_same_request_with_the_same_key_gets_the_same_answer_and_is_done_once(api):
    headers = {"idempotency-key": new_key()}
    first, second = [await api.post("/v1/operators", KEY, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert len(await api.audited("action")) == 1


async def test_another_request_with_the_same_key_is_refused(api):
    headers = {"idempotency-key": new_key()}
    await api.post("/v1/operators", KEY, headers=headers)
    reply = await api.post("/v1/operators", {**KEY, "name": "other"}, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_second_request_while_the_first_is_under_way_is_refused(odd):
    headers = {"idempotency-key": new_key()}
    doing = asyncio.create_task(odd.post("/v1/odd/slow", headers=headers))
    await asyncio.wait_for(odd.entered.wait(), 30)
    reply = await odd.post("/v1/odd/slow", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (409, "idempotency_key_in_use")
    odd.gate.set()
    assert (await doing).json() == (await odd.post("/v1/odd/slow", headers=headers)).json() == "done"


async def test_keys_of_one_caller_are_not_those_of_another(api):
    headers = {"idempotency-key": new_key()}
    other = (await api.post("/v1/operators", {"name": "other", "scope": "admin"})).json()["key"]
    first = await api.post("/v1/operators", KEY, headers=headers)
    second = await api.post("/v1/operators", KEY, headers=headers, key=other)
    assert (first.status_code, second.status_code) == (201, 409)


async def test_what_was_refused_may_be_tried_again_with_its_key(api):
    headers = {"idempotency-key": new_key()}
    live = (await api.post("/v1/operators", KEY)).json()["operator"]["id"]
    assert (await api.post("/v1/operators", KEY, headers=headers)).status_code == 409
    await api.call("DELETE", f"/v1/operators/{live}")
    assert (await api.post("/v1/operators", KEY, headers=headers)).status_code == 201


async def test_a_bug_leaves_the_key_free(odd):
    headers = {"idempotency-key": new_key()}
    for _ in range(2):
        assert (await odd.post("/v1/odd/bugs", {"text": "x"}, headers=headers)).status_code == 500
    assert await odd.world.one("SELECT count(*) FROM idempotency") == 0
    assert (await odd.post("/v1/odd/refused", headers=headers)).status_code == 418


@pytest.mark.parametrize("key", ["short", "a" * 201, "with a blank in it", "ã" * 20])
async def test_a_key_that_somebody_could_guess_is_refused(api, key):
    reply = await api.post("/v1/operators", KEY, headers={"idempotency-key": key.encode()})
    assert (reply.status_code, reply.json()["code"]) == (400, "idempotency_key_unreadable")


async def test_a_kept_answer_is_sealed_and_forgotten_after_a_day(api):
    headers = {"idempotency-key": new_key()}
    key = (await api.post("/v1/operators", KEY, headers=headers)).json()["key"]
    (row,) = await api.world.sql("SELECT * FROM idempotency")
    assert key.encode() not in row["answer"]
    assert headers["idempotency-key"] not in repr(row)
    store = IdempotencyStore(api.world.database)
    assert await store.forget() == 0
    await api.world.sql("UPDATE idempotency SET begun_at = now() - interval '25 hours'")
    assert (await api.post("/v1/operators", KEY, headers=headers)).status_code == 409, "it is a new request by now"
    await api.world.sql("INSERT INTO idempotency VALUES ('d', 'f', now() - interval '25 hours', 'a')")
    assert await store.forget() == 1


async def test_a_request_whose_process_died_can_be_made_again_later(api):
    headers = {"idempotency-key": new_key()}
    await api.post("/v1/operators", KEY, headers=headers)
    await api.world.sql("UPDATE idempotency SET answer = NULL, begun_at = now() - interval '4 minutes'")
    assert (await api.post("/v1/operators", KEY, headers=headers)).json()["code"] == "idempotency_key_in_use"
    await api.world.sql("UPDATE idempotency SET begun_at = now() - interval '6 minutes'")
    assert (await api.post("/v1/operators", KEY, headers=headers)).json()["code"] == "already_there"
    assert once.HEADER in headers
