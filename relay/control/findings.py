"""Findings: how one thing is that the doctor looked at, and what to do about it."""

from datetime import datetime, timedelta
from enum import StrEnum

from relay.control.telling import span
from relay.control.views import View
from relay.store.vitals import Vitals

DOUBT_TOO_LONG = timedelta(minutes=10)
"""A command whose outcome is open for longer: the ERP cannot be asked, or does not answer."""


class Verdict(StrEnum):
    """How one thing is: well; worth knowing; or in trouble, which needs somebody."""

    WELL = "well"
    NOTICE = "notice"
    TROUBLE = "trouble"


class Finding(View):
    """One thing that was looked at. `advice` says what to do, unless it is well."""

    subject: str
    verdict: Verdict
    says: str
    advice: str = ""


class Examination(View):
    """Everything that was looked at; `verdict` is the worst of all."""

    verdict: Verdict
    findings: tuple[Finding, ...]


def well(subject: str, says: str) -> Finding:
    """Nothing to do."""
    return Finding(subject=subject, verdict=Verdict.WELL, says=says)


def trouble(subject: str, says: str, advice: str) -> Finding:
    """Somebody must do something."""
    return Finding(subject=subject, verdict=Verdict.TROUBLE, says=says, advice=advice)


def commands_finding(look: Vitals) -> Finding:
    """Whether there are commands of which nobody knows if they were done."""
    if look.doubtful_since is not None and look.now - look.doubtful_since > DOUBT_TOO_LONG:
        open_for = _span(look.now, look.doubtful_since)
        return trouble(
            "commands",
            f"the outcome of one is open for {open_for}: it was sent, and the ERP does not say whether it was done",
            "See that the ERP answers; `relay commands list --state sending` shows what is asked for",
        )
    if look.unknown:
        several = f"{look.unknown} commands ended" if look.unknown > 1 else "1 command ended"
        return Finding(
            subject="commands",
            verdict=Verdict.NOTICE,
            says=f"{several} as unknown in the last week: nobody knows whether the ERP has done what was asked",
            advice="`relay commands list --outcome unknown`: look into the ERP, and send anew what was not done",
        )
    return well("commands", "what became of each is known")


def _span(now: datetime, since: datetime) -> str:
    return span((now - since).total_seconds())
