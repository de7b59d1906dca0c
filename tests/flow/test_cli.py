"""The command line on a real PostgreSQL, with a simulated Protheus behind real HTTP."""

import asyncio
import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from relay.domain.deliveries import Answer, Attempt, Outcome
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.signing import new_secret, sign, signing_key
from relay.domain.verification import challenge_body
from relay.store.database import opened
from tests.fixtures.postgres import said
from tests.fixtures.store import NOW, World

pytest_plugins = ["tests.fixtures.cli"]

CANARY = "canary-Senha#9"
COMMAND = [sys.executable, "-c", "from relay.cli import main; main()"]
PATIENCE = 90
ENDPOINT = ("endpoints", "add", "--customer", "acme", "--name", "hook", "--url")


@pytest.fixture
def installed(relay, environment, database_url):
    """The command line of an installation: a migrated database and a master key."""
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    return relay


# Connections


def test_a_connection_is_added_after_a_look_and_lives_until_it_is_removed(installed, erp):
    added = installed(*erp.arguments(), "--poll-every", "5s", "--json")
    assert (added.code, added.err) == (0, "")
    assert added.json["look"]["orders"] > 0
    assert added.json["look"]["example"] == "000001"
    connection = added.json["connection"]
    assert (connection["customer"], connection["name"], connection["state"]) == ("acme", "protheus", "active")
    assert (connection["poll_every"], connection["synced"], connection["problem"]) == ("PT5S", False, None)
    assert connection["settings"] == {"url": erp.simulated.url, "tenant": "T1,D MG 01"}
    assert connection["counts"] == {"orders": 0, "events": 0, "unpublished": 0, "rejected": 0}
    assert [each["id"] for each in installed("connections", "list", "--json").json] == [connection["id"]]
    for name in ("protheus", "acme/protheus", connection["id"]):
        assert installed("connections", "show", name, "--json").json["id"] == connection["id"]
    assert installed("connections", "pause", "protheus", "--json").json["state"] == "paused"
    assert installed("connections", "resume", "protheus", "--json").json["state"] == "active"
    mapping = installed("connections", "mapping", "show", "protheus", "--json").json
    assert next(each["source"] for each in mapping["fields"] if each["path"] == "number") == "C7_NUM"
    assert installed("connections", "mapping", "show", "protheus", "--sample", "--json").json["sample"]["orders"] > 0
    refused = installed("connections", "remove", "protheus")
    assert (refused.code, "Give --yes" in refused.err) == (2, True)
    assert installed("connections", "remove", "protheus", "--yes", "--json").json["id"] == connection["id"]
    assert installed("connections", "list", "--json").json == []


def test_tables_for_people_say_the_same(installed, erp):
    told = installed(*erp.arguments())
    assert told.code == 0
    assert re.search(r"^added acme/protheus \(con_[0-9a-f]{24}\)$", told.out, re.MULTILINE)
    assert re.search(
        r"^the first page has (\d+) orders, 000001 among them; there are about \1 in all$", told.out, re.MULTILINE
    )
    assert re.search(r"^customer +name +connector +state", installed("connections", "list").out)
    shown = installed("connections", "show", "protheus").out
    assert re.search(r"^tenant +T1,D MG 01$", shown, re.MULTILINE)
    assert re.search(r"^poll every +60 s$", shown, re.MULTILINE)
    assert re.search(
        r"^lines\[\]\.quantity +C7_QUANT ", installed("connections", "mapping", "show", "protheus").out, re.MULTILINE
    )
    assert "\ncommands:\n" in installed("connections", "mapping", "show", "protheus").out


def test_the_first_look_tells_of_currencies_and_junk(installed, erp):
    def spoil():
        first, second = erp.simulated.orders()[:2]
        erp.simulated.change_header(first, {"C7_MOEDA": 7})
        erp.simulated.corrupt(second, "C7_QUANT", "many", item="0001")

    erp.at(spoil)
    look = installed(*erp.arguments(), "--json").json["look"]
    assert [each for each in look["warnings"] if "currenc" in each]
    assert [(each["field"], bool(each["reason"])) for each in look["rejected"]] == [("C7_QUANT", True)]


