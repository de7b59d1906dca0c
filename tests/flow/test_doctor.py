"""The doctor on a real database: what is well, what waits, what is missing, and what nobody answers for."""

from datetime import UTC, datetime, timedelta

import pytest

from relay.control.doctor import Doctor
from relay.control.findings import Verdict
from relay.domain.egress import Policy
from relay.domain.errors import Unavailable
from relay.domain.results import Outcome
from relay.store.command_admission import CommandIntake
from relay.store.database import opened
from relay.store.registry import Registry
from tests.flow.test_store_commands import new

pytest_plugins = ["tests.fixtures.cli"]


async def answers():
    pass


async def refuses():
    raise Unavailable("Kafka does not answer")


async def public(_host, _port):
    return ["93.184.215.14"]


async def private(_host, _port):
    return ["10.0.0.7"]


def doctor(world, *, probe=answers, resolve=public, clock=lambda: datetime.now(UTC)):
    return Doctor(world.registry, {"broker": probe}, Policy(), resolve, clock)


def by_subject(examination):
    return {each.subject: each for each in examination.findings}


async def test_a_healthy_installation_has_nothing_but_good_findings(world):
    await world.sql("INSERT INTO workers (id) VALUES ('w')")
    await world.connection()
    await world.endpoint()
    examined = await doctor(world).examine()
    assert examined.verdict is Verdict.WELL
    assert list(by_subject(examined)) == [
        *("database", "workers", "clock", "outbox", "admission", "notices", "commands", "broker"),
        *("connection acme/erp", "endpoint acme/hook"),
    ]


async def test_what_is_not_well_is_told_with_what_to_do(world):
    connection = await world.connection()
    await world.endpoint()
    await world.tell(connection, "1")
    await world.sql("UPDATE outbox SET created_at = now() - interval '1 hour'")
    examined = await doctor(world, probe=refuses, resolve=private).examine()
    found = by_subject(examined)
    assert examined.verdict is Verdict.TROUBLE
    assert {name for name, each in found.items() if each.verdict is Verdict.TROUBLE} == {
        *("workers", "outbox", "broker", "endpoint acme/hook")
    }
    assert "the oldest for 60 min" in found["outbox"].says
    assert "10.0.0.7" in found["endpoint acme/hook"].says
    assert all(each.advice for each in examined.findings if each.verdict is Verdict.TROUBLE)


async def test_commands_of_which_nobody_knows_whether_they_were_done_are_told(world):
    erp = await world.connection()
    unknown = new(erp, "c1", outcome=Outcome.UNKNOWN)
    await CommandIntake(world.database).keep([unknown, new(erp, "c2", "p2")])
    noticed = by_subject(await doctor(world).examine())["commands"]
    assert (noticed.verdict, "1 command ended as unknown" in noticed.says) == (Verdict.NOTICE, True)
    await world.sql("UPDATE commands SET done_at = now() - interval '8 days' WHERE command_id = 'c1'")
    assert by_subject(await doctor(world).examine())["commands"].verdict is Verdict.WELL
    await world.sql(
        "UPDATE commands SET state = 'sending', sent_at = now() - interval '1 hour' WHERE command_id = 'c2'"
    )
    told = by_subject(await doctor(world).examine())["commands"]
    assert (told.verdict, "open for 60 min" in told.says) == (Verdict.TROUBLE, True)


@pytest.mark.parametrize(
    ("off", "verdict"), [(0, Verdict.WELL), (30, Verdict.NOTICE), (-30, Verdict.NOTICE), (120, Verdict.TROUBLE)]
)
async def test_a_clock_that_is_off_is_told(world, off, verdict):
    examined = await doctor(world, clock=lambda: datetime.now(UTC) + timedelta(seconds=off)).examine()
    assert by_subject(examined)["clock"].verdict is verdict


async def test_tables_of_another_version_and_a_dead_broker_are_told_together(world):
    await world.sql("UPDATE alembic_version SET version_num = '0001'")
    examined = await doctor(world, probe=refuses).examine()
    assert [each.subject for each in examined.findings] == ["database", "broker"]
    assert "relay migrate" in examined.findings[0].advice


async def test_an_empty_database_is_told(empty_database_url):
    async with opened(empty_database_url, connections=1) as database:
        examined = await Doctor(Registry(database), {}, Policy(), public, lambda: datetime.now(UTC)).examine()
    assert "relay migrate" in examined.findings[0].says


# The command


def test_the_command_shows_what_is_not_well_and_ends_with_1(relay, environment, database_url):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    told = relay("doctor")
    assert told.code == 1
    for trouble in ("none is running", "127.0.0.1:1", "no master key"):
        assert trouble in told.out
    assert "PostgreSQL 1" not in told.out
    assert "--all shows them" in told.out
    assert "PostgreSQL 1" in relay("doctor", "--all").out
    found = relay("doctor", "--json")
    assert (found.code, found.json["verdict"]) == (1, "trouble")


def test_a_forward_proxy_that_is_not_there_is_told(relay, environment, database_url):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_EGRESS__PROXY", "http://me:canary-7@127.0.0.1:1")
    found = {each["subject"]: each for each in relay("doctor", "--json").json["findings"]}
    assert found["proxy"]["verdict"] == "trouble"
    assert "127.0.0.1:1 does not answer" in found["proxy"]["says"]
    assert "canary-7" not in str(found)
