"""What the doctor says of a connection and of an endpoint, from what the store knows of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.control.doctor import connection_finding, endpoint_finding
from relay.control.findings import Verdict
from relay.domain.connections import ConnectionState
from relay.domain.endpoints import EndpointOptions, EndpointState, Health, Verification
from relay.store.named import Sighting
from tests.fixtures.store import connection_named, endpoint_named

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROVES = EndpointOptions(verification=Verification.CHALLENGE)


def connection(problem=None, notices=(), polled_at=NOW - timedelta(minutes=3), **changes):
    seen = Sighting(replace(connection_named("erp"), **changes), problem, {}, polled_at, notices)
    return connection_finding(seen, NOW)


def endpoint(problem=None, host="", **changes):
    return endpoint_finding(Sighting(replace(endpoint_named("hook"), **changes), problem, {}), host, NOW)


@pytest.mark.parametrize(
    ("found", "verdict", "says", "advice"),
    [
        (connection(), Verdict.WELL, "read 3 min ago", ""),
        (connection(polled_at=None), Verdict.WELL, "not read yet", ""),
        (connection(notices=("currency 7 is unknown",)), Verdict.NOTICE, "currency 7 is unknown", "field mapping"),
        (connection("no answer", failures=2), Verdict.TROUBLE, "no answer", "ERP runs"),
        (connection(failures=2), Verdict.TROUBLE, "2 polls in a row failed", "ERP runs"),
        (connection("key `k1` is missing"), Verdict.TROUBLE, "key `k1` is missing", "connections show"),
        (connection(state=ConnectionState.NEEDS_RECONNECT), Verdict.TROUBLE, "refuses the login", "reconnect"),
        (connection(state=ConnectionState.PAUSED), Verdict.NOTICE, "paused: it is not polled", ""),
        (endpoint(), Verdict.WELL, "nothing stands in the way", ""),
        (endpoint(host="x.example leads nowhere"), Verdict.TROUBLE, "x.example leads nowhere", "DNS"),
        (endpoint("cannot be opened"), Verdict.TROUBLE, "cannot be opened", "endpoints test"),
        (endpoint(state=EndpointState.DISABLED), Verdict.NOTICE, "disabled: by a person", "endpoints enable"),
        (endpoint("410 Gone", state=EndpointState.DISABLED), Verdict.NOTICE, "disabled: 410 Gone", "enable"),
        (endpoint(state=EndpointState.SUSPENDED), Verdict.TROUBLE, "suspended after days", "endpoints test"),
        (
            endpoint(health=Health(failing_since=NOW - timedelta(hours=3))),
            *(Verdict.TROUBLE, "every attempt has failed, the first 3 h ago", "endpoints test"),
        ),
        (endpoint(options=PROVES), Verdict.TROUBLE, "has not proved yet", "endpoints test"),
        (endpoint(options=PROVES, verified=True), Verdict.WELL, "nothing stands in the way", ""),
    ],
)
def test_each_state_has_its_finding_and_what_to_do(found, verdict, says, advice):
    assert found.verdict is verdict
    assert says in found.says
    assert advice in found.advice
    assert bool(found.advice) or verdict is not Verdict.TROUBLE
