"""One notice of every type: for the documentation, and to try an endpoint with."""

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from relay.domain.notices import Notice, NoticeType

FAILING_SINCE = dt.datetime(2026, 3, 9, 14, 28, 51, tzinfo=dt.UTC)
HOUR, SUSPENDED_AFTER, DISABLED_AFTER = dt.timedelta(hours=1), dt.timedelta(days=3), dt.timedelta(days=10)

_VALUES: Mapping[NoticeType, Mapping[str, Any]] = MappingProxyType(
    {
        NoticeType.ENDPOINT_FAILING: {
            "occurred_at": FAILING_SINCE + HOUR,
            "failing_since": FAILING_SINCE,
            "after": HOUR,
            "reason": "answered with 503",
        },
        NoticeType.ENDPOINT_SUSPENDED: {
            "occurred_at": FAILING_SINCE + SUSPENDED_AFTER,
            "failing_since": FAILING_SINCE,
            "reason": "answered with 503",
        },
        NoticeType.ENDPOINT_RECOVERED: {"occurred_at": FAILING_SINCE + SUSPENDED_AFTER + HOUR},
        NoticeType.ENDPOINT_DISABLED: {
            "occurred_at": FAILING_SINCE + DISABLED_AFTER,
            "failing_since": FAILING_SINCE,
            "reason": "answered with 503",
        },
        NoticeType.CONNECTION_NEEDS_RECONNECT: {
            "occurred_at": FAILING_SINCE,
            "reason": "the ERP refuses the login of user relay",
        },
        NoticeType.CONNECTION_RECONNECTED: {"occurred_at": FAILING_SINCE + HOUR},
    }
)


def sample_notice(kind: NoticeType) -> Notice:
    """A notice of this type."""
    about, name = (
        ("end_0b7d91c2f4e84a6d8f5e21a3", "warehouse")
        if kind.startswith("endpoint.")
        else ("con_6f0d3c7e1b2a49588d10c4e7", "protheus")
    )
    return Notice(kind, "acme", about, name, **_VALUES[kind])
