"""Operations on what an earlier version stored: what cannot be used is named, and nothing secret with it."""

import orjson
import pytest

from relay.connectors import CONNECTORS
from relay.control import Control
from relay.control.systems import system_of
from relay.domain.connections import Connection, ConnectionId, CustomerId
from relay.domain.errors import UserError
from relay.store.named import Sighting
from relay.vault import Place, Purpose
from tests.fixtures.vault import at_once, vault_of

CANARY = "canary-5b2e"
SETTINGS = {"url": "https://erp.example/rest", "tenant": "T1,01"}
VAULT = vault_of("k1")


class Kept:
    """A registry of one connection, as it was stored."""

    def __init__(self, settings, credentials):
        sealed = at_once(VAULT.seal(Place("acme", "con_1", Purpose.CREDENTIALS), orjson.dumps(credentials)))
        self.subject = Connection(ConnectionId("con_1"), CustomerId("acme"), "erp", "protheus", settings, sealed=sealed)

    async def connection(self, _name):
        return Sighting(self.subject, None, {})


def control(settings, credentials):
    return Control(Kept(settings, credentials), lambda: VAULT, CONNECTORS)


async def test_the_mapping_of_a_connection_is_shown_without_asking_its_erp():
    shown = await control(SETTINGS, {"username": "u", "password": CANARY}).mapping("erp")
    assert (shown.connector, shown.version, shown.sample) == ("protheus", 0, None)


async def test_what_a_connections_system_takes_is_shown_without_asking_its_erp():
    operations = control(SETTINGS, {"username": "u", "password": CANARY})
    shown, system = await operations.mapping("erp"), await operations.capabilities("erp")
    assert (shown.fields, shown.commands, shown.custom_fields) == (system.fields, system.commands, system.custom_fields)
    assert {each.path for each in system.fields} > {"number", "lines[].quantity"}


@pytest.mark.parametrize("kind", CONNECTORS.values(), ids=lambda kind: kind.name)
async def test_a_system_is_known_before_there_is_a_connection(kind):
    assert (await system_of(kind)).connector == kind.name


@pytest.mark.parametrize(
    ("settings", "credentials", "says"),
    [
        (SETTINGS, {"password": CANARY}, "username is missing"),
        (SETTINGS, {"username": "u", "password": CANARY, "otp": CANARY}, "1 unknown field"),
        ({**SETTINGS, "gone": CANARY}, {"username": "u", "password": CANARY}, "gone is not known"),
    ],
)
async def test_what_an_earlier_version_stored_is_refused_by_name_and_shows_no_secret(settings, credentials, says):
    with pytest.raises(UserError, match=says) as refused:
        await control(settings, credentials).mapping("erp")
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("kind", CONNECTORS.values(), ids=lambda kind: kind.name)
def test_credentials_that_do_not_fit_are_not_quoted_in_the_error(kind):
    with pytest.raises(ValueError, match="username") as refused:
        kind.credentials.model_validate({"password": CANARY, "more": CANARY})
    assert CANARY not in str(refused.value)
