"""Health: what relay says and does about an endpoint that takes nothing for hours and days.

    failing for 1 h, 24 h -> a notice each -> suspended after `disable_after` -> disabled 7 days later
    delivered             -> recovered, at any time before that

A suspended endpoint is sent one probe an hour, which is a real delivery; what waits is kept all the time. Only attempts
are judged: an endpoint that nothing is sent to neither fails nor recovers.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from relay.domain.endpoints import EndpointState, Health
from relay.domain.notices import NoticeType

NOTICES = (timedelta(hours=1), timedelta(hours=24))
PROBED_FOR = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The health after some attempts; `notice` and `state` are None when nothing is to be told or changed."""

    health: Health
    at: datetime
    notice: NoticeType | None = None
    state: EndpointState | None = None
    problem: str | None = None
    """What people should know from now on; None: nothing."""

    @property
    def after(self) -> timedelta | None:
        """How long it has failed, for a notice of that."""
        return self.health.noticed if self.notice is NoticeType.ENDPOINT_FAILING else None


def judged(health: Health, *, delivered: bool, now: datetime, disable_after: timedelta) -> Verdict | None:
    """The health after attempts that ended `now`: at least one of them was delivered, or none was.

    None: it is as it was.
    """
    if delivered:
        return _recovered(health, now)
    since = health.failing_since or now
    failing, lasted = replace(health, failing_since=since), now - since
    if health.suspended_at is not None:
        return _probed_in_vain(failing, now, health.suspended_at)
    if lasted >= disable_after:
        return Verdict(
            replace(failing, suspended_at=now),
            now,
            NoticeType.ENDPOINT_SUSPENDED,
            EndpointState.SUSPENDED,
            f"nothing was delivered since {_when(since)}: one probe an hour is sent until one is taken; mend the "
            "receiver, then `relay endpoints enable` sends at once",
        )
    step = max((each for each in NOTICES if each <= lasted), default=timedelta(0))
    if step > health.noticed:
        problem = f"nothing was delivered since {_when(since)}"
        return Verdict(replace(failing, noticed=step), now, NoticeType.ENDPOINT_FAILING, problem=problem)
    return None if failing == health else Verdict(failing, now)


def _recovered(health: Health, now: datetime) -> Verdict | None:
    if health == Health():
        return None
    told = health.noticed or health.suspended_at
    return Verdict(
        Health(),
        now,
        NoticeType.ENDPOINT_RECOVERED if told else None,
        EndpointState.ACTIVE if health.suspended_at else None,
    )


def _probed_in_vain(failing: Health, now: datetime, suspended_at: datetime) -> Verdict | None:
    if now - suspended_at < PROBED_FOR:
        return None
    since = _when(failing.failing_since or suspended_at)
    problem = f"nothing was delivered since {since}: given up; `relay endpoints enable` sends again"
    return Verdict(failing, now, NoticeType.ENDPOINT_DISABLED, EndpointState.DISABLED, problem)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
