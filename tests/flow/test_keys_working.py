"""Keys while workers work, as people do it: from the command line, killed in the middle, with a KMS that comes late."""

import asyncio
import base64
import os
import signal

import orjson
import pytest

from relay.control import KeyCare
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.vault import Keyring, MasterKeys, Place, Purpose, Vault
from relay.vault.vault import sealed_with
from tests.fixtures.line import RELAY, eventually, known_as
from tests.fixtures.transit import transit

pytestmark = pytest.mark.timeout(180)

TEST, NEW = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345", b"9" * 32
"""The first is the key of `tests.fixtures.line`."""


class KeyFile:
    """A file with master keys, written as people write it: another one takes its place."""

    def __init__(self, folder):
        self.path = folder / "master.key"

    def hold(self, **keys):
        draft = self.path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text("\n".join(f"{name}:{base64.b64encode(key).decode()}" for name, key in keys.items()))
        draft.replace(self.path)

    @property
    def settings(self):
        return {"RELAY_VAULT__MASTER_KEY": "", "RELAY_VAULT__MASTER_KEY_FILE": str(self.path)}


@pytest.fixture
def keys(tmp_path):
    file = KeyFile(tmp_path)
    file.hold(test=TEST)
    return file


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(5)
        yield running


async def started(environment, *arguments):
    return await asyncio.create_subprocess_exec(
        RELAY, "keys", *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def said(environment, *arguments):
    """(exit code, standard output, standard error) of `relay keys ...`."""
    process = await started(environment, *arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def begun_anew(control):
    """Every runner begins again, with what is stored now."""
    await control.pause_connection("erp")
    await control.resume_connection("erp")
    await control.disable_endpoint("hook")
    await control.enable_endpoint("hook")


async def test_both_kinds_of_keys_are_rotated_under_a_worker_that_goes_on(line, erp, keys):
    connection = await line.protheus(erp)
    environment = {**line.environment, **keys.settings}
    async with line.receiver() as hook:
        worker = await line.worker(**keys.settings)
        await line.synced(connection)

        async def told(order):
            await eventually(lambda: hook.tally.latest.get(known_as(connection, order)) == 1, "a change is told")

        keys.hold(new=NEW, test=TEST)
        for arguments in (("rotate",), ("rotate", "--data-keys"), ("check",)):
            code, out, err = await said(environment, *arguments)
            assert (code, "of 1" in err) == (0, True), (out, err)
        await told(erp.create_order([NewLine("PAR-M8-30", 1, 1.25)]))
        keys.hold(new=NEW)
        await begun_anew(line.control)
        await told(erp.create_order([NewLine("PAR-M8-30", 2, 1.25)]))
        code, out, _ = await said(environment, "show", "--json")
        [master] = orjson.loads(out)["masters"]
        assert (code, master["id"], master["data_keys"]) == (0, "new", 1)
        assert not worker.said("runner.ended")
        assert not worker.said("runner.died")
        assert (hook.tally.out_of_order, hook.tally.refused) == (0, 0)


async def test_a_customer_with_a_damaged_key_harms_nobody_else_and_sees_why(line, erp, keys):
    connection = await line.protheus(erp)
    login = {"username": erp.username, "password": "canary-password"}
    settings = {"url": erp.url, "tenant": erp.tenant}
    await line.control.add_connection(
        customer="umbrella", kind="protheus", name="theirs", settings=settings, credentials=login, check=False
    )
    async with line.registry.database.session() as session:
        await session.execute("UPDATE customer_keys SET wrapped = 'gone' WHERE customer_id = 'umbrella'")
    async with line.receiver() as hook:
        worker = await line.worker()
        await eventually(lambda: worker.said("runner.ended"), "the damage is told")
        await line.synced(connection)
        order = erp.create_order([NewLine("PAR-M8-30", 1, 1.25)])
        await eventually(lambda: hook.tally.latest.get(known_as(connection, order)) == 1, "the other one goes on")
    theirs = await line.control.connection("theirs")
    assert "the data key of customer `umbrella` is damaged" in theirs.problem
    assert {each["subject"] for each in worker.said("runner.ended")} == {theirs.id}
    assert b"canary" not in worker.path.read_bytes()


async def test_master_keys_that_are_missing_are_told_at_the_start_with_their_customers(line, keys):
    await line.vault.seal(Place("acme", "con_x", Purpose.CREDENTIALS), b"x")
    keys.hold(new=NEW)
    worker = await line.worker(**keys.settings)
    await eventually(lambda: worker.said("keys.missing"), "it is told")
    [told] = worker.said("keys.missing")
    assert (told["master_key"], told["customers"], told["count"]) == ("test", ["acme"], 1)


async def test_a_kms_that_does_not_answer_is_waited_for_and_is_nobodys_problem(line, erp, tmp_path):
    async with transit() as kms:
        token = tmp_path / "token"
        token.write_text(kms.token)
        settings = {"RELAY_VAULT__KMS_URL": kms.url, "RELAY_VAULT__KMS_TOKEN_FILE": str(token)}
        connection = await line.protheus(erp)
        async with line.receiver() as hook:
            code, out, err = await said({**line.environment, **settings}, "rotate")
            assert (code, out.split()[0]) == (0, "1"), err
            kms.answers(503, "Vault is sealed")
            worker = await line.worker(**settings)
            await eventually(lambda: worker.said("vault.waits"), "it waits")
            seen = await line.control.connection("erp")
            assert (seen.state, seen.problem) == ("active", None)
            kms.works()
            await line.synced(connection)
            order = erp.create_order([NewLine("PAR-M8-30", 1, 1.25)])
            await eventually(lambda: hook.tally.latest.get(known_as(connection, order)) == 1, "it goes on")
        assert "Vault is sealed" in worker.said("vault.waits")[0]["problem"]
        assert not worker.said("runner.ended")
        assert kms.token.encode() not in worker.path.read_bytes()
        assert await worker.stop() == 0


# Killed


@pytest.fixture
def installation(database_url, keys, tmp_path):
    """The environment of commands on a database of their own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RELAY_DATABASE__URL": database_url,
        "RELAY_VAULT__MASTER_KEY_FILE": str(keys.path),
    }


async def many(world, count):
    """So many customers with a connection each; every secret says whose it is."""
    vault = Vault(MasterKeys.of(Keyring("test", {"test": TEST})), world.keys)
    data_keys = await vault.new_keys([(f"c{number:05}", 1) for number in range(count)])
    rows = []
    for key in data_keys:
        subject = f"con_{key.customer_id}"
        place = Place(key.customer_id, subject, Purpose.CREDENTIALS)
        secret = f"canary of {subject}".encode()
        rows.append((subject, key.customer_id, sealed_with(await vault.masters.unwrap(key), 1, place, secret)))
    async with world.database.session() as session:
        await session.executemany("INSERT INTO customers (id) VALUES ($1)", [(key.customer_id,) for key in data_keys])
        await world.keys.add(data_keys)
        await session.executemany(
            "INSERT INTO connections (id, customer_id, name, connector, settings, sealed, poll_every, reconcile_every)"
            " VALUES ($1, $2, 'erp', 'protheus', '{}', $3, '1 min', '1 h')",
            rows,
        )


async def opened(world, **keys):
    vault = Vault(MasterKeys.of(Keyring(next(iter(keys)), keys)), world.keys)
    for value in await world.keys.sealed.page("credentials", "", 100_000):
        place = Place(value.customer_id, value.subject, Purpose.CREDENTIALS)
        assert await vault.open(place, value.sealed) == f"canary of {value.subject}".encode()
    return True


async def killed_while_it_waits_for(world, row, environment, *arguments):
    """Kill -9 in the middle: the rotation waits for a row that is held, and never gets it."""
    async with world.database.session() as session, session.transaction():
        await session.execute(row)
        process = await started(environment, *arguments)
        await others(world, "AND wait_event_type = 'Lock'", 1)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    await others(world, "AND state <> 'idle'", 0)


async def others(world, like, count):
    """Wait until so many connections of others are like this."""
    here = "datname = current_database() AND pid <> pg_backend_pid()"
    found = f"SELECT count(*) FROM pg_stat_activity WHERE {here} {like}"
    async with asyncio.timeout(60):
        while await world.one(found) != count:  # noqa: ASYNC110 - it watches another process
            await asyncio.sleep(0.02)


async def test_a_rotation_of_data_keys_that_was_killed_goes_on_where_it_was(world, installation):
    await many(world, 1100)
    held = "SELECT 1 FROM connections WHERE id = 'con_c00777' FOR UPDATE"
    await killed_while_it_waits_for(world, held, installation, "rotate", "--data-keys")
    began = await world.keys.under_way()
    assert await world.keys.done(began) == 500
    assert await world.one("SELECT count(*) FROM customer_keys WHERE version = 2") == 1000
    assert await opened(world, test=TEST), "old and new live side by side"
    code, out, err = await said(installation, "show")
    assert (code, "rotation of all data keys is not done" in out) == (0, True), err
    code, out, err = await said(installation, "rotate", "--data-keys")
    assert (code, out.splitlines()[0]) == (0, "600 customers have a new data key; 600 values were sealed anew"), err
    assert "customers with a new data key: 500 of 1100" in err
    assert await world.one("SELECT count(*) FROM customer_keys WHERE version = 2") == 1100
    assert await world.one("SELECT count(*) FROM customer_keys") == 1100
    assert await world.keys.under_way() is None
    assert await opened(world, test=TEST)


async def test_a_rotation_of_master_keys_that_was_killed_goes_on_where_it_was(world, installation, keys):
    await many(world, 1200)
    keys.hold(new=NEW, test=TEST)
    held = "SELECT 1 FROM customer_keys WHERE customer_id = 'c00777' FOR UPDATE"
    await killed_while_it_waits_for(world, held, installation, "rotate")
    masters = MasterKeys.of(Keyring("new", {"new": NEW, "test": TEST}))
    shown = await KeyCare(world.keys, lambda: Vault(masters, world.keys)).show()
    left = {each.id: each.data_keys for each in shown.masters}["test"]
    assert left in {200, 700}, "each bite is whole or not at all"
    noted = await world.sql("SELECT caller_id, action, subject FROM audit")
    assert [tuple(row) for row in noted] == [("local", "rotate_keys", "master_keys")]
    assert await world.one("SELECT count(*) FROM audit_outcomes") == 0, "it broke off"
    code, out, err = await said(installation, "rotate")
    assert (code, out.splitlines()[0]) == (0, f"{left} data keys were wrapped by the current master key"), err
    assert await opened(world, new=NEW)
    keys.hold(new=NEW)
    assert (await said(installation, "check"))[:2] == (0, "1200 data keys and 1200 sealed values were opened\n")


async def test_what_does_not_open_ends_the_command_with_1_and_is_told_in_plain_words(world, installation, keys):
    await many(world, 3)
    await world.sql(
        "UPDATE connections SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE id = 'con_c00001'"
    )
    await world.sql("UPDATE customer_keys SET wrapped = 'gone' WHERE customer_id = 'c00002'")
    code, out, _ = await said(installation, "check")
    assert code == 1
    assert "c00002: data key 1: the data key of customer `c00002` is damaged" in out
    assert "(1 values are sealed with it)" in out
    assert "c00001: credentials of con_c00001: it was changed, cut, moved from another row" in out
    code, out, _ = await said(installation, "rotate", "--data-keys", "--json")
    assert (code, orjson.loads(out)["done"]) == (1, 1)
    code, out, _ = await said(installation, "rotate", "--data-keys", "--customer", "c00000")
    assert (code, out) == (0, "1 customers have a new data key; 1 values were sealed anew\n")
    keys.hold(new=NEW)
    code, out, _ = await said(installation, "show")
    assert (code, "missing" in out, "c00000, c00001" in out) == (0, True, True)
    code, _, err = await said(installation, "rotate", "--customer", "c00000")
    assert (code, "--customer goes with --data-keys" in err) == (2, True)


async def test_on_a_terminal_a_bar_shows_how_far_it_is(world, installation):
    await many(world, 3)
    leader, follower = os.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(RELAY, "keys", "rotate", "--data-keys"),
            env={**installation, "TERM": "xterm", "COLUMNS": "120"},
            stdout=asyncio.subprocess.PIPE,
            stderr=follower,
        )
        out, _ = await process.communicate()
        shown = os.read(leader, 65536).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert (process.returncode, out) == (0, b"3 customers have a new data key; 3 values were sealed anew\n")
    assert "customers with a new data key" in shown
    assert "3/3" in shown
