"""Syncs and schedules by command, on a database that no worker works on."""

import base64
import os
import re

import pytest

pytest_plugins = ["tests.fixtures.cli"]


@pytest.fixture
def installed(relay, environment, database_url):
    """The command line of an installation: a migrated database and a master key."""
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    return relay


HOURS = ("--hours", "Mon-Fri 00:00-24:00", "--hours", "Sat,Sun 00:00-24:00", "--blackout", "sun 03:00-03:01")


def test_a_connection_is_added_with_its_history_and_hours_and_shows_them(installed, erp):
    asked = ("--history", "30d", "--announce", "silent", "--poll-slowest", "10m", "--compare-every", "never", *HOURS)
    added = installed(*erp.arguments(), *asked, "--time-zone", "America/Sao_Paulo", "--json")
    assert added.code == 0, added.err
    seen = added.json["connection"]
    assert seen["schedule"] == {
        "slowest": "PT10M",
        "compare_every": None,
        "hours": {
            "open": ["Mon-Fri 00:00-24:00", "Sat,Sun 00:00-24:00"],
            "closed": ["Sun 03:00-03:01"],
            "zone": "America/Sao_Paulo",
        },
        "calls_per_second": None,
        "calls_at_once": None,
        "answer_within": None,
    }
    assert (seen["reading"]["kind"], seen["reading"]["announce"], seen["reading"]["state"]) == (
        "first",
        "silent",
        "waiting",
    )
    assert seen["history_from"] == seen["reading"]["begin_on"]
    shown = installed("connections", "show", "protheus").out
    assert re.search(r"^reading +kind=first, state=waiting, read=0", shown, re.MULTILINE)
    assert re.search(r"^hours +Mon-Fri 00:00-24:00, Sat,Sun 00:00-24:00", shown, re.MULTILINE)
    assert re.search(r"^time zone +America/Sao_Paulo", shown, re.MULTILINE)


def test_a_schedule_is_changed_where_it_is_given_and_nowhere_else(installed, erp):
    assert installed(*erp.arguments(), *HOURS).code == 0
    change = ("connections", "change", "protheus")
    told = installed(*change, "--poll-every", "5s", "--hours", "any", "--json")
    assert told.code == 0, told.err
    assert (told.json["poll_every"], told.json["reconcile_every"]) == ("PT5S", "PT1H")
    assert told.json["schedule"]["hours"]["open"] == []
    assert told.json["schedule"]["hours"]["closed"] == ["Sun 03:00-03:01"]
    told = installed(*change, "--calls-per-second", "20", "--calls-at-once", "4", "--answer-within", "90s", "--json")
    assert told.json["schedule"]["answer_within"] == "PT1M30S"
    assert (told.json["schedule"]["calls_per_second"], told.json["schedule"]["calls_at_once"]) == (20, 4)
    assert installed(*change, "--compare-every", "2d").out == "changed acme/protheus: polled every 5s\n"
    for given, message in (
        ((), "nothing to change"),
        (("--hours", "soon"), "hours.open.0: write 'soon' like Mon-Fri"),
        (("--time-zone", "Mars/Olympus"), "there is no time zone 'Mars/Olympus'"),
        (("--blackout", "00:00-24:00"), "the ERP could never be asked"),
        (("--poll-every", "1ms"), "poll_every is 0.001 s"),
        (("--calls-per-second", "0"), "calls_per_second: Input should be greater than 0"),
        (("--calls-at-once", "65"), "calls_at_once: Input should be less than or equal to 64"),
        (("--answer-within", "1ms"), "answer_within is 0.001 s"),
        (("--compare-every", "often"), "'often' is not a time span"),
    ):
        told = installed(*change, *given)
        assert (told.code, message in told.err) == (2, True), told.err


def test_a_first_sync_stands_before_all_others(installed, erp):
    assert installed(*erp.arguments(), "--history", "all").code == 0
    [first] = installed("connections", "syncs", "protheus", "--json").json
    assert (first["kind"], first["state"], first["begin_on"]) == ("first", "waiting", None)
    told = installed("connections", "resync", "protheus")
    assert (told.code, "being read already" in told.err) == (1, True)
    told = installed("connections", "cancel-sync", first["id"])
    assert (told.code, "cannot be cancelled" in told.err) == (2, True)
    assert installed("connections", "cancel-sync", "syn_0").code == 4
    assert re.search(r"^id +connection +kind", installed("connections", "syncs").out)
    told = installed("connections", "sync", "protheus", "--wait", "100ms")
    assert re.fullmatch(r"asked: syn_\w+ is waiting; see `relay connections syncs`\n", told.out)
    assert installed("connections", "sync", "protheus", "--wait", "100ms", "--json").json["kind"] == "poll"


def test_a_connection_that_is_not_asked_is_told(installed, erp):
    installed(*erp.arguments())
    installed("connections", "pause", "protheus")
    for verb in ("sync", "resync"):
        told = installed("connections", verb, "protheus")
        assert (told.code, "protheus is paused" in told.err) == (2, True), told.err
    told = installed(*erp.arguments(customer="other"), "--announce", "changes")
    assert (told.code, "announces snapshot or silent" in told.err) == (2, True)