@pytest.mark.parametrize(
    ("spoil", "code", "advice"),
    [
        (lambda erp: erp.login.change_password("another"), 1, "Check user and password"),
        (lambda erp: erp.fail_next("html_200", 9, on="token"), 1, "Check the address"),
        (lambda erp: erp.fail_next("html_200", 9), 1, "Check the address"),
        (lambda erp: erp.fail_next("reset", 99, on="token"), 3, "Check that address and port are right"),
    ],
    ids=["wrong password", "HTML for a login", "HTML for orders", "no answer"],
)
def test_an_erp_that_does_not_fit_is_told_with_what_to_do_and_nothing_is_stored(installed, erp, spoil, code, advice):
    erp.at(lambda: spoil(erp.simulated))
    told = installed(*erp.arguments(), "--json")
    assert (told.code, told.out) == (code, "")
    assert told.error["exit_code"] == code
    assert advice in told.error["message"]
    assert "Nothing was stored." in told.error["message"]
    assert erp.simulated.password not in told.err
    assert installed("connections", "list", "--json").json == []


def test_an_address_where_nothing_listens_is_unavailable(installed, erp):
    told = installed(*erp.arguments(url="http://127.0.0.1:1/rest"))
    assert told.code == 3
    assert "127.0.0.1:1" in told.err
    assert "Check that address and port are right" in told.err


def test_a_password_is_never_shown(installed, erp, tmp_path):
    credentials = tmp_path / "wrong"
    credentials.write_text(f"username=relay\npassword={CANARY}\n")
    for more in ([], ["--json"], ["--no-check"], ["--no-check"]):
        told = installed(*erp.arguments(credentials=credentials), *more)
        assert CANARY not in told.out + told.err
    shown = [
        installed("connections", *verb, "protheus", *more)
        for verb in (["show"], ["mapping", "show"])
        for more in ([], ["--json"])
    ]
    assert [each.code for each in shown] == [0, 0, 0, 0]
    assert not [each for each in shown if CANARY in each.out + each.err]


def test_credentials_with_unknown_names_are_refused_without_repeating_them(installed, erp, tmp_path):
    credentials = tmp_path / "wrong"
    credentials.write_text(f"username=relay\n{CANARY}=password\n")
    told = installed(*erp.arguments(credentials=credentials))
    assert told.code == 2
    assert "the known ones are username, password" in told.err
    assert CANARY not in told.err


def test_a_name_is_taken_once_and_the_erp_is_not_asked_again(installed, erp):
    assert installed(*erp.arguments()).code == 0
    asked = len(erp.simulated.seen)
    again = installed(*erp.arguments(), "--json")
    assert (again.code, again.error["code"]) == (1, "failed")
    assert "acme already has a connection 'protheus'" in again.error["message"]
    assert len(erp.simulated.seen) == asked
    assert installed(*erp.arguments(), "--name", "second").code == 0
    assert installed(*erp.arguments(customer="umbrella")).code == 0
    several = installed("connections", "show", "protheus")
    assert (several.code, "say which: acme/protheus, umbrella/protheus" in several.err) == (2, True)


@pytest.mark.parametrize("name", ["", "a/b", " a", "a\nb", "x" * 81])
def test_a_name_that_cannot_be_used_is_refused(installed, erp, name):
    told = installed(*erp.arguments(), "--name", name) if name else installed(*erp.arguments(customer=""))
    assert told.code == 2
    assert "cannot be used: give 1 to 80 letters" in told.err


