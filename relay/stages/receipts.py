"""Receipts: how one go at a command ended, and what an ERP's error means for it.

Receipt  it is over: applied, rejected, checked, expired, unknown
Again    it goes on later; with `doubt` it may have been done
"""

from dataclasses import dataclass

from relay.domain.errors import (
    CredentialsRefused,
    Permanent,
    RecordRejected,
    Throttled,
    Transient,
    Unavailable,
    Unsupported,
)
from relay.domain.orders import PurchaseOrder
from relay.domain.results import Outcome, Preview, Refusal, RefusalReason, WriteRefused
from relay.ports import OpenCommand


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a command ended. `order` is as it was read back, unless it is `gone` or could not be.

    `refused` is set when the ERP refused the login on the way; `late` when others may have seen what was done before.
    """

    outcome: Outcome
    remote_id: str | None = None
    order: PurchaseOrder | None = None
    gone: bool = False
    late: bool = False
    refusals: tuple[Refusal, ...] = ()
    said: str = ""
    preview: Preview | None = None
    refused: CredentialsRefused | None = None

    @property
    def well(self) -> bool:
        """Whether the ERP answered."""
        return self.refused is None and self.outcome in {Outcome.APPLIED, Outcome.CHECKED, Outcome.REJECTED}


@dataclass(frozen=True, slots=True)
class Again:
    """It goes on later. `error` is the ERP's trouble, if there is any.

    `written` is the order's remote id once it was surely written.
    """

    problem: str
    doubt: bool
    error: Transient | Permanent | None = None
    written: str | None = None


def failed(error: Transient | Permanent, *, doubt: bool) -> Receipt | Again:
    """What follows from an error of the ERP. With `doubt` it may have been done, unless the error says that it was not.

    An answer that nobody understands (a page of HTML, say) is taken for trouble on the way, and tried again.
    """
    match error:
        case WriteRefused():
            return Receipt(Outcome.REJECTED, refusals=error.refusals, said=error.said)
        case CredentialsRefused() | Unsupported():
            return Receipt(
                Outcome.REJECTED,
                refusals=(_refusal(error),),
                refused=error if isinstance(error, CredentialsRefused) else None,
            )
        case RecordRejected() if not doubt:
            return Receipt(Outcome.REJECTED, refusals=(_refusal(error),))
        case Throttled():
            return Again(problem(error), doubt=False, error=error)
        case _:
            unsent = isinstance(error, Unavailable) and error.unsent
            return Again(problem(error), doubt=doubt and not unsent, error=error)


def _refusal(error: Permanent) -> Refusal:
    match error:
        case CredentialsRefused():
            fix = "Reconnect the connection, then send a new command"
            return Refusal(reason=RefusalReason.AUTH_REQUIRED, message=str(error), fix=fix)
        case Unsupported():
            return Refusal(reason=RefusalReason.NOT_PERMITTED, message=str(error))
        case _:
            message = f"the order cannot be read: {error}"
            return Refusal(
                reason=RefusalReason.VALIDATION, field="remote_id", message=message, fix="Mend it in the ERP first"
            )


def problem(error: Transient | Permanent) -> str:
    """The class of its reason, and its words."""
    match error:
        case Throttled():
            reason = RefusalReason.RATE_LIMITED
        case CredentialsRefused():
            reason = RefusalReason.AUTH_REQUIRED
        case _:
            reason = RefusalReason.UPSTREAM_DOWN
    return f"{reason}: {error}"


def expired(work: OpenCommand) -> Receipt:
    """Its time ran out; its last problem says what it waited for."""
    reason, _, words = work.problem.partition(": ")
    if reason not in set(RefusalReason) or not words:
        return Receipt(Outcome.EXPIRED)
    return Receipt(Outcome.EXPIRED, refusals=(Refusal(reason=RefusalReason(reason), message=words),))


def unknown(work: OpenCommand, why: str) -> Receipt:
    """It was sent, and nobody can tell whether it was done."""
    refusal = Refusal(
        reason=RefusalReason.UPSTREAM_DOWN,
        message=f"it was sent at {work.sent_at:%Y-%m-%dT%H:%M:%SZ} and nobody can tell whether it was done: {why}",
        fix="Look into the ERP; send a new command if it was not done",
    )
    return Receipt(Outcome.UNKNOWN, refusals=(refusal,))
