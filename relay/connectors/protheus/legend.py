"""Where an order stands, from its rows: the legend of MATA121, aggregated.

C7_RESIDUO filled -> eliminated;  C7_CONAPRO = 'B' -> blocked;  then by quantity: pending, partial, received
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from relay.domain.orders import ApprovalStatus, LineStatus, ReceiptStatus, Status

APPROVALS: Final = {
    "": ApprovalStatus.NOT_REQUIRED,
    "L": ApprovalStatus.APPROVED,
    "B": ApprovalStatus.PENDING,
    "R": ApprovalStatus.REJECTED,
}
"""Meaning of C7_CONAPRO; `R` exists in newer releases only."""

STATUSES: Final[Mapping[str, Status]] = {
    "": Status.APPROVED,
    "L": Status.APPROVED,
    "B": Status.PENDING_APPROVAL,
    "R": Status.REJECTED,
}
"""Status of an open order by C7_CONAPRO, before anything was received."""

_APPROVAL_BY_STATUS: Final = {
    Status.APPROVED: ApprovalStatus.APPROVED,
    Status.PENDING_APPROVAL: ApprovalStatus.PENDING,
    Status.REJECTED: ApprovalStatus.REJECTED,
}
_STRICTEST: Final[tuple[Status, ...]] = (Status.OTHER, Status.REJECTED, Status.PENDING_APPROVAL, *Status)
_STRICTEST_APPROVAL: Final = (
    ApprovalStatus.REJECTED,
    ApprovalStatus.PENDING,
    ApprovalStatus.APPROVED,
    ApprovalStatus.NOT_REQUIRED,
)
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Standing:
    """What one row says about where it stands; quantities are None when the user may not see them."""

    ordered: Decimal | None
    received: Decimal | None
    pre_received: Decimal | None = None
    residue: str = ""
    closed: str = ""
    approval: str | None = ""
    deleted: bool = False

    @property
    def complete(self) -> bool:
        """Everything ordered has been received."""
        return bool(self.received and self.ordered is not None and self.received >= self.ordered)

    @property
    def over(self) -> bool:
        """Nothing more is expected: received, balance eliminated, or closed."""
        return self.complete or bool(self.residue or self.closed)

    @property
    def open_quantity(self) -> Decimal | None:
        """C7_QUANT - C7_QUJE - C7_QTDACLA, never below zero; nothing once the balance is eliminated."""
        if self.ordered is None or self.received is None:
            return None
        if self.residue or self.closed:
            return _ZERO
        return max(_ZERO, self.ordered - self.received - (self.pre_received or _ZERO))

    @property
    def cancelled_quantity(self) -> Decimal | None:
        """What an elimination of the balance took away."""
        if self.ordered is None or self.received is None:
            return None
        return max(_ZERO, self.ordered - self.received) if self.residue else _ZERO


def line_status(row: Standing) -> LineStatus:
    """The status of one line."""
    if row.deleted:
        return LineStatus.CANCELLED
    if row.complete:
        return LineStatus.RECEIVED
    if row.over:
        return LineStatus.CLOSED
    return LineStatus.PARTIALLY_RECEIVED if row.received else LineStatus.OPEN


def order_status(rows: Sequence[Standing], statuses: Mapping[str, Status] = STATUSES) -> Status:
    """The status of an order: of its living rows, or deleted when none lives."""
    living = [row for row in rows if not row.deleted]
    approvals = {row.approval or "" for row in living if not row.over}
    if not living:
        return Status.DELETED
    if all(row.over for row in living):
        return Status.RECEIVED if all(row.complete and not row.residue for row in living) else Status.CLOSED
    found = {statuses.get(approval, Status.OTHER) for approval in approvals} - {Status.APPROVED}
    if found:
        return next(status for status in _STRICTEST if status in found)
    return Status.PARTIALLY_RECEIVED if any(row.received for row in living) else Status.APPROVED


def approval_status(rows: Sequence[Standing], statuses: Mapping[str, Status] = STATUSES) -> ApprovalStatus | None:
    """The strictest approval of the rows that count; None when it cannot be told."""
    found = {_approval(row.approval, statuses) for row in _counting(rows)}
    return None if None in found else next(each for each in _STRICTEST_APPROVAL if each in found)


def unmapped(rows: Sequence[Standing], statuses: Mapping[str, Status]) -> frozenset[str]:
    """The approval codes of open rows that mean nothing here."""
    return frozenset(row.approval or "" for row in rows if not row.deleted and not row.over) - statuses.keys()


def _approval(code: str | None, statuses: Mapping[str, Status]) -> ApprovalStatus | None:
    if code is None:
        return None
    told = statuses.get(code)
    return APPROVALS.get(code) if told == STATUSES.get(code) or told is None else _APPROVAL_BY_STATUS.get(told)


def receipt_status(rows: Sequence[Standing]) -> ReceiptStatus | None:
    """How much of the order has come; None when the user may not see quantities."""
    counting = _counting(rows)
    if any(row.ordered is None or row.received is None for row in counting):
        return None
    if all(row.complete for row in counting):
        return ReceiptStatus.FULL
    if all(row.over for row in counting):
        return ReceiptStatus.CLOSED_SHORT
    return ReceiptStatus.PARTIAL if any(row.received for row in counting) else ReceiptStatus.NONE


def raw_status(rows: Sequence[Standing]) -> str | None:
    """The codes behind the status as the ERP holds them, for example `C7_CONAPRO=L C7_RESIDUO=S`."""
    counting = _counting(rows)
    columns = {
        "C7_CONAPRO": {row.approval or "" for row in counting},
        "C7_RESIDUO": {row.residue for row in counting},
        "C7_ENCER": {row.closed for row in counting},
    }
    return " ".join(f"{name}={code}" for name, codes in columns.items() for code in sorted(codes) if code) or None


def _counting(rows: Sequence[Standing]) -> list[Standing]:
    """The living rows; all of them when the whole order is deleted."""
    return [row for row in rows if not row.deleted] or list(rows)
