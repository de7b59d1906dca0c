"""Settings: spans with units, empty means unset, and errors that name the variable and never its value."""

import traceback
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from relay.app.standing import egress
from relay.domain.egress import Policy, networks, proxy
from relay.domain.errors import UserError
from relay.settings import Settings, Span, load

CANARY = "canary-91ab"
span = TypeAdapter(Span).validate_python


@pytest.fixture
def environment(monkeypatch):
    """Set variables; none of relay's is left from outside."""
    import os  # noqa: PLC0415 - only to clear what is there

    for name in [each for each in os.environ if each.startswith("RELAY_")]:
        monkeypatch.delenv(name)
    return lambda **variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


def refusal():
    with pytest.raises(UserError) as caught:
        load()
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("15s", 15),
        ("2m", 120),
        ("1h", 3600),
        ("3d", 259200),
        ("1.5h", 5400),
        (" 1s ", 1),
        ("PT15S", 15),
        ("0s", 0),
    ],
)
def test_a_span_is_a_number_with_its_unit(text, seconds):
    assert span(text) == timedelta(seconds=seconds)


def test_a_span_in_code_is_a_timedelta():
    assert span(timedelta(seconds=3)) == timedelta(seconds=3)


@pytest.mark.parametrize("text", ["15", "soon", "", "s", "1 s", "-1s", "1s2", "1e3s", "inf"])
def test_a_span_without_a_unit_is_refused_with_examples(text):
    with pytest.raises(ValidationError, match="write a time span as 250ms, 15s, 2m, 1h, 3d or PT15S"):
        span(text)


@pytest.mark.parametrize(("text", "says"), [("-PT1S", "cannot be negative"), ("99999999999999d", "too long")])
def test_a_span_that_cannot_be_is_refused(text, says):
    with pytest.raises(ValidationError, match=says):
        span(text)


@given(st.text(max_size=12))
def test_any_text_is_a_span_or_clearly_none(text):
    try:
        assert span(text) >= timedelta(0)
    except ValidationError:
        return


def test_without_variables_everything_has_its_default(environment):
    environment()
    settings = load()
    assert settings == Settings()
    assert (settings.database.url, settings.deliver.deadline) == (None, timedelta(seconds=15))


def test_variables_are_named_by_room(environment):
    environment(RELAY_DELIVER__DEADLINE="3s", RELAY_KAFKA__BOOTSTRAP="k:9092", RELAY_DRAIN="1m", RELAY_DATA="/x")
    settings = load()
    assert (settings.deliver.deadline, settings.kafka.bootstrap) == (timedelta(seconds=3), "k:9092")
    assert (settings.drain, str(settings.data)) == (timedelta(minutes=1), "/x")


def test_an_empty_variable_is_an_unset_one(environment):
    environment(RELAY_DATABASE__URL="", RELAY_LOG__JSON_LINES="", RELAY_DELIVER__DEADLINE="")
    assert load() == Settings()
    assert load().database.url is None


def test_each_wrong_variable_is_named_with_its_reason(environment):
    environment(RELAY_HTTP__PORT=CANARY, RELAY_DELIVER__DEADLINE=CANARY, RELAY_KAFKA__PROTOCOL=CANARY)
    said = refusal()
    assert "RELAY_HTTP__PORT: Input should be a valid integer" in said
    assert "RELAY_DELIVER__DEADLINE: write a time span as" in said
    assert "RELAY_KAFKA__PROTOCOL: Input should be 'PLAINTEXT'" in said


def test_a_misspelt_variable_of_a_room_is_named(environment):
    environment(RELAY_DELIVER__DEADLIN=CANARY)
    assert "RELAY_DELIVER__DEADLIN: Extra inputs are not permitted" in refusal()


@pytest.mark.parametrize("value", [CANARY, "{" + CANARY, f'{{"url": "{CANARY}", "x": "{CANARY}"}}'])
def test_a_room_that_is_set_as_a_whole_and_cannot_be_read_is_named(environment, value):
    environment(RELAY_DATABASE=value)
    assert "database" in refusal().lower()


def test_secrets_are_shown_nowhere(environment):
    environment(
        RELAY_DATABASE__URL=f"postgresql://relay:{CANARY}@h/d",
        RELAY_KAFKA__PASSWORD=CANARY,
        RELAY_VAULT__MASTER_KEY=CANARY,
    )
    settings = load()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert CANARY not in shown


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        Settings().drain = timedelta(0)


def test_every_setting_says_what_it_is_for():
    for name, room in Settings.model_fields.items():
        fields = getattr(room.annotation, "model_fields", None) or {name: room}
        assert all(field.description for field in fields.values()), name


def test_networks_and_ports_of_egress_are_comma_separated_and_a_worker_refuses_private_ones(environment):
    environment(
        RELAY_DATABASE__URL="postgresql://db/relay",
        RELAY_EGRESS__ALLOW="10.1.0.0/16, fd00::/8",
        RELAY_EGRESS__DENY="1.1.1.1",
        RELAY_EGRESS__PORTS="443,8443",
    )
    assert egress(load()) == Policy(networks("10.1.0.0/16,fd00::/8"), networks("1.1.1.1"), frozenset({443, 8443}))


def test_a_proxy_is_a_secret_and_is_read_when_settings_are(environment):
    environment(RELAY_EGRESS__PROXY=f"http://us:{CANARY}@proxy.example:3128", RELAY_EGRESS__PROXY_RESOLVES="true")
    settings = load()
    assert CANARY not in repr(settings) + repr(egress(settings)) + settings.model_dump_json()
    assert egress(settings).proxy == proxy(f"http://us:{CANARY}@proxy.example:3128", resolves=True)
    environment(RELAY_EGRESS__PROXY=f"socks5://{CANARY}")
    assert "RELAY_EGRESS__PROXY: write the proxy as http://host:port" in refusal()


def test_without_a_database_of_ones_own_private_networks_are_allowed_and_otherwise_by_a_setting(environment):
    environment()
    assert egress(load()).allow_private
    environment(RELAY_DATABASE__URL="postgresql://db/relay")
    assert not egress(load()).allow_private
    environment(RELAY_EGRESS__PRIVATE="true")
    assert egress(load()).allow_private


def test_networks_and_ports_that_cannot_be_read_are_named_and_not_repeated(environment):
    environment(RELAY_EGRESS__ALLOW=f"10.0.0.0/8,{CANARY}", RELAY_EGRESS__DENY=CANARY, RELAY_EGRESS__PORTS=CANARY)
    text = refusal()
    assert "RELAY_EGRESS__ALLOW: entry 2 is not a network" in text
    assert "RELAY_EGRESS__DENY: entry 1 is not a network" in text
    assert "RELAY_EGRESS__PORTS: entry 1 is not a port" in text