@pytest.mark.parametrize("noun", ["connections", "endpoints"])
def test_what_is_not_there_has_its_own_exit_code(installed, noun):
    told = installed(noun, "show", "nobody", "--json")
    assert (told.code, told.error["code"]) == (4, "not_found")
    assert f"see `relay {noun} list`" in told.error["message"]


# Endpoints


def test_an_endpoint_is_added_with_its_secret_shown_once(installed):
    told = installed(
        *ENDPOINT, "https://93.184.215.14/hook?token=canary", "--type", "approved", "--deadline", "5s", "--json"
    )
    assert told.code == 0
    secret, endpoint = told.json["secret"], told.json["endpoint"]
    assert len(signing_key(secret)) == 32
    assert endpoint["event_types"] == ["purchase_order.approved"]
    assert (endpoint["url"], endpoint["deadline"], endpoint["at_once"]) == (
        "https://93.184.215.14/hook?***",
        "PT5S",
        64,
    )
    assert told.json["notices"] == ["acme has no connections yet: nothing will be sent before one is added"]
    shown = installed("endpoints", "show", "hook", "--json")
    assert shown.json == endpoint
    assert secret not in shown.out + installed("endpoints", "list").out
    assert installed("endpoints", "disable", "hook", "--json").json["state"] == "disabled"
    assert installed("endpoints", "enable", "hook", "--json").json["state"] == "active"
    assert "active" in installed("endpoints", "list").out
    assert installed("endpoints", "remove", "hook", "--yes").code == 0
    assert installed("endpoints", "list", "--json").json == []


def test_a_secret_goes_to_a_private_file_when_asked(installed, tmp_path):
    file = tmp_path / "secret"
    told = installed(*ENDPOINT, "https://x.example/", "--secret-file", file)
    assert told.code == 0
    assert "whsec_" not in told.out + told.err
    assert len(signing_key(file.read_text().strip())) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    again = installed(*ENDPOINT, "https://x.example/", "--secret-file", file)
    assert (again.code, f"{file} exists" in again.err) == (1, True)
    other = tmp_path / "other"
    assert installed(*ENDPOINT, "https://x.example/", "--secret-file", other).code == 1
    assert not other.exists()


def test_an_endpoint_with_a_key_pair_shows_the_public_key_and_never_the_private_one(installed, tmp_path):
    told = installed(*ENDPOINT, "https://x.example/", "--signing", "both", "--json")
    assert (told.json["secret"][:6], told.json["public_key"][:5]) == ("whsec_", "whpk_")
    people = installed(*ENDPOINT[:-2], "pair", "--url", "https://x.example/", "--signing", "ed25519")
    assert re.search(r"^public key for the receiver: whpk_\S+$", people.out, re.MULTILINE)
    file = tmp_path / "key"
    written = installed(
        *ENDPOINT[:-2], "file", "--url", "https://x.example/", "--signing", "ed25519", "--secret-file", file
    )
    assert f"public key written to {file}" in written.out
    assert file.read_text().startswith("whpk_")
    keys = installed("endpoints", "keys", "hook", "--json")
    assert [(each["signing"], each["until"]) for each in keys.json] == [("hmac", None), ("ed25519", None)]
    assert keys.json[1]["public_key"] == told.json["public_key"]
    assert not [each for each in (told, people, written, keys) if "whsk_" in each.out + each.err]
    assert "whsec_" not in keys.out
    assert installed(*ENDPOINT, "https://x.example/", "--signing", "rsa").code == 2


