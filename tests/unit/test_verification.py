"""What an endpoint must prove before its first delivery, decided without a network."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.advice import advice
from relay.domain.deliveries import Answer
from relay.domain.endpoints import EndpointOptions, Verification
from relay.domain.events import EVENT_TYPES
from relay.domain.notices import CONNECTION_TYPES
from relay.domain.results import RESULT_TYPES
from relay.domain.trials import trial_event
from relay.domain.verification import (
    LONGEST_WAIT,
    Permission,
    challenge_body,
    handshake_headers,
    judge_challenge,
    judge_handshake,
    limit,
    next_try,
    proof,
)
from tests.fakes import endpoint

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TEXT = "a-random-text"
PLAIN = EndpointOptions()


def test_a_challenge_looks_like_an_event():
    assert orjson.loads(challenge_body(TEXT, NOW)) == {
        "type": "endpoint.challenge",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {"challenge": TEXT},
    }


@pytest.mark.parametrize(
    "body",
    [TEXT, f"  {TEXT}\r\n", f'"{TEXT}"', f'{{"challenge": "{TEXT}"}}', f'{{"ok": true, "challenge": "{TEXT}"}}\n'],
)
@pytest.mark.parametrize("status", [200, 201, 299])
def test_the_text_may_come_back_bare_or_as_json(body, status):
    assert judge_challenge(TEXT, Answer(status=status, excerpt=body.encode())).problem == ""


@pytest.mark.parametrize(
    "body", ["", "ok", "{", "[]", "3", '{"challenge": 3}', '{"challenge": "other"}', TEXT + "x", "\x00", '{"data": 1}']
)
def test_a_2xx_without_the_text_proves_nothing_and_says_what_to_answer(body):
    problem = judge_challenge(TEXT, Answer(status=200, excerpt=body.encode())).problem
    assert "without its text" in problem
    assert "endpoint.challenge" in problem


def test_a_server_that_sends_back_whatever_comes_proves_nothing():
    assert judge_challenge(TEXT, Answer(status=200, excerpt=challenge_body(TEXT, NOW))).problem


@given(st.binary(max_size=200))
def test_whatever_comes_back_is_judged(body):
    assert judge_challenge(TEXT, Answer(status=200, excerpt=body)).problem


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(status=404), "404: there is nothing at this path"),
        (Answer(status=301, location="https://new.example/"), "redirects are not followed: give the final URL, which"),
        (Answer(error="timeout", detail="not connected in time"), "timeout: no answer in time"),
        (Answer(status=200, error="reset"), "reset: the connection was closed"),
    ],
)
def test_no_2xx_is_no_proof_whatever_it_holds(answer, says):
    held = Answer(
        status=answer.status,
        error=answer.error,
        detail=answer.detail,
        location=answer.location,
        excerpt=TEXT.encode(),
    )
    assert says in judge_challenge(TEXT, held).problem
    assert says in judge_handshake("relay", PLAIN, Permission(held, "*", "*")).problem


def test_the_handshake_asks_for_a_rate_only_when_one_is_set():
    assert handshake_headers("hub.example", PLAIN) == {"webhook-request-origin": "hub.example"}
    asked = [
        handshake_headers("hub.example", EndpointOptions(per_second=each))["webhook-request-rate"]
        for each in (2, 0.5, 0.001)
    ]
    assert asked == ["120", "30", "1"]


def asked(origin="*", rate="*", allow="", status=200, per_second=1.0):
    options = EndpointOptions(per_second=per_second)
    return judge_handshake("hub.example", options, Permission(Answer(status=status), origin, rate, allow))


@pytest.mark.parametrize("origin", ["*", "hub.example", "HUB.example"])
@pytest.mark.parametrize("allow", ["", "POST", "options, post,GET"])
def test_permission_is_given_to_us_by_name_or_to_everybody(origin, allow):
    verdict = asked(origin, allow=allow)
    assert (verdict.problem, verdict.per_minute) == ("", None)


def test_the_allowed_rate_is_told():
    assert asked(rate="100").per_minute == 100


def test_a_rate_that_was_not_asked_for_may_be_missing():
    assert asked(rate="", per_second=None).problem == ""
    assert "WebHook-Allowed-Rate is missing" in asked(rate="").problem


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"origin": ""}, "WebHook-Allowed-Origin is missing: it must be 'hub.example' or '*'"),
        ({"origin": "other.example"}, "WebHook-Allowed-Origin is 'other.example'"),
        ({"origin": "x" * 500}, f"{'x' * 60}...'"),
        ({"rate": "0"}, "WebHook-Allowed-Rate is '0'"),
        ({"rate": "-1"}, "WebHook-Allowed-Rate is '-1'"),
        ({"rate": "1.5"}, "WebHook-Allowed-Rate is '1.5'"),
        ({"rate": "9" * 10}, "WebHook-Allowed-Rate is"),
        ({"rate": "many"}, "number of webhooks per minute"),
        ({"allow": "GET, OPTIONS"}, "Allow is 'GET, OPTIONS': it must hold POST"),
        ({"status": 405}, "405: this path does not take the method"),
    ],
)
def test_what_is_wrong_with_a_handshake_is_said(values, says):
    assert says in asked(**values).problem


def test_the_smaller_limit_counts():
    def of(per_second, per_minute):
        return limit(endpoint(options=EndpointOptions(per_second=per_second), allowed_per_minute=per_minute))

    assert [of(None, None), of(5, None), of(None, 30), of(5, 30), of(0.1, 30)] == [None, 5, 0.5, 0.5, 0.1]


def test_a_proof_is_for_one_url_and_one_kind():
    proofs = {
        proof(kind, url)
        for kind in (Verification.CHALLENGE, Verification.CLOUDEVENTS)
        for url in ("https://a.example/", "https://a.example/b")
    }
    assert len(proofs) == 4
    assert proof(Verification.NONE, "https://a.example/") == ""


def test_tries_follow_the_schedule_and_then_its_last_wait_an_hour_at_most():
    def waits(options, tries):
        return [(next_try(each, options, now=NOW, dice=0.5, retry_after=None) - NOW).total_seconds() for each in tries]

    assert waits(PLAIN, [1, 2, 3, 6, 11, 12, 500]) == [5, 30, 120, 3600, 3600, 3600, 3600]
    short = EndpointOptions(schedule=[timedelta(0), timedelta(seconds=2), timedelta(seconds=7)])
    assert waits(short, [1, 2, 3, 4]) == [2, 7, 7, 7]
    assert waits(EndpointOptions(schedule=[timedelta(0)]), [1, 2]) == [3600, 3600]


def test_a_receiver_that_asks_to_be_left_alone_is():
    assert next_try(1, PLAIN, now=NOW, dice=0.5, retry_after=7200) - NOW == timedelta(hours=2)


@given(st.integers(1, 1000), st.lists(st.timedeltas(timedelta(0), timedelta(days=7)), max_size=5), st.floats(0, 1))
def test_there_is_always_a_next_try_and_never_at_once(tries, schedule, dice):
    wait = next_try(tries, EndpointOptions(schedule=schedule), now=NOW, dice=dice, retry_after=None) - NOW
    assert timedelta(seconds=1) <= wait <= LONGEST_WAIT * 1.25


@pytest.mark.parametrize("status", [200, 204, 299])
def test_there_is_nothing_to_advise_about_success(status):
    assert advice(Answer(status=status)) == ""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(status=308), "308: redirects are not followed"),
        (Answer(status=401), "401: the receiver refuses the signature"),
        (Answer(status=418), "418: the receiver refuses the webhook"),
        (Answer(status=503), "503: the receiver failed"),
        (Answer(status=999), "999: this is no status that HTTP knows"),
        (Answer(), "0: this is no status"),
        (Answer(error="tls", detail="certificate has expired"), "tls: the certificate is not accepted"),
        (Answer(error="unheard of"), "unheard of: the webhook was not answered"),
    ],
)
def test_every_other_answer_is_explained(answer, says):
    assert advice(answer).startswith(says)
    assert answer.detail in advice(answer)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_sample_for_a_test_names_its_own_id_and_the_endpoints_customer(event_type):
    message_id, event = trial_event(event_type, "globex", "0a1b", NOW)
    assert (message_id, event.data.event_id, event.type, event.timestamp) == (
        "test_0a1b",
        "test_0a1b",
        event_type,
        NOW,
    )
    assert event.data.customer_id == event.data.order.customer_id == "globex"


@pytest.mark.parametrize("event_type", RESULT_TYPES)
def test_a_sample_result_for_a_test_names_the_endpoints_customer(event_type):
    message_id, event = trial_event(event_type, "globex", "0a1b", NOW)
    assert (message_id, event.type, event.timestamp, event.data.customer_id) == ("test_0a1b", event_type, NOW, "globex")


@pytest.mark.parametrize("event_type", CONNECTION_TYPES)
def test_a_sample_notice_for_a_test_names_its_own_id_and_the_endpoints_customer(event_type):
    message_id, event = trial_event(event_type, "globex", "0a1b", NOW)
    assert (message_id, event.type, event.timestamp) == ("test_0a1b", event_type, NOW)
    assert (event.data.notice_id, event.data.customer_id) == ("test_0a1b", "globex")
