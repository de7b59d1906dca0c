from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from relay.domain.endpoints import EndpointState, Health
from relay.domain.health import NOTICES, PROBED_FOR, judged
from relay.domain.notices import NoticeType

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR, DAYS = timedelta(hours=1), timedelta(hours=72)


def after(*steps):
    """The notices of attempts at (hours, delivered), the states that they led to, and the health at the end."""
    health, told, states = Health(), [], []
    for hours, delivered in steps:
        verdict = judged(health, delivered=delivered, now=START + hours * HOUR, disable_after=DAYS)
        if verdict:
            health = verdict.health
            told += [(verdict.notice.removeprefix("endpoint."), verdict.after)] if verdict.notice else []
            states += [verdict.state] if verdict.state else []
    return told, states, health


def test_an_endpoint_that_takes_what_it_is_sent_has_no_story():
    assert judged(Health(), delivered=True, now=START, disable_after=DAYS) is None
    assert after((0, True), (1, True)) == ([], [], Health())


def test_a_failure_is_remembered_from_its_first_attempt_and_told_after_an_hour_and_a_day():
    told, states, health = after((0, False), (0.5, False), (1, False), (2, False), (24, False), (30, False))
    assert told == [("failing", HOUR), ("failing", 24 * HOUR)]
    assert (states, health.failing_since) == ([], START)


def test_a_failure_that_nobody_was_told_of_ends_in_silence_and_another_is_told():
    assert after((0, False), (0.5, True)) == ([], [], Health())
    assert after((0, False), (1, False), (2, True))[0][-1] == ("recovered", None)


def test_after_days_it_is_suspended_and_a_delivered_probe_makes_it_active_again():
    told, states, health = after((0, False), (72, False), (73, False), (74, True))
    assert [name for name, _ in told] == ["suspended", "recovered"]
    assert (states, health) == ([EndpointState.SUSPENDED, EndpointState.ACTIVE], Health())


def test_it_is_given_up_when_probes_have_failed_for_a_week():
    told, states, health = after((0, False), (72, False), (72 + 24 * 7, False))
    assert [name for name, _ in told] == ["suspended", "disabled"]
    assert states[-1] is EndpointState.DISABLED
    assert health.failing_since == START


def test_people_are_told_since_when_and_what_to_do():
    verdict = judged(Health(START), delivered=False, now=START + DAYS, disable_after=DAYS)
    assert "2026-03-01 12:00 UTC" in verdict.problem
    assert "relay endpoints enable" in verdict.problem


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=40))
def test_no_story_suspends_early_or_tells_twice(steps):
    health, now, fails_since, told = Health(), START, None, []
    for hours, delivered in steps:
        now += hours * HOUR
        verdict = judged(health, delivered=delivered, now=now, disable_after=DAYS)
        fails_since = None if delivered else fails_since or now
        health = verdict.health if verdict else health
        assert health.failing_since == fails_since
        if delivered:
            told.clear()
        if verdict and verdict.notice:
            told.append((verdict.notice, verdict.after))
            assert len(told) == len(set(told)) or verdict.notice is NoticeType.ENDPOINT_DISABLED
        if verdict and verdict.state is EndpointState.SUSPENDED:
            assert now - fails_since >= DAYS
        if verdict and verdict.state is EndpointState.DISABLED:
            assert now - health.suspended_at >= PROBED_FOR
        assert health.noticed in {timedelta(0), *NOTICES}
