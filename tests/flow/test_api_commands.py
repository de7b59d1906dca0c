"""Commands over the control API: by an operator's key, and by a connection's own token."""

import asyncio

import orjson
import pytest

from relay.domain.commands import command_key
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.results import Outcome, Refusal, RefusalReason, ResultData, result_of
from relay.domain.tokens import TokenKind, digest_of, token_of
from relay.ports import Ended, OutboxEntry
from relay.store.callers import CallerStore
from relay.store.command_admission import CommandIntake
from relay.store.commands import CommandStore
from tests.fixtures.store import NOW
from tests.flow.test_bad_input import seen_when
from tests.flow.test_store_commands import new

ERP = "con_acme_erp"


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
async def token(world, erp):
    made = token_of(TokenKind.CONNECTION, b"t" * 32)
    await CallerStore(world.database).set_token(erp.lease.subject, digest_of(made))
    return made


@pytest.fixture
def intake(world):
    return CommandIntake(world.database)


def told(command, outcome, **values) -> OutboxEntry:
    data = ResultData(
        id=command.id,
        command_id=command.command_id,
        type="cancel",
        customer_id="acme",
        connection_id=command.connection_id,
        outcome=outcome,
        **values,
    )
    body = result_of(data, NOW).model_dump_json().encode()
    return OutboxEntry(
        f"res_{command.id}", "command-results", command.id, 2, f"purchase_order.command_{outcome}", NOW, body
    )


def cancel(command_id="c1", remote_id="p1", **more):
    return {"type": "cancel", "command_id": command_id, "connection_id": ERP, "remote_id": remote_id, **more}


async def test_a_command_is_kept_before_its_sender_is_told_and_the_same_again_is_the_same(api, world, erp, token):
    sent = await api.post("/v1/commands", cancel(), key=token)
    assert (sent.status_code, sent.json()["outcome"], sent.json()["state"]) == (202, "accepted", "waiting")
    assert sent.json()["id"] == command_key(ERP, "c1")
    assert (sent.json()["source"], sent.json()["command"]) == ("api", cancel())
    again = await api.post("/v1/commands", dict(reversed(cancel().items())), key="write")
    assert (again.status_code, again.json()["id"]) == (202, sent.json()["id"])
    assert await world.one("SELECT count(*) FROM commands") == 1
    assert await world.one("SELECT count(*) FROM outbox WHERE stream = 'command-results'") == 1
    assert ("send_command", sent.json()["id"], "acme", 202) in await api.audited(
        "action", "subject", "customer_id", "status"
    )


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"remote_id": None}, (400, "invalid_command", "remote_id")),
        ({"type": "explode"}, (400, "invalid_command", "type")),
        ({"command_id": "with blank"}, (400, "invalid_command", "command_id")),
        ({"connection_id": 7}, (400, "invalid_command", "connection_id")),
        ({"surprise": "canary"}, (400, "invalid_command", "surprise")),
        ({"connection_id": "con_none"}, (404, "not_found", None)),
        ({"connection_id": "con_acme_other"}, (404, "not_found", None)),
        ({"reason": "canary" * 50_000}, (413, "too_large", None)),
    ],
)
async def test_a_command_that_cannot_be_used_is_refused_by_field_and_nothing_is_kept(
    api, world, token, change, refusal
):
    await world.connection("other")
    refused = await api.post("/v1/commands", cancel() | change, key=token)
    told = refused.json()
    assert (refused.status_code, told["code"], told.get("field")) == refusal
    assert "canary" not in refused.text
    assert await world.one("SELECT count(*) FROM commands") == 0


async def test_who_may_not_write_sends_no_commands_and_an_id_is_taken_once(api, erp):
    assert (await api.post("/v1/commands", cancel(), key="read")).status_code == 403
    assert (await api.post("/v1/commands", cancel(), key="write")).status_code == 202
    other = await api.post("/v1/commands", cancel(remote_id="p2"), key="write")
    assert (other.status_code, other.json()["code"]) == (409, "already_there")
    assert "c1" in other.json()["detail"]
    for wait in ("61s", "5", "-1s"):
        assert (await api.post("/v1/commands", cancel("c2"), params={"wait": wait})).status_code == 400


async def test_amounts_keep_their_digits_as_numbers_and_as_text(api, world, erp):
    body = cancel() | {"type": "update_lines", "lines": [{"remote_id": "1", "quantity": "@"}]}
    for number, amount in enumerate(("1.10", '"1.10"')):
        content = orjson.dumps(body | {"command_id": f"c{number}"}).replace(b'"@"', amount.encode())
        sent = await api.call("POST", "/v1/commands", content=content, headers={"content-type": "application/json"})
        assert sent.json()["command"]["lines"] == [{"remote_id": "1", "quantity": "1.10"}]


async def test_a_sender_who_waits_is_answered_when_the_command_is_over(api, world, erp):
    sending = asyncio.create_task(api.post("/v1/commands", cancel(), params={"wait": "60s"}))
    commands = CommandStore(world.database)
    (head,) = await seen_when(lambda: commands.heads(ERP, 1), bool)
    command = new(erp, "c1")
    await commands.save_ended(
        erp.lease, erp.subject, Ended(head.id, "applied", [told(command, Outcome.APPLIED, attempts=1)])
    )
    answer = await sending
    assert (answer.status_code, answer.json()["outcome"]) == (200, "applied")
    assert answer.json()["result"]["data"]["attempts"] == 1
    again = await api.post("/v1/commands", cancel())
    assert (again.status_code, again.json()["outcome"]) == (200, "applied")
    short = await api.post("/v1/commands", cancel("c2"), params={"wait": "1s"})
    assert (short.status_code, short.json()["outcome"]) == (202, "accepted")


