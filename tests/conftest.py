"""What all tests share: fixtures by name, and hypothesis without deadlines, because machines are busy."""

import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.fixtures.apache_kafka",
    "tests.fixtures.engine",
    "tests.fixtures.javascript",
    "tests.fixtures.line",
    "tests.fixtures.postgres",
    "tests.fixtures.sockets",
    "tests.fixtures.store",
    "tests.fixtures.tryton",
    "tests.fixtures.api",  # after the store, whose module it imports
]

# A script's `&` has SIGINT ignored, here and in every process that tests start and end with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests are handed to the processes one by one, but those that share a costly server go to the same one."""
    for item in items:
        if item.get_closest_marker("kafka"):
            item.add_marker(pytest.mark.xdist_group("apache-kafka"))
