"""Operator keys from the command line: shown once, in the audit log, and good at the control API."""

import asyncio

import pytest

from relay.domain.tokens import digest_of
from relay.store.audit import AuditStore
from relay.store.callers import CallerStore
from relay.store.database import opened

pytest_plugins = ["tests.fixtures.cli"]


@pytest.fixture
def installed(relay, environment, database_url):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    return relay


def asked(database_url, question):
    async def asking():
        async with opened(database_url, connections=1) as database:
            return await question(database)

    return asyncio.run(asking())


def test_a_key_is_shown_once_listed_without_it_and_revoked(installed, database_url):
    told = installed("operators", "add", "ci", "--scope", "write")
    assert told.code == 0
    first, second = told.out.splitlines()
    key = first.removeprefix("operator key, shown only now: ")
    assert second.startswith("ci (key_")
    assert second.endswith("may write")
    caller = asked(database_url, lambda database: CallerStore(database).caller(key))
    assert (caller.name, caller.scope) == ("ci", "write")
    listed = installed("operators", "list", "--json")
    assert [(each["name"], each["scope"], each["revoked_at"]) for each in listed.json] == [("ci", "write", None)]
    assert key not in listed.out + installed("operators", "list").out
    assert installed("operators", "add", "ci").code == 1
    assert installed("operators", "revoke", "ci").out == f"revoked ci ({caller.id})\n"
    assert asked(database_url, lambda database: CallerStore(database).caller(key)) is None
    assert installed("operators", "revoke", "ci").code == 4
    again = installed("operators", "add", "ci", "--json").json
    assert (again["operator"]["scope"], digest_of(again["key"]) != digest_of(key)) == ("read", True)
    assert installed("operators", "revoke", again["operator"]["id"], "--json").json["revoked_at"]


def test_what_is_done_here_is_in_the_audit_log_too(installed, database_url):
    made = installed("operators", "add", "ci", "--json").json["operator"]["id"]
    installed("operators", "add", "ci")
    installed("operators", "revoke", "ci")
    rows = asked(database_url, lambda database: AuditStore(database).entries(None, 10))
    noted = [(row["caller_id"], row["action"], row["subject"], row["status"]) for row in reversed(rows)]
    assert noted == [
        ("local", "add_operator", made, 201),
        ("local", "add_operator", None, 409),
        ("local", "revoke_operator", made, 200),
    ]