async def test_a_command_for_a_connection_that_needs_other_credentials_is_over_at_once(api, world, erp):
    await world.sql("UPDATE connections SET state = 'needs_reconnect'")
    sent = await api.post("/v1/commands", cancel())
    assert (sent.status_code, sent.json()["outcome"]) == (200, "rejected")
    assert sent.json()["result"]["data"]["refusals"][0]["reason"] == "auth_required"


async def test_commands_are_listed_page_by_page_and_a_token_sees_its_own(api, world, erp, token, intake):
    other = await world.connection("other")
    await intake.keep([new(erp, f"c{number}", f"p{number % 2}") for number in range(5)])
    await intake.keep([new(other, "secret", source="api")])
    seen, after = [], {}
    while after is not None:
        page = (await api.get("/v1/commands", key=token, params={"limit": 2, **after})).json()
        seen += [each["command_id"] for each in page["items"]]
        after = page["next"] and {"after": page["next"]}
    assert seen == ["c4", "c3", "c2", "c1", "c0"]

    async def ids(key="read", **params):
        reply = await api.get("/v1/commands", key=key, params=params)
        assert reply.status_code == 200, reply.text
        return [each["command_id"] for each in reply.json()["items"]]

    assert await ids(limit=2) == ["secret", "c4"]
    assert await ids(connection="con_acme_other") == ["secret"]
    assert await ids(connection=ERP, remote_id="p1", state="waiting") == ["c3", "c1"]
    assert await ids(connection=ERP, command_id="c2") == ["c2"]
    assert await ids(connection=ERP, command_id="secret") == []
    assert (await ids(outcome="accepted"))[0] == "secret"
    assert await ids(state="done") == []
    for key, params, status in (
        (token, {"connection": "con_acme_other"}, 404),
        ("read", {"command_id": "c2"}, 400),
        ("read", {"remote_id": "p1"}, 400),
        ("read", {"state": "lost"}, 400),
        ("read", {"after": "x"}, 400),
    ):
        assert (await api.get("/v1/commands", key=key, params=params)).status_code == status
    hidden = command_key("con_acme_other", "secret")
    assert (await api.get(f"/v1/commands/{hidden}", key=token)).status_code == 404
    assert (await api.get(f"/v1/commands/{hidden}", key="read")).json()["source"] == "api"


async def test_a_command_tells_what_it_waits_for(api, world, erp, intake):
    first, second = new(erp, "c1", "p1"), new(erp, "c2", "p1")
    await intake.keep([first, second])
    commands = CommandStore(world.database)

    async def waits(command):
        seen = (await api.get(f"/v1/commands/{command.id}")).json()
        return seen["state"], seen["waits_for"], seen["why"]

    assert await waits(first) == ("waiting", "its turn", None)
    assert await waits(second) == ("waiting", "an earlier command for the same order", None)
    await commands.save_sending(erp.lease, first.id, NOW, None)
    assert await waits(first) == ("sending", "word from the ERP whether it was done", None)
    later = await world.one("SELECT now() + interval '1 hour'")
    await commands.save_waiting(erp.lease, first.id, later, "upstream_down: no answer", doubt=False)
    assert await waits(first) == ("waiting", "its next try", "upstream_down: no answer")
    await world.sql("UPDATE connections SET state = 'needs_reconnect'")
    assert await waits(second) == ("waiting", "its connection, which is needs reconnect", None)


async def test_a_command_that_is_over_shows_what_was_asked_and_its_result(api, world, erp, intake):
    command = new(erp, "c1", "p1")
    await intake.keep([command])
    refusal = Refusal(reason=RefusalReason.WORKFLOW_STATE, message="it is received", field="type", fix="close it")
    entry = told(command, Outcome.REJECTED, refusals=(refusal,), said="PEDIDO ENCERRADO")
    await CommandStore(world.database).save_ended(erp.lease, erp.subject, Ended(command.id, "rejected", [entry]))
    seen = (await api.get(f"/v1/commands/{command.id}")).json()
    assert (seen["state"], seen["outcome"], seen["waits_for"]) == ("done", "rejected", None)
    assert seen["why"] == "workflow_state: it is received"
    assert seen["command"] == {"type": "cancel", "command_id": "c1", "connection_id": ERP, "remote_id": "p1"}
    assert seen["result"]["type"] == "purchase_order.command_rejected"
    assert seen["result"]["data"]["said"] == "PEDIDO ENCERRADO"
    (listed,) = (await api.get("/v1/commands", params={"outcome": "rejected"})).json()["items"]
    assert (listed["why"], listed["command"], listed["result"]) == (seen["why"], None, None)
    assert (await api.get("/v1/commands/cmd_x")).status_code == 400
    assert (await api.get(f"/v1/commands/cmd_{'0' * 32}")).json()["code"] == "not_found"


async def test_an_operator_says_whose_signature_commands_need(api, world, erp, token):
    path = f"/v1/connections/{ERP}/command-key"
    public = public_key(new_private_key(b"k" * 32))
    assert (await api.get(path)).json()["public_key"] is None
    put = await api.call("PUT", path, json={"public_key": public}, key="write")
    assert (put.status_code, put.json()["public_key"]) == (200, public)
    standing = (await CommandIntake(world.database).standings([ERP]))[ERP]
    assert standing.command_key == public
    for wrong in (new_private_key(b"k" * 32), "whpk_x", ""):
        refused = await api.call("PUT", path, json={"public_key": wrong})
        assert refused.status_code == 400
        assert not wrong or wrong not in refused.text
    assert (await api.get(path, key=token)).status_code == 404
    assert (await api.call("PUT", path, json={"public_key": public}, key="read")).status_code == 403
    assert (await api.call("DELETE", path, key="write")).json()["public_key"] is None
    assert (await api.get("/v1/connections/con_none/command-key")).status_code == 404