def test_a_secret_is_rotated_with_an_overlap(installed, tmp_path):
    first = installed(*ENDPOINT, "https://x.example/", "--json").json["secret"]
    told = installed("endpoints", "rotate", "hook", "--overlap", "2h")
    assert told.code == 0
    second = re.search(r"^signing secret, shown only now: (whsec_\S+)$", told.out, re.MULTILINE)[1]
    assert second != first
    assert re.search(r"^signing +begins +ends +public key$", told.out, re.MULTILINE)
    assert re.search(r"^hmac +has begun +never$", told.out, re.MULTILINE)
    assert re.search(r"^hmac +has begun +\d{4}-\d\d-\d\d ", installed("endpoints", "keys", "hook").out, re.MULTILINE)
    file = tmp_path / "secret"
    third = installed("endpoints", "rotate", "hook", "--overlap", "0s", "--secret-file", file, "--json")
    assert len(third.json["keys"]) == 1
    assert "secret" not in third.json
    assert file.read_text().startswith("whsec_")
    assert "whsec_" not in installed("endpoints", "keys", "hook", "--json").out
    assert installed("endpoints", "rotate", "nobody").code == 4
    assert installed("endpoints", "rotate", "hook", "--overlap", "91d").code == 2


def test_a_rotation_is_planned_by_time_or_from_now(installed):
    installed(*ENDPOINT, "https://x.example/")
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    planned = installed("endpoints", "rotate", "hook", "--at", begin.isoformat(), "--overlap", "1h", "--json")
    texts = [(each["since"], each["until"]) for each in planned.json["keys"]]
    times = [[each and datetime.fromisoformat(each) for each in pair] for pair in texts]
    assert times == [[begin, None], [None, begin + timedelta(hours=1)]]
    told = installed("endpoints", "rotate", "hook", "--in", "7d", "--signing", "ed25519")
    assert re.search(r"^ed25519 +\d{4}-\d\d-\d\d \S+ +never +whpk_", told.out, re.MULTILINE)
    for wrong, says in (
        (["--at", "2020-01-01T00:00Z"], "after now"),
        (["--at", "tomorrow"], "not a time"),
        (["--at", "2100-01-01T00:00"], "no time zone"),
        (["--in", "91d"], "90 days ahead at the most"),
        (["--in", "1d", "--at", begin.isoformat()], "give one of them"),
    ):
        refused = installed("endpoints", "rotate", "hook", *wrong)
        assert (refused.code, says in " ".join(refused.err.split())) == (2, True), refused.err
    assert len(installed("endpoints", "keys", "hook", "--json").json) == 3


