"""Sample commands of each type, and sample results of each outcome: what documents show and people begin with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from relay.domain.commands import Command, CommandType, command_key, read_command
from relay.domain.results import CommandResult, Outcome, Preview, Refusal, RefusalReason, ResultData, result_of
from relay.domain.samples import ORIGIN, SEEN_AT, sample_event

REMOTE_ID = "D MG 01|000123"

_LINE: Mapping[str, Any] = MappingProxyType(
    {
        "item": {"code": "PAR-M8-30"},
        "quantity": "100",
        "unit": "C62",
        "unit_price": "1.25",
        "required_date": "2026-03-20",
    }
)
_SAID: Mapping[CommandType, Mapping[str, Any]] = MappingProxyType(
    {
        CommandType.CREATE: {
            "external_reference": "REQ-2026-0042",
            "order": {
                "branch": {"remote_id": "D MG 01"},
                "vendor": {"code": "FOR001", "site_code": "01"},
                "currency": "BRL",
                "order_date": "2026-03-02",
                "payment_terms": {"code": "030"},
                "notes": "Deliver before noon.",
            },
            "lines": [_LINE],
        },
        CommandType.UPDATE: {
            "expected_version": "20260309142851",
            "order": {"payment_terms": {"code": "045"}, "notes": None},
            "lines": [{"remote_id": "0001", "quantity": "120"}],
        },
        CommandType.ADD_LINES: {"lines": [_LINE]},
        CommandType.UPDATE_LINES: {"lines": [{"remote_id": "0001", "quantity": "120"}]},
        CommandType.CANCEL_LINES: {"lines": ["0001", "0002"]},
        CommandType.CANCEL: {"reason": "Ordered twice."},
        CommandType.CLOSE: {"reason": "The rest will not come."},
        CommandType.APPROVE: {},
        CommandType.REJECT: {"reason": "Over the budget of this month."},
    }
)
"""What each says beside its head."""

_OUTCOMES: Mapping[Outcome, Mapping[str, Any]] = MappingProxyType(
    {
        Outcome.ACCEPTED: {},
        Outcome.APPLIED: {"attempts": 1},
        Outcome.REJECTED: {
            "refusals": (
                Refusal(
                    reason=RefusalReason.WORKFLOW_STATE,
                    field="lines[0].quantity",
                    message="protheus takes another quantity until approved; the order is partially_received",
                    fix="add a line for what is missing, or close the order",
                ),
            ),
            "said": "Pedido com entrega parcial",
        },
        Outcome.UNKNOWN: {"attempts": 1, "said": "timeout"},
        Outcome.EXPIRED: {
            "refusals": (
                Refusal(
                    reason=RefusalReason.UPSTREAM_DOWN,
                    message="the ERP did not answer before the command expired",
                    fix="see that the ERP answers, and send a new command",
                ),
            )
        },
        Outcome.CHECKED: {
            "dry_run": True,
            "would_send": Preview(
                method="PUT",
                path="/rest/orders/000123",
                body={"items": [{"C7_ITEM": "0001", "C7_QUANT": "120"}]},
            ),
        },
    }
)


def sample_command(
    kind: CommandType, command_id: str = "9b2f6c1e-0001", connection_id: str = ORIGIN.connection_id
) -> Command:
    """A filled command of this type."""
    head = {"command_id": command_id, "connection_id": connection_id, "type": kind}
    order = {} if kind is CommandType.CREATE else {"remote_id": REMOTE_ID}
    return read_command({**head, **order, **_SAID[kind]})


def sample_result(outcome: Outcome) -> CommandResult:
    """A result of this outcome, of a command that updates lines."""
    command = sample_command(CommandType.UPDATE_LINES)
    order = sample_event("purchase_order.updated").data.order
    data = ResultData(
        id=command_key(command.connection_id, command.command_id),
        command_id=command.command_id,
        type=command.type,
        customer_id=ORIGIN.customer_id,
        connection_id=command.connection_id,
        remote_id=REMOTE_ID,
        order_id=order.id,
        outcome=outcome,
        order=order if outcome is Outcome.APPLIED else None,
        **_OUTCOMES[outcome],
    )
    return result_of(data, SEEN_AT)
