"""Rotation under way: a running worker signs with what was rotated to, and receivers miss nothing."""

import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.signing import verifying_key
from tests.fixtures.line import eventually

pytestmark = pytest.mark.timeout(180)


async def test_a_worker_goes_over_to_a_rotated_secret_and_every_event_arrives(line):
    async with simulated_protheus(Options()) as erp, line.receiver() as hook:
        erp.seed(3)
        there = len(erp.purchase_orders(deleted=False))
        await line.protheus(erp)
        worker = await line.worker()
        await eventually(lambda: hook.tally.unique == there, "the first sync, signed with the first secret")

        rotated = await line.control.rotate_secret("hook", signing="both")
        hook.trust([verifying_key(rotated.public_key)])
        erp.create_order([NewLine("PAR-M8-30", 1, 1.25)])
        await eventually(lambda: hook.tally.unique == there + 1, "an event, signed with the key pair")

        hook.trust([verifying_key(rotated.secret)])
        erp.create_order([NewLine("PAR-M8-30", 2, 1.25)])
        await eventually(lambda: hook.tally.unique == there + 2, "an event, signed with the new secret")
        assert await worker.stop() == 0