@pytest.mark.parametrize(
    ("url", "more", "message"),
    [
        ("http://x.example/", [], "must begin with https://"),
        ("x.example", [], "must begin with https://"),
        (f"https://u:{CANARY.replace('#', '')}@x.example/", [], "has a user name or password"),
        (
            "https://x.example/",
            ["--type", "exploded"],
            "unknown event type purchase_order.exploded: the known ones are",
        ),
        ("https://x.example/", ["--at-once", "0"], "at_once is 0: give 1 to 1000"),
        ("https://x.example/", ["--deadline", "1h"], "deadline is 3600 s: give 1 s to 300 s"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(installed, url, more, message):
    told = installed(*ENDPOINT, url, *more)
    assert (told.code, told.out) == (2, "")
    assert message in told.err
    assert "canary" not in told.err


def test_http_is_for_those_who_allow_it(installed, environment):
    environment.setenv("RELAY_DELIVER__ALLOW_HTTP", "true")
    assert installed(*ENDPOINT, "http://93.184.215.14:9000/").code == 0


def test_an_endpoint_on_a_private_network_is_for_those_who_allow_it(installed, environment):
    told = installed(*ENDPOINT, "https://10.1.2.3/hook?token=canary")
    assert (told.code, "10.1.2.3 is a private network. RELAY_EGRESS__ALLOW" in told.err) == (2, True)
    assert "canary" not in told.err
    environment.setenv("RELAY_EGRESS__ALLOW", "10.1.0.0/16")
    assert installed(*ENDPOINT, "https://10.1.2.3/hook").code == 0


def test_an_endpoint_hears_of_its_own_customers_connections_only(installed, erp):
    mine = installed(*erp.arguments(), "--json").json["connection"]["id"]
    installed(*erp.arguments(customer="umbrella"), "--name", "theirs")
    assert installed(*ENDPOINT, "https://x.example/", "--connection", "theirs").code == 4
    added = installed(*ENDPOINT, "https://93.184.215.14/", "--connection", "protheus", "--json").json
    assert (added["endpoint"]["connections"], added["notices"]) == ([mine], [])


# Deliveries


@pytest.fixture
def history(database_url):
    """One event delivered, one refused and waiting, one behind it; the ids of their deliveries."""

    async def made():
        async with opened(database_url) as database:
            world = World(database)
            connection, hook = await world.connection(), await world.endpoint()
            events = [
                *await world.tell(connection, "A"),
                *await world.tell(connection, "B"),
                *await world.tell(connection, "B"),
            ]
            await world.admissions.admit(events)
            answers = {"A": Answer(204), "B": Answer(503, excerpt=b"<b>busy</b>\x1b[2J")}
            attempts = []
            for head in await world.heads(hook):
                answer = answers[head.lane.partition("|")[2]]
                outcome = Outcome.DELIVERED if answer.status == 204 else Outcome.RETRY
                attempts.append(Attempt(head, 1, NOW, 0.25, answer, outcome, None if answer.status == 204 else NOW))
            await world.record(hook.lease, attempts)
            await world.sql("UPDATE deliveries SET due_at = now() + interval '1 hour' WHERE due_at IS NOT NULL")
            rows = await world.sql("SELECT id FROM deliveries ORDER BY position")
            return [row["id"] for row in rows]

    return asyncio.run(made())


def test_deliveries_are_listed_newest_first_and_narrowed(installed, history):
    delivered, waiting, behind = history
    listed = installed("deliveries", "list", "--json").json
    assert [each["id"] for each in listed] == [behind, waiting, delivered]
    assert [(each["remote_id"], each["state"], each["last_status"]) for each in listed] == [
        ("B", "waiting", None),
        ("B", "waiting", 503),
        ("A", "delivered", 204),
    ]

    def found(*narrowed):
        return [each["id"] for each in installed("deliveries", "list", *narrowed, "--json").json]

    assert found("--state", "delivered") == [delivered]
    assert found("--order", "B", "--most", "1") == [behind]
    assert found("--endpoint", "acme/hook", "--order", "A") == [delivered]
    assert installed("deliveries", "list", "--state", "lost").code == 2
    assert installed("deliveries", "list", "--endpoint", "nobody").code == 4
    assert re.search(
        rf"^{waiting} +hook +purchase_order.updated +B +1 +waiting +1 +503",
        installed("deliveries", "list").out,
        re.MULTILINE,
    )


def test_a_delivery_is_shown_with_its_attempts(installed, history):
    shown = installed("deliveries", "show", history[1], "--json").json
    assert shown["attempts_made"] == [
        {
            "number": 1,
            "started_at": "2026-03-01T12:00:00Z",
            "seconds": 0.25,
            "outcome": "retry",
            "status": 503,
            "error": "",
            "detail": "",
            "excerpt": "<b>busy</b>\x1b[2J",
            "address": "",
            "resolve_seconds": 0.0,
            "answer_seconds": None,
        }
    ]
    text = installed("deliveries", "show", history[1]).out
    assert re.search(r"^number +2$", text, re.MULTILINE)
    assert re.search(r"^attempt +started +seconds +outcome +answer", text, re.MULTILINE)
    assert "\x1b" not in text


def test_a_failing_endpoint_is_shown_with_its_last_answer(installed, history, database_url):
    assert installed("endpoints", "show", "hook", "--json").json["last_attempt"] is None

    asyncio.run(said(database_url, "UPDATE endpoints SET failing_since = now()"))

    last = installed("endpoints", "show", "hook", "--json").json["last_attempt"]
    assert (last["status"], last["started_at"], last["excerpt"]) == (503, "2026-03-01T12:00:00Z", "<b>busy</b>\x1b[2J")
    text = installed("endpoints", "show", "hook").out
    assert re.search(r"^last answer +503$", text, re.MULTILINE)
    assert re.search(r"^it began +<b>busy</b>", text, re.MULTILINE)
    assert "\x1b" not in text


def test_a_delivery_is_sent_again_unless_it_waits_behind_another(installed, history):
    _, waiting, behind = history
    before = installed("deliveries", "show", waiting, "--json").json["due_at"]
    told = installed("deliveries", "retry", waiting, "--json")
    assert told.code == 0
    assert told.json[0]["due_at"] < before
    refused = installed("deliveries", "retry", behind)
    assert (refused.code, "waits behind an earlier event of order 'B'" in refused.err) == (2, True)
    assert installed("deliveries", "retry", "dlv_none").code == 4


# The database and the master key


def test_a_database_without_tables_asks_for_migrate(relay, environment, empty_database_url):
    environment.setenv("RELAY_DATABASE__URL", empty_database_url)
    told = relay("connections", "list")
    assert (told.code, "run `relay migrate`" in told.err) == (3, True)
    assert relay("migrate", "--json").json == {"migrated": True}
    assert relay("migrate").out == "the database is up to date\n"
    assert relay("connections", "list", "--json").json == []


def test_only_what_seals_needs_a_master_key(relay, environment, database_url, erp):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    assert relay("connections", "list").code == 0
    for told in (relay(*erp.arguments()), relay(*ENDPOINT, "https://x.example/")):
        assert (told.code, "RELAY_VAULT__MASTER_KEY_FILE" in told.err) == (1, True)


# Processes


def begun(*arguments, **environment):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}, **environment},
        text=True,
    )


