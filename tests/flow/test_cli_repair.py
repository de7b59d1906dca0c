"""Seeing and sending again on the command line: explain, replay, and deliveries looked through."""

import asyncio
import base64
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from relay.domain.deliveries import Answer, Outcome
from relay.store.database import opened
from relay.store.replay import ReplayStore
from tests.fixtures.store import World, attempt

pytest_plugins = ["tests.fixtures.cli"]

SEEN = Answer(
    status=503,
    detail="busy",
    excerpt=b"<p>later</p>",
    address="93.184.215.14",
    resolve_seconds=0.002,
    answer_seconds=0.04,
)


@pytest.fixture
def told(relay, environment, database_url):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    return relay


@dataclass
class History:
    url: str

    def at(self, work):
        """Do something in the database."""

        async def working():
            async with opened(self.url) as database:
                return await work(World(database))

        return asyncio.run(working())


@pytest.fixture
def history(database_url):
    """Order A delivered twice, and B given up, at the endpoint hook."""

    async def made(world):
        erp, hook = await world.connection(), await world.endpoint()
        for remote_id in ("A", "A", "B"):
            await world.admissions.admit(await world.tell(erp, remote_id))
        while heads := await world.heads(hook):
            await world.record(
                hook.lease,
                [
                    attempt(head, Outcome.DEAD, answer=SEEN) if head.lane.endswith("B") else attempt(head)
                    for head in heads
                ],
            )

    (given := History(database_url)).at(made)
    return given


def test_explain_tells_on_one_screen_where_an_order_is(told, history):
    shown = told("explain", "B")
    assert (shown.code, shown.err) == (0, "")
    first, summary, *rest = shown.out.splitlines()
    assert first == "Order B of acme/erp"
    said = "Its last event, sequence 1 (updated), is with 0 of 1 endpoints; hook: given up "
    assert re.match(re.escape(said) + r"(just now|\d+ s ago)", summary)
    assert any(each.startswith("  -> hook  given up") for each in rest)
    assert len(shown.out.splitlines()) < 24
    assert "There are older events" not in shown.out
    assert "There are older events" in told("explain", "A", "--events", "1").out


def test_explain_as_json_has_every_step(told, history):
    found = told("explain", "A", "--connection", "erp", "--json").json
    assert [each["sequence"] for each in found["events"]] == [2, 1]
    assert [each["deliveries"][0]["state"] for each in found["events"]] == ["delivered", "delivered"]
    assert (found["connection"]["name"], found["snapshot"]["state"]) == ("erp", "unknown")
    assert told("explain", "nothing").code == 4


def test_a_replay_is_counted_first_and_asks_to_be_narrowed(told, history):
    assert told("replay", "start", "hook").code == 2
    counted = told("replay", "start", "hook", "--all", "--dry-run", "--json").json
    assert (counted["events"], counted["first"]["remote_id"], counted["last"]["remote_id"]) == (3, "A", "B")
    text = told("replay", "start", "hook", "--order", "A", "--dry-run").out
    assert text.startswith("2 events would be sent again to hook\nfirst  ")
    assert told("replay", "list").out == "no replays\n"


@pytest.mark.parametrize(
    ("narrowed", "events"),
    [
        (["--status", "dead"], 1),
        (["--status", "never"], 0),
        (["--type", "updated"], 3),
        (["--type", "approved"], 0),
        (["--connection", "erp"], 3),
        (["--since", "2026-02-01T00:00Z"], 3),
        (["--until", "2026-02-01T00:00Z"], 0),
        (["--since", "0s"], 0),
        (["--order", "B", "--status", "delivered"], 0),
    ],
)
def test_a_replay_is_narrowed_by_what_is_given(told, history, narrowed, events):
    assert told("replay", "start", "hook", *narrowed, "--dry-run", "--json").json["events"] == events


@pytest.mark.parametrize(
    ("narrowed", "code", "says"),
    [
        (["--order", "X"], 4, "acme has no order 'X'"),
        (["--connection", "nowhere"], 4, "there is no connection 'nowhere'"),
        (["--connection", "theirs"], 4, "acme has no connection 'theirs'"),
        (["--type", "exploded"], 2, "unknown event type"),
        (["--since", "yesterday"], 2, "is not a time"),
        (["--since", "2026-02-01T00:00Z", "--until", "2026-01-01T00:00Z"], 2, "`since` must be before `until`"),
        (["--all", "--per-second", "0"], 2, "events per second must be from 0.01 to 1000"),
    ],
)
def test_a_replay_that_cannot_be_is_refused_with_the_reason(told, history, narrowed, code, says):
    history.at(lambda world: world.connection("theirs", "umbrella"))
    refused = told("replay", "start", "hook", *narrowed)
    assert (refused.code, says in refused.err) == (code, True)


