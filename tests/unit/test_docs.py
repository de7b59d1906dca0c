"""Documents say what the code does: generated ones are fresh, hand-written ones leave nothing out."""

import ast
import inspect
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from itertools import accumulate
from pathlib import Path

import httpx
import jsonschema
import orjson
import pytest
import typer
from prometheus_client import REGISTRY

import relay
from relay import metrics
from relay.cli.program import app
from relay.connectors import CONNECTORS
from relay.docs import generated, stale
from relay.docs.configuration import configuration_page
from relay.docs.pages import ROOT
from relay.domain import flow, results
from relay.domain.changes import ChangeKind
from relay.domain.command_samples import sample_command, sample_result
from relay.domain.command_schemas import schema_name
from relay.domain.commands import CommandType, read_command
from relay.domain.deliveries import Answer, Outcome
from relay.domain.ed25519_keys import new_private_key, parse_public_key, public_key
from relay.domain.endpoints import DEFAULT_AT_ONCE, EndpointOptions, Ordering
from relay.domain.errors import UserError
from relay.domain.events import EVENT_TYPES
from relay.domain.health import PROBED_FOR
from relay.domain.intake import given_message
from relay.domain.messages import Incoming, Reason
from relay.domain.notice_samples import sample_notice
from relay.domain.notices import NoticeType, notice_event
from relay.domain.retry import SCHEDULE, classify, refused
from relay.domain.samples import sample_event
from relay.domain.signing import new_secret, parse_secret, sign, verify
from relay.domain.spans import span_words

DOCS = ROOT / "docs"
SCHEMAS = sorted(path.stem for path in (DOCS / "schemas").glob("*.json"))
PACKAGE = Path(relay.__file__).parent


def page(name):
    return (DOCS / name).read_text()


# Generated documents


def test_generated_documents_are_fresh():
    assert [str(path.relative_to(ROOT)) for path in stale(ROOT)] == [], "make fix"