def ended(process, number=signal.SIGINT):
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def post(url, body, headers):
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def signed(secret, body):
    now = int(time.time())
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([signing_key(secret)], "evt_1", now, body),
    }


BODY = orjson.dumps(
    {
        "type": "purchase_order.updated",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {
            "order_id": "po_1",
            "number": "000123",
            "sequence": 2,
            "kinds": ["updated"],
            "changes": [{"kind": "updated", "op": "replace", "path": "/total", "before": "1.00", "after": "2.00"}],
        },
    }
)


def test_listen_verifies_with_a_public_key_and_its_private_key_is_no_key_for_it(tmp_path):
    secret, file = new_private_key(os.urandom(32)), tmp_path / "key"
    file.write_text(public_key(secret))
    with begun("listen", "--port", "0", "--secret-file", file) as process:
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        assert post(url, BODY, signed(secret, BODY)) == 204
        assert post(url, BODY, signed(new_private_key(os.urandom(32)), BODY)) == 401
        assert ended(process)[0] == 0
    with begun("listen", "--port", "0", RELAY_LISTEN_SECRET=secret) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "the sender's private key" in err) == (2, True)
    assert secret not in out + err


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_listen_takes_what_is_signed_and_refuses_the_rest(as_json):
    secret = new_secret(os.urandom(32))
    with begun("listen", "--port", "0", *(["--json"] if as_json else []), RELAY_LISTEN_SECRET=secret) as process:
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        assert post(url, BODY, signed(secret, BODY)) == 204
        assert post(url, BODY, {}) == 401
        assert post(url, BODY, signed(new_secret(os.urandom(32)), BODY)) == 401
        code, out, err = ended(process)
    assert code == 0
    assert secret not in out + err
    lines = out.splitlines()
    if as_json:
        first, second, third, last = map(orjson.loads, lines)
        assert (first["verified"], first["type"], first["number"], first["sequence"]) == (
            True,
            "purchase_order.updated",
            "000123",
            2,
        )
        assert first["changes"][0]["path"] == "/total"
        assert [(each["verified"], bool(each["problem"])) for each in (second, third)] == [(False, True)] * 2
        assert last["totals"] | {"received": 3, "refused": 2, "unverified": 2, "unique": 1} == last["totals"]
    else:
        assert "verified  purchase_order.updated  order 000123  sequence 2" in lines[0]
        assert lines[1].strip() == "/total: 1.00 -> 2.00"
        assert "REFUSED  the header webhook-id is missing" in lines[2]
        assert lines[-1].startswith("received 3, refused 2, unverified 2, unique 1, duplicates 0, out of order 0")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_listen_proves_that_it_wants_webhooks_and_shows_tests_as_tests(as_json):
    secret, challenge = new_secret(os.urandom(32)), challenge_body("the text", datetime.now(UTC))
    with begun("listen", "--port", "0", *(["--json"] if as_json else []), RELAY_LISTEN_SECRET=secret) as process:
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        asks = urllib.request.Request(url, headers={"webhook-request-origin": "hub.example"}, method="OPTIONS")
        with urllib.request.urlopen(asks, timeout=30) as answer:
            assert answer.headers["webhook-allowed-origin"] == "hub.example"
        request = urllib.request.Request(url, challenge, signed(secret, challenge))
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.read().strip() == b"the text"
        now = int(time.time())
        headers = {"webhook-id": "test_1", "webhook-timestamp": str(now), "relay-test": "true"}
        headers["webhook-signature"] = sign([signing_key(secret)], "test_1", now, BODY)
        assert post(url, BODY, headers) == 204
        code, out, _ = ended(process)
    assert code == 0
    lines = out.splitlines()
    if as_json:
        assert [orjson.loads(each)["kind"] for each in lines[:-1]] == ["handshake", "challenge", "test"]
        totals = orjson.loads(lines[-1])["totals"]
        assert (totals["received"], totals["tests"], totals["challenges"]) == (0, 1, 2)
    else:
        assert "handshake  hub.example asks whether webhooks are wanted here" in lines[0]
        assert "challenge  answered" in lines[1]
        assert "test  purchase_order.updated  order 000123  sequence 2" in lines[2]
        assert lines[-1].endswith("tests 1, challenges 2")


