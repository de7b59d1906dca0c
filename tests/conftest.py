"""What all tests share: fixtures by name, and hypothesis without deadlines, because machines are busy."""

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

settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")
