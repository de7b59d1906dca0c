"""The shared suite of writers: each scenario, with every connector that writes."""

import pytest

from tests.contract.erps import WRITING
from tests.contract.writers import SCENARIOS

pytestmark = pytest.mark.parametrize("harness", WRITING, ids=lambda harness: harness.kind.name)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_writers(harness, name):
    async with harness.writing.open(name) as erp:
        await SCENARIOS[name](harness, erp)
