"""Where an order stands: the status map's word, made finer by what has come. Lines are canonical fields so far."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.domain.orders import ApprovalStatus, LineStatus, ReceiptStatus, Status

Record = Mapping[str, Any]

_OVER: Final = frozenset({Status.RECEIVED, Status.CLOSED})


def order_status(status: Status, lines: Sequence[Record]) -> Status:
    """The status map's, made finer by what has come: an open order's, and that of one that RM says is finished."""
    counted = [line for line in lines if line.get("received_quantity") is not None]
    if status is Status.RECEIVED and any(line["open_quantity"] > 0 for line in counted):
        return Status.CLOSED
    if status is not Status.APPROVED or not any(line["received_quantity"] for line in counted):
        return status
    return Status.RECEIVED if all(line["open_quantity"] <= 0 for line in counted) else Status.PARTIALLY_RECEIVED


def line_status(line: Record, order: Status) -> LineStatus:
    """Where a line stands."""
    if order is Status.CANCELLED:
        return LineStatus.CANCELLED
    received, still = line.get("received_quantity"), line.get("open_quantity")
    if received and not (still and still > 0):
        return LineStatus.RECEIVED
    if order in _OVER:
        return LineStatus.CLOSED
    return LineStatus.PARTIALLY_RECEIVED if received else LineStatus.OPEN


def receipt_status(lines: Sequence[Record], order: Status) -> ReceiptStatus | None:
    """How much of the order has come; None when no line says."""
    counted = [line for line in lines if line.get("received_quantity") is not None]
    if not counted:
        return None
    if all(line["received_quantity"] and line["open_quantity"] <= 0 for line in counted):
        return ReceiptStatus.FULL
    if order in _OVER:
        return ReceiptStatus.CLOSED_SHORT
    return ReceiptStatus.PARTIAL if any(line["received_quantity"] for line in counted) else ReceiptStatus.NONE


def approval_status(status: Status) -> ApprovalStatus | None:
    """Where the approval stands: RM tells only of orders that wait for one."""
    match status:
        case Status.PENDING_APPROVAL:
            return ApprovalStatus.PENDING
        case Status.REJECTED:
            return ApprovalStatus.REJECTED
        case Status.APPROVED | Status.PARTIALLY_RECEIVED | Status.RECEIVED | Status.CLOSED:
            return ApprovalStatus.APPROVED
    return None