def test_listen_refuses_a_key_that_is_none_without_showing_it():
    with begun("listen", "--port", "0", RELAY_LISTEN_SECRET=f"whsec_{CANARY}") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    assert CANARY not in err


@pytest.fixture
def home():
    # Not pytest's own folder: a socket's path may have 107 characters.
    path = Path(tempfile.mkdtemp(prefix="relay-up-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def done(*arguments):
    with begun(*arguments) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_commands_bring_the_embedded_database_along(home):
    assert orjson.loads(done("connections", "list", "--json", "--data", home)) == []
    added = orjson.loads(
        done(
            "endpoints",
            "add",
            "--customer",
            "a",
            "--name",
            "b",
            "--url",
            "http://127.0.0.1:9/",
            "--json",
            "--data",
            home,
        )
    )
    assert [added["endpoint"]] == [
        {**each, "counts": added["endpoint"]["counts"]}
        for each in orjson.loads(done("endpoints", "list", "--json", "--data", home))
    ]


def test_a_connection_with_a_new_password_is_reconnected_and_keeps_its_id(installed, erp, tmp_path):
    added = installed(*erp.arguments(), "--json").json["connection"]
    erp.at(lambda: erp.simulated.login.change_password("Nova#Senha2"))
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("username=relay\npassword=Nova#Senha2\n")
    bad.write_text(f"username=relay\npassword={CANARY}\n")

    refused = installed("connections", "reconnect", "protheus", "--credentials-file", bad)
    assert refused.code == 1
    assert CANARY not in refused.out + refused.err
    told = installed("connections", "reconnect", "protheus", "--credentials-file", good, "--json").json
    assert (told["connection"]["id"], told["connection"]["state"]) == (added["id"], "active")
    assert told["look"]["orders"] > 0
    assert installed("connections", "reconnect", "nobody", "--credentials-file", good).code == 4
