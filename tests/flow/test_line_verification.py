"""Through a real worker: what waits for an endpoint that has not proved itself is delivered when it does, in order."""

from datetime import timedelta

import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.demo.received import Kind
from relay.domain.endpoints import EndpointOptions, Verification
from tests.fixtures.line import eventually

pytestmark = pytest.mark.timeout(180)

SOON = (timedelta(0), timedelta(seconds=1))


class Gate:
    """Says no to challenges and handshakes until it is opened, and takes all events."""

    def __init__(self):
        self.open = False
        self.refused = 0

    def __call__(self, each):
        if each.kind is Kind.EVENT or self.open:
            return 204
        self.refused += 1
        return 403


def proving(kind, **options):
    return EndpointOptions(verification=kind, schedule=SOON, **options)


@pytest.mark.parametrize("kind", [Verification.CHALLENGE, Verification.CLOUDEVENTS])
async def test_deliveries_wait_until_the_receiver_proves_itself_and_then_come_in_order(line, kind):
    gate = Gate()
    async with simulated_protheus(Options()) as erp, line.receiver(gate, options=proving(kind)) as hook:
        erp.seed(4)
        there = len(erp.purchase_orders(deleted=False))
        connection = await line.protheus(erp)
        worker = await line.worker()
        await line.synced(connection)
        order = erp.create_order([NewLine("PAR-M8-30", 1, 1.25)])
        await eventually(lambda: gate.refused >= 2, "a receiver that is asked and refuses")
        waiting = 0
        while waiting < there + 1:
            waiting = (await line.control.endpoint("hook")).counts["waiting"]
        seen = await line.control.endpoint("hook")
        assert seen.problem.startswith("not verified, deliveries wait: ")
        assert "403" in seen.problem
        assert hook.tally.received == 0

        gate.open = True
        await eventually(lambda: hook.tally.unique == there + 1, "what has waited")
        assert (hook.tally.out_of_order, hook.tally.duplicates, hook.tally.unverified) == (0, 0, 0)
        assert (await line.control.endpoint("hook")).problem is None
        asked = hook.tally.challenges

        # Another runner, of the same URL: it is not asked again.
        await line.control.disable_endpoint("hook")
        await line.control.enable_endpoint("hook")
        erp.change_line(order, "0001", {"C7_QUANT": 5})
        await eventually(lambda: hook.tally.unique > there + 1, "an event after the endpoint was enabled anew")
        assert hook.tally.challenges == asked
        assert await worker.stop() == 0


async def test_the_rate_that_a_receiver_allows_is_its_limit_and_another_url_is_asked_anew(line):
    options = proving(Verification.CLOUDEVENTS, per_second=1000)
    async with simulated_protheus(Options()) as erp, line.receiver(options=options) as hook:
        hook.allowed_rate = "60"
        await line.protheus(erp)
        worker = await line.worker()
        await eventually(lambda: hook.tally.challenges == 1, "the handshake")
        await eventually(lambda: worker.said("endpoint.verified"), "a verified endpoint")
        assert worker.said("endpoint.verified")[0]["per_minute"] == 60
        assert (await line.registry.endpoint("hook")).subject.allowed_per_minute == 60

        hook.allowed_rate = "*"
        await line.control.change_endpoint("hook", url=f"{hook.url}other")
        await eventually(lambda: hook.tally.challenges == 2, "a handshake for the other URL")
        await eventually(lambda: len(worker.said("endpoint.verified")) == 2, "the other URL verified")
        assert (await line.registry.endpoint("hook")).subject.allowed_per_minute is None
        assert await worker.stop() == 0
