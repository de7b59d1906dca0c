"""Commands over the control API: by an operator's key, and by a connection's own token."""

import pytest

from relay.domain.commands import command_key
from relay.domain.results import Outcome, Refusal, RefusalReason, ResultData, result_of
from relay.domain.tokens import TokenKind, digest_of, token_of
from relay.ports import Ended, OutboxEntry
from relay.store.callers import CallerStore
from relay.store.command_admission import CommandIntake
from relay.store.commands import CommandStore
from tests.fixtures.store import NOW
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