def test_two_orders_of_one_name_are_asked_back(told, history):
    async def another(world):
        await world.admissions.admit(await world.tell(await world.connection("second"), "A"))
        await world.sql("UPDATE deliveries SET state = 'delivered', due_at = NULL WHERE state = 'waiting'")

    history.at(another)
    refused = told("replay", "start", "hook", "--order", "A", "--dry-run")
    assert (refused.code, "several orders are called 'A'; say which, with --connection" in refused.err) == (2, True)
    assert (
        told("replay", "start", "hook", "--order", "A", "--connection", "second", "--dry-run", "--json").json["events"]
        == 1
    )


def test_a_disabled_endpoint_is_not_replayed_to(told, history):
    told("endpoints", "disable", "hook")
    refused = told("replay", "start", "hook", "--all")
    assert (refused.code, "hook is disabled, nothing is sent to it" in refused.err) == (2, True)


def test_a_replay_is_started_looked_at_paused_resumed_and_cancelled(told, history):
    begun = told("replay", "start", "hook", "--status", "dead", "--per-second", "5", "--json").json
    assert (begun["state"], begun["found"], begun["done"]) == ("running", 1, 0)
    assert begun["criteria"]["statuses"] == ["dead"]
    name = begun["id"]
    assert told("replay", "pause", name, "--json").json["state"] == "paused"
    assert told("replay", "resume", name, "--json").json["state"] == "running"
    assert f"{name}  hook" in told("replay", "list", "--endpoint", "hook").out
    assert "criteria        statuses=dead" in told("replay", "show", name).out
    ended = told("replay", "cancel", name, "--json").json
    assert (ended["state"], ended["ended_at"] is None) == ("cancelled", False)
    again = told("replay", "cancel", name, "--json")
    assert (again.code, again.error["message"]) == (2, f"replay {name} is cancelled already")
    assert told("replay", "show", "rpl_x").code == 4
    assert told("replay", "start", "hook", "--all").out.endswith("3 events to acme/hook\n")


def test_what_is_in_line_again_says_so(told, history):
    name = told("replay", "start", "hook", "--order", "B", "--json").json["id"]

    async def work(world):
        await world.expire("endpoints", "end_acme_hook")
        hook = await world.claimed("endpoints", "end_acme_hook", "another")
        store = ReplayStore(world.database)
        await store.bite(hook.lease, hook.subject, await store.look(hook.subject, 300), [], 100)

    history.at(work)
    assert "sent again by a replay: was not tried yet; next attempt now" in told("explain", "B").out
    assert told("replay", "show", name, "--json").json["waiting"] == 1


def test_deliveries_are_narrowed_by_type_and_time(told, history):
    def listed(*narrowed):
        return len(told("deliveries", "list", *narrowed, "--json").json)

    now = datetime.now(UTC)
    assert (listed("--type", "updated"), listed("--type", "approved")) == (3, 0)
    assert (listed("--since", "1h"), listed("--since", (now + timedelta(hours=1)).isoformat())) == (3, 0)
    assert (listed("--until", "1h"), listed("--until", (now + timedelta(hours=1)).isoformat())) == (0, 3)
    assert listed("--type", "updated", "--state", "dead", "--order", "B", "--endpoint", "hook") == 1
    assert told("deliveries", "list", "--type", "exploded").code == 2


def test_a_delivery_shows_the_phases_of_each_attempt_and_the_last_answer(told, history):
    (dead,) = told("deliveries", "list", "--state", "dead", "--json").json
    shown = told("deliveries", "show", dead["id"])
    assert "2 ms" in shown.out
    assert "40 ms" in shown.out
    assert "93.184.215.14" in shown.out
    assert "the last answer began: <p>later</p>" in shown.out
    (made,) = told("deliveries", "show", dead["id"], "--json").json["attempts_made"]
    assert made["address"] == "93.184.215.14"
    assert (made["resolve_seconds"], made["answer_seconds"]) == pytest.approx((0.002, 0.04))