def test_the_check_fails_when_a_page_is_old(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    assert stale(tmp_path) == []
    page = tmp_path / "docs" / "configuration.md"
    page.write_text(page.read_text().replace("RELAY_DATA", "RELAY_FOLDER"))
    assert stale(tmp_path) == [page]


def test_a_page_that_lost_its_markers_is_named(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    (tmp_path / "docs" / "events.md").write_text("# Events\n")
    with pytest.raises(UserError, match=r"events\.md must hold the lines"):
        generated(tmp_path)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_generation_does_not_depend_on_the_hash_seed(seed):
    command = [sys.executable, "-m", "relay.docs", "--check"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_configuration_does_not_show_this_environment(monkeypatch):
    monkeypatch.setenv("RELAY_DATABASE__URL", "postgresql://canary:canary@db/relay")
    monkeypatch.setenv("RELAY_DATA", "/canary")
    assert "canary" not in configuration_page()


# Events and schemas


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_type_is_explained_and_has_an_example(event_type):
    text = page("events.md")
    assert f"| `{event_type}` |" in text
    assert f"#### `{event_type}`" in text


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_an_example_fits_the_published_schema(event_type):
    schema = orjson.loads((DOCS / "schemas" / "change-event.v1.json").read_bytes())
    body = orjson.loads(sample_event(event_type).model_dump_json())
    jsonschema.Draft202012Validator(schema).validate(body)
    order = orjson.loads((DOCS / "schemas" / "purchase-order.v1.json").read_bytes())
    jsonschema.Draft202012Validator(order).validate(body["data"]["order"])


@pytest.mark.parametrize("kind", NoticeType)
def test_every_notice_is_explained_and_its_example_fits_the_published_schema(kind):
    text = page("events.md")
    assert f"| `{kind}` |" in text
    assert f"#### `{kind}`" in text
    schema = orjson.loads((DOCS / "schemas" / "notice.v1.json").read_bytes())
    body = orjson.loads(notice_event(sample_notice(kind)).model_dump_json())
    jsonschema.Draft202012Validator(schema).validate(body)


@pytest.mark.parametrize("kind", CommandType)
def test_every_command_is_explained_and_its_example_is_taken_and_fits_the_published_schema(kind):
    section = page("command-reference.md").partition(f"\n## `{kind}`\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert read_command(orjson.loads(example)) == sample_command(kind)
    schema = orjson.loads((DOCS / "schemas" / f"{schema_name(kind)}.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(orjson.loads(example))


@pytest.mark.parametrize(
    "wrong", [{"quantity": "1,5"}, {"quantity": "a lot"}, {"quantity": True}, {"surprise": "1"}, {"required_date": 3}]
)
def test_the_published_schema_refuses_what_relay_refuses(wrong):
    command = orjson.loads(sample_command(CommandType.CREATE).model_dump_json(exclude_unset=True))
    command["lines"][0] |= wrong
    schema = orjson.loads((DOCS / "schemas" / "command-create.v1.json").read_bytes())
    assert not jsonschema.Draft202012Validator(schema).is_valid(command)
    with pytest.raises(UserError):
        read_command(command)


def test_the_published_schemas_name_no_default_because_null_would_empty_a_field():
    assert [each.name for each in DOCS.glob("schemas/command-*.json") if '"default": null' in each.read_text()] == [
        "command-result.v1.json"
    ]


@pytest.mark.parametrize("outcome", results.Outcome)
def test_every_outcome_of_a_command_is_explained_and_its_example_fits_the_published_schema(outcome):
    text = page("command-reference.md")
    assert f"\n| `{outcome}` | " in text
    assert f"\n### `{results.RESULT_PREFIX}{outcome}`\n" in text
    schema = orjson.loads((DOCS / "schemas" / "command-result.v1.json").read_bytes())
    body = orjson.loads(sample_result(outcome).model_dump_json())
    jsonschema.Draft202012Validator(schema).validate(body)


@pytest.mark.parametrize("reason", results.RefusalReason)
def test_every_reason_of_a_refusal_says_what_to_do(reason):
    assert re.search(rf"^\| `{reason}` \| .+ \| .+ \|$", page("command-reference.md"), re.MULTILINE)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_of_its_dialect_and_has_a_name(name):
    schema = orjson.loads((DOCS / "schemas" / f"{name}.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:relay:schema:{name}"
    assert schema["title"]


def test_asyncapi_names_every_documented_topic():
    described = orjson.loads((DOCS / "asyncapi.json").read_bytes())
    assert described["asyncapi"].startswith("3.")
    assert {each["address"] for each in described["channels"].values()} == {
        "relay.purchase-orders.changes.v1",
        "relay.purchase-orders.state.v1",
        "relay.purchase-orders.commands.v1",
        "relay.purchase-orders.command-results.v1",
        "relay.purchase-orders.dead-letters.v1",
        "relay.operations.v1",
    }


@pytest.mark.parametrize("word", [*ChangeKind, *Reason])
def test_every_kind_and_reason_is_in_the_events_page(word):
    assert re.search(rf"\b{word}\b", page("events.md"))


# Webhooks


def test_the_retry_table_is_the_schedule():
    (line,) = re.findall(r"^\| after \| (.*) \|$", page("webhooks.md"), re.MULTILINE)
    assert line.split(" | ") == ["at once", *(span_words(wait) for wait in SCHEDULE[1:])]
    hours = [total.total_seconds() / 3600 for total in accumulate(SCHEDULE)]
    assert round(hours[-1]) == 52


def test_the_table_of_answers_is_what_the_code_does():
    section = page("webhooks.md").partition("## What an answer means")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE))
    words = {
        "2xx": [200, 204, 299],
        "408, 425, 429, 5xx but 501": [408, 425, 429, 500, 502, 503, 599],
        "3xx, other 4xx": [300, 301, 307, 308, 400, 401, 403, 404, 409, 422, 499],
        "410": [410],
        "501": [501],
    }
    said = {"2xx": Outcome.DELIVERED, "410": Outcome.GONE, "501": Outcome.DEAD}
    for row, statuses in words.items():
        assert row in rows
        for status in statuses:
            assert classify(Answer(status=status)) is said.get(row, Outcome.RETRY)
            assert refused(Answer(status=status)) == (row in {"3xx, other 4xx", "410"})
    assert f"{EndpointOptions().refused_attempts} times in all" in rows["3xx, other 4xx"]


def test_every_ordering_and_every_error_of_an_attempt_is_in_the_webhooks_page():
    for each in Ordering:
        assert f"| `{each}`" in page("webhooks.md")
    source = inspect.getsource(Answer)
    for word in re.findall(r'Closed vocabulary: "", (.*?)\.', source)[0].split(", "):
        assert f"`{word}`" in page("webhooks.md")


def test_numbers_of_flow_and_health_are_those_of_the_code():
    text = " ".join(page("webhooks.md").split())
    for number in (
        f"{flow.START} at first",
        f"at least {flow.FEWEST_ANSWERS} answers",
        f"{flow.BAD_IN_A_ROW} in a row",
        f"after {flow.FIRST_PROBE:g} s at first",
        f"up to {flow.LONGEST_PROBE / 60:g} minutes",
        f"`--at-once` ({DEFAULT_AT_ONCE})",
        f"{EndpointOptions().disable_after // timedelta(hours=1)} hours (option `disable_after`)",
        f"{PROBED_FOR.days} days later",
    ):
        assert number in text, number


async def test_the_example_receiver_takes_what_relay_signs_and_nothing_else(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", page("webhooks.md"), re.DOTALL)
    secret = new_secret(os.urandom(32))
    monkeypatch.setenv("RELAY_SECRET", secret)
    monkeypatch.chdir(tmp_path)
    example = {}
    exec(compile(code, "webhooks.md", "exec"), example)  # noqa: S102 - the page's own code is what is tested
    body = sample_event(EVENT_TYPES[0]).model_dump_json().encode()
    now = int(time.time())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([parse_secret(secret)], "evt_1", now, body),
    }
    url = "http://here/hooks/relay"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(example["app"])) as client:
        answers = [await client.post(url, content=body, headers=headers) for _ in range(2)]
        answers.append(await client.post(url, content=body + b" ", headers=headers))
    assert [answer.status_code for answer in answers] == [204, 204, 401]
    example["inbox"].close()
    inbox = sqlite3.connect(tmp_path / "inbox.sqlite")
    assert inbox.execute("SELECT id, sequence FROM events").fetchall() == [("evt_1", 1)]
    inbox.close()


# Commands from Kafka


def test_the_example_signs_a_command_as_relay_verifies_it():
    (code,) = re.findall(r"```python\n(.*?)```", page("commands.md"), re.DOTALL)
    example = {}
    exec(compile(code, "commands.md", "exec"), example)  # noqa: S102 - the page's own code is what is tested
    key = new_private_key(os.urandom(32))
    command = sample_command(CommandType.CANCEL).model_dump(mode="json", exclude_unset=True)
    value, headers = example["signed"](key, command)
    told = {name: content.decode() for name, content in headers}
    verify([parse_public_key(public_key(key))], told, value, int(time.time()))
    given = given_message(Incoming("commands", 0, 0, None, value, tuple(headers)), 10_000)
    assert (given.command_id, given.tree) == (told["webhook-id"], command)


# Operations


def log_events():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                # `tell` is what a level chosen at run time is called.
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log" | "_log") | ast.Attribute(attr="_log"))
                    | ast.Name(id="tell"),
                    args=[ast.Constant(value=str(event))],
                ):
                    if "." in event:  # a path may be called log, too
                        yield event


def test_every_log_event_is_listed():
    events = set(log_events())
    assert len(events) > 20
    listed = set(
        re.findall(r"`([a-z]+\.[a-z_]+)`", page("operations.md").partition("## Logs")[2].partition("\n## ")[0])
    )
    assert listed == events


def test_every_metric_is_listed():
    ours = {id(value) for value in vars(metrics).values()}
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for collector in list(REGISTRY._collector_to_names)
        if id(collector) in ours
        for family in collector.collect()
    }
    assert len(names) > 5
    assert set(re.findall(r"^\| `(relay_[a-z_]+)` \|", page("operations.md"), re.MULTILINE)) == names


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_of_an_attempt_is_named(outcome):
    assert outcome in page("operations.md")


def test_no_two_decisions_share_a_number_and_each_bears_its_own():
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
    assert [path.name for path in records if not path.read_text().startswith(f"# {path.name[:4]}: ")] == []


# Commands, settings, connectors


def settings_in(text):
    return set(re.findall(r"\bRELAY_[A-Z0-9_]*[A-Z0-9]\b", text))


def test_every_setting_that_a_document_names_exists():
    known = settings_in(page("configuration.md"))
    others = {"RELAY_SECRET", "RELAY_LISTEN_SECRET", "RELAY_TEST_KAFKA", "RELAY_TEST_ORDERS", "RELAY_TEST_POSTGRES"}
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        assert settings_in(path.read_text()) - known - others == set(), path.name


def commands(command, path="relay"):
    parts = getattr(command, "commands", {})
    if not parts:
        yield path
    for name, part in parts.items():
        yield from commands(part, f"{path} {name}")


def test_every_command_that_a_document_names_exists():
    root = typer.main.get_command(app)
    known = {tuple(each.split()) for each in commands(root)} | {("relay", "connectors")}
    known |= {("relay", option) for each in root.params for option in each.opts}
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = path.read_text()
        fenced = "".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        for words in [*re.findall(r"^relay ([a-z -]+)", fenced, re.MULTILINE), *re.findall(r"`relay ([a-z -]+)", text)]:
            named = ("relay", *words.split())
            assert any(named[:length] in known for length in (2, 3, 4)), (path.name, named)


@pytest.mark.parametrize("kind", CONNECTORS.values(), ids=CONNECTORS)
def test_a_connectors_page_explains_every_setting(kind):
    text = page(f"connectors/{kind.name}.md")
    assert [name for name in kind.settings.model_fields if f"`{name}`" not in text] == []
