"""The runners: one connection's or one endpoint's work from claimed to released, with real vault and real sender."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx
import orjson
import pytest
from pydantic import BaseModel, SecretStr
from structlog.testing import capture_logs

from relay.demo.receiver import receiver
from relay.domain.connections import ConnectionState, Lease
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.egress import Policy
from relay.domain.errors import CredentialsRefused, KeyTrouble, LeaseLost, Unavailable, UserError
from relay.domain.rotation import LiveSecret, written
from relay.domain.signing import new_secret, parse_secret, verifying_key
from relay.ports import Claimed, ConnectorKind, Pace
from relay.runners import ConnectionParts, ConnectionRunner, EndpointParts, EndpointRunner, utc_now
from relay.stages.carry import Times
from relay.stages.lease import KeepLeases
from relay.stages.poll import Patience
from relay.stages.publish import Destinations
from relay.stages.reconcile import Doubt
from relay.vault import Place, Purpose
from tests.fake_commands import Books, Desk, command
from tests.fakes import (
    LEASE,
    START,
    Broker,
    Erp,
    Leases,
    World,
    clock,
    connection,
    endpoint,
    order,
    page,
    run,
    running,
    until,
)
from tests.fixtures.vault import at_once, vault_of

VAULT = vault_of("k1")
CANARY = "canary-password"
SECRET = new_secret(b"7" * 32)
SEALABLE = written([LiveSecret(SECRET)])
PACE = Pace(per_second=100, burst=10, at_once=2)
ENDPOINT_LEASE = Lease("end_1", "worker-1", 1)


class Settings(BaseModel):
    pass


class Credentials(BaseModel):
    password: SecretStr


def sealed(secret, subject="con_1", purpose=Purpose.CREDENTIALS):
    return at_once(VAULT.seal(Place("acme", subject, purpose), secret))


def connection_runner(world, erp, broker=None, *, secret=None, vault=VAULT, desk=None, **values):
    def build(_settings, credentials, client, _mappings):
        assert isinstance(client, httpx.AsyncClient)
        erp.password = credentials.password.get_secret_value()
        return erp

    parts = ConnectionParts(
        kinds={"fake": ConnectorKind("fake", "Fake", Settings, Credentials, PACE, build)},
        vault=vault,
        orders=world,
        syncs=world,
        mappings=world,
        outbox=world,
        publisher=broker or Broker(),
        admissions=world,
        topics=Destinations("changes", "state", "dead", "results"),
        patience=Patience(timedelta(seconds=5), timedelta(minutes=15)),
        doubt=Doubt(2, 0.2),
        commands=desk or Desk(world),
        times=Times(timedelta(minutes=2), timedelta(seconds=15)),
        clock=clock,
        dice=lambda: 0.0,
    )
    subject = connection(
        synced=True,
        sealed=secret or sealed(orjson.dumps({"password": CANARY})),
        reconcile_due_at=START + timedelta(9),
        **values,
    )
    return ConnectionRunner(Claimed(LEASE, 1, subject), parts)


def test_it_polls_when_it_is_due_and_not_before():
    async def work():
        erp = Erp()
        runner = connection_runner(World(), erp, due_at=START + timedelta(seconds=40), poll_every=timedelta(seconds=10))
        async with running(runner.run()):
            await asyncio.sleep(39.9)
            assert erp.cursors == []
            await asyncio.sleep(30.2)
            assert len(erp.cursors) == 4
            runner.stop()
        assert erp.password == CANARY

    run(work())


def test_what_a_former_owner_left_in_the_outbox_is_published_at_once():
    async def work():
        world, broker = World(), Broker()
        runner = connection_runner(world, Erp([[page(order("1"))]]), broker)
        async with running(runner.run()):
            await until(lambda: broker.taken, 1)
            runner.stop()
        world.grow_stale()
        later = connection_runner(world, Erp(), broker, due_at=START + timedelta(1))
        async with running(later.run()):
            await until(lambda: len(broker.taken) == 4, 1)
            later.stop()

    run(work())


def test_commands_are_executed_told_with_what_they_caused_and_finished_at_the_end():
    async def work():
        desk, broker, books = Desk(), Broker(), Books()
        desk.give(command("create", 1))
        runner = connection_runner(desk.world, books, broker, desk=desk, cursor="c0")
        async with running(runner.run()):
            await until(lambda: len(broker.taken) == 3, 5)
            desk.give(command("create", 2))
            runner.ring()
            await until(lambda: books.steps["write"] == 2, 5)
            runner.stop()
        assert desk.outcomes() == ["applied", "applied"]
        assert desk.world.told() == ["created", "created"]

    run(work())


@pytest.mark.parametrize("state", [each for each in ConnectionState if each is not ConnectionState.ACTIVE])
def test_nothing_is_executed_while_the_connection_is_not_active(state):
    async def work():
        desk, books = Desk(), Books()
        desk.give(command("create"))
        runner = connection_runner(desk.world, books, desk=desk, state=state)
        async with running(runner.run()):
            await asyncio.sleep(600)
            runner.stop()
        assert (books.steps, len(desk.open)) == ({}, 1)

    run(work())


def test_a_login_that_is_refused_to_a_command_stops_everything_but_publishing():
    async def work():
        desk, broker, books = Desk(), Broker(), Books()
        books.faults["find"] = [CredentialsRefused("401")]
        desk.give(command("create", 1))
        runner = connection_runner(desk.world, books, broker, desk=desk, cursor="c0", due_at=START + timedelta(hours=1))
        async with running(runner.run()):
            await until(lambda: broker.taken, 5)
            desk.give(command("create", 2))
            runner.ring()
            await asyncio.sleep(7200)
            runner.stop()
        assert (desk.outcomes(), books.cursors, books.steps["find"]) == (["rejected"], [], 1)
        assert [each.state for each in desk.world.polled] == [ConnectionState.NEEDS_RECONNECT]

    run(work())


def test_a_ring_makes_it_look_at_the_outbox():
    async def work():
        world, broker = World(), Broker()
        runner = connection_runner(world, Erp([[page(order("1"))]]), broker)
        async with running(runner.run()):
            await until(lambda: broker.taken, 1)
            world.grow_stale()
            runner.ring()
            await until(lambda: len(broker.taken) == 4, 1)
            runner.stop()

    run(work())


def test_a_full_pass_follows_a_poll_that_went_well_when_it_is_due():
    async def work():
        world, erp = World(), Erp([[page(order("1"))], [Unavailable("away")]])
        runner = connection_runner(world, erp, poll_every=timedelta(seconds=10), reconcile_every=timedelta(seconds=15))
        subject = replace(runner.connection, reconcile_due_at=None)
        runner.claimed = Claimed(LEASE, 1, subject)
        async with running(runner.run()):
            await asyncio.sleep(9)
            assert len(world.reconciled) == 1
            await asyncio.sleep(50)
            assert len(world.reconciled) == 4
            assert world.told() == ["created", "deleted"]
            runner.stop()

    run(work())


def test_a_broker_that_is_away_delays_the_outbox_and_ends_nothing():
    async def work():
        away = Unavailable("no broker answers")
        world, broker = World(), Broker(breaks=[(0, away)] * 3)
        runner = connection_runner(world, Erp([[page(order("1"))]]), broker)
        with capture_logs() as logs:
            async with running(runner.run()):
                await until(lambda: len(broker.taken) == 2, 5)
                runner.stop()
        assert [line["event"] for line in logs].count("outbox.waits") == 3

    run(work())


def test_refused_credentials_end_the_polling_and_not_the_publishing():
    async def work():
        world, broker = World(), Broker(breaks=[(0, Unavailable("away"))])
        erp = Erp([[page(order("1")), CredentialsRefused("401")]])
        runner = connection_runner(world, erp, broker)
        async with running(runner.run()) as task:
            await until(lambda: broker.taken, 2)
            assert len(erp.cursors) == 1
            runner.stop()
            await asyncio.wait([task], timeout=1)
            assert task.done()

    run(work())


def test_a_paused_connection_is_not_polled_and_what_was_read_before_is_published():
    async def work():
        world, broker = World(), Broker()
        before = connection_runner(world, Erp([[page(order("1"))]]), broker)
        async with running(before.run()):
            await until(lambda: broker.taken, 1)
            before.stop()
        world.grow_stale()
        erp = Erp([[page(order("2"))]])
        paused = connection_runner(world, erp, broker, state=ConnectionState.PAUSED)
        async with running(paused.run()):
            await until(lambda: len(broker.taken) == 4, 1)
            assert erp.cursors == []
            paused.stop()

    run(work())


def test_stop_ends_in_time_while_the_erp_hangs():
    async def work():
        world, broker = World(), Broker()
        runner = connection_runner(world, Erp([[page(order("1")), asyncio.Event()]]), broker)
        async with running(runner.run()) as task:
            await until(lambda: broker.taken, 1)
            runner.stop()
            await asyncio.wait([task], timeout=1)
            assert task.done()
        assert world.polled == []

    run(work())


@pytest.mark.parametrize("trouble", ["lost", "away"])
def test_a_lost_lease_or_store_ends_polling_and_publishing(trouble):
    world = World(**{trouble: True})
    with pytest.raises(ExceptionGroup) as raised:
        run(connection_runner(world, Erp([[page(order("1"))]])).run())
    assert raised.group_contains(LeaseLost if trouble == "lost" else Unavailable)


def test_credentials_of_another_place_do_not_open():
    stolen = sealed(b"{}", subject="con_2")
    with pytest.raises(KeyTrouble):
        run(connection_runner(World(), Erp(), secret=stolen).run())


def test_credentials_that_no_longer_fit_name_the_field_and_not_its_value():
    world = World()
    runner = connection_runner(world, Erp(), secret=sealed(orjson.dumps({"token": CANARY})))
    with pytest.raises(UserError, match="password") as raised:
        run(runner.run())
    assert CANARY not in str(raised.value)
    assert [each.problem for each in world.polled] == [str(raised.value)]


def test_a_connector_that_this_version_does_not_have_is_named():
    runner = connection_runner(World(), Erp())
    runner.claimed = Claimed(LEASE, 1, replace(runner.connection, connector="sap"))
    with pytest.raises(UserError, match="'sap'"):
        run(runner.run())


def test_key_trouble_is_one_clear_line_of_the_log():
    async def work():
        store = Leases()
        store.add("con_1")

        def start(_claimed):
            return connection_runner(World(), Erp(), vault=vault_of("k7", keys=VAULT.keys))

        keeper = KeepLeases("connections", "w", store, start, 15.0, 1.0, 20.0)
        with capture_logs() as logs:
            async with running(keeper.run()):
                await until(lambda: any(line["event"] == "runner.ended" for line in logs), 10)
                keeper.stop()
        [line] = [line for line in logs if line["event"] == "runner.ended"]
        assert "the master key `k1` is missing (there: k7)" in line["problem"]
        assert "exc_info" not in line

    run(work())


def endpoint_runner(world, url, secrets=SEALABLE, **values):
    subject = replace(endpoint(**values), url=url, sealed=sealed(secrets, "end_1", Purpose.SIGNING_SECRET))
    parts = EndpointParts(VAULT, world, timedelta(seconds=2), Policy(allow_private=True))
    return EndpointRunner(Claimed(ENDPOINT_LEASE, 1, subject), parts)


async def delivered(world):
    async with asyncio.timeout(20):
        while world.waiting():  # noqa: ASYNC110 - the sender rings no bell
            await asyncio.sleep(0.01)


async def test_an_endpoint_runner_delivers_what_a_receiver_verifies_and_is_rung_for():
    world, body = World(), b'{"type":"t","data":{"order_id":"po_1","sequence":1}}'
    async with receiver([parse_secret(SECRET)]) as hook:
        runner = endpoint_runner(
            world, hook.url, secrets=written([LiveSecret(SECRET), LiveSecret(new_secret(b"8" * 32))])
        )
        runner.ring()
        async with running(runner.run()):
            world.put("end_1", "a", body=body)
            await delivered(world)
            world.put("end_1", "a", body=body)
            runner.ring()
            await delivered(world)
            runner.stop()
        assert (hook.tally.refused, len(world.attempts)) == (0, 2)


async def test_an_endpoint_runner_signs_with_an_old_secret_beside_the_new_one_until_it_ends():
    world, body, now = World(), b'{"type":"t","data":{"order_id":"po_1","sequence":1}}', [utc_now()]
    new, until = new_private_key(b"8" * 32), int(now[0].timestamp()) + 60
    secrets = written([LiveSecret(new), LiveSecret(SECRET, until=until)])
    async with receiver([parse_secret(SECRET)]) as old_hook, receiver([verifying_key(public_key(new))]) as new_hook:
        for hook, moved, unverified in ((old_hook, 0, 0), (new_hook, 0, 0), (new_hook, 60, 0), (old_hook, 0, 1)):
            now[0] += timedelta(seconds=moved)
            runner = endpoint_runner(world, hook.url, secrets=secrets)
            runner.parts = replace(runner.parts, clock=lambda: now[0])
            async with running(runner.run()):
                world.put("end_1", "a", body=body)
                runner.ring()
                assert (await asyncio.wait_for(hook.received.get(), 20)).verified is not bool(unverified)
                runner.stop()
            assert hook.tally.unverified == unverified


async def test_an_endpoint_runner_that_is_stopped_before_it_began_sends_nothing():
    world = World()
    world.put("end_1", "a")
    runner = endpoint_runner(world, "http://127.0.0.1:9/")
    runner.stop()
    await runner.run()
    assert world.calls["heads"] == 0


async def test_an_endpoint_runner_with_a_spoiled_secret_ends_and_shows_none_of_it():
    world = World()
    with pytest.raises(UserError) as raised:
        await endpoint_runner(world, "http://127.0.0.1:9/", secrets=CANARY.encode()).run()
    assert CANARY not in str(raised.value)
    assert world.problems == [str(raised.value)]


async def test_an_endpoint_runner_that_is_cancelled_ends_at_once_and_lets_go_of_its_connections():
    asked, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader, writer):
        await reader.readline()
        asked.set()
        while await reader.read(65536):
            pass
        closed.set()
        writer.close()

    world = World()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        world.put("end_1", "a")
        url, deadline = f"http://127.0.0.1:{port}/", timedelta(hours=1)
        task = asyncio.create_task(endpoint_runner(world, url, deadline=deadline).run())
        async with asyncio.timeout(20):
            await asked.wait()
            task.cancel()
            await asyncio.wait([task])
            await closed.wait()
    assert task.cancelled()
    assert world.attempts == []
