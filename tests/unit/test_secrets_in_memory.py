"""Where opened secrets are in memory: with the runner that uses them, and with nobody else; and no repr shows them."""

import gc
from types import FunctionType, ModuleType

import orjson
import pytest

from relay.connectors import CONNECTORS
from relay.control import Control
from relay.domain.connections import Connection, ConnectionId, CustomerId
from relay.ports import Mappings
from relay.runners import connector_of
from relay.store.named import Sighting
from relay.vault import Place, Purpose
from relay.wire.erp import polite_client
from tests.fixtures.vault import at_once, vault_of

CANARY = "canary-in-memory-5d0c"
SETTINGS = {"url": "https://erp.example/rest", "tenant": "T1,01"}
CREDENTIALS = orjson.dumps({"username": "u", "password": CANARY})
PLACE = Place("acme", "con_1", Purpose.CREDENTIALS)


def reachable(*roots):
    """All that can be reached from these, without the code of modules and functions."""
    seen, left = {}, list(roots)
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, ModuleType | FunctionType | type):
            continue
        seen[id(each)] = each
        left += gc.get_referents(each)
    return list(seen.values())


def holding(things):
    return [each for each in things if isinstance(each, str | bytes) and CANARY.encode() in _bytes(each)]


def _bytes(text):
    return text.encode(errors="replace") if isinstance(text, str) else text


def connection(vault):
    sealed = at_once(vault.seal(PLACE, CREDENTIALS))
    return Connection(ConnectionId("con_1"), CustomerId("acme"), "erp", "protheus", SETTINGS, sealed=sealed)


class Kept:
    """A registry of one connection."""

    def __init__(self, subject):
        self.subject = subject

    async def connection(self, _name):
        return Sighting(self.subject, None, {})


async def test_a_runners_connector_holds_the_login_and_no_repr_shows_it():
    vault = vault_of("k1")
    subject = connection(vault)
    async with polite_client(CONNECTORS["protheus"].pace) as client:
        secret = await vault.open_patiently(PLACE, subject.sealed, lambda: False)
        connector = connector_of(CONNECTORS["protheus"], subject, secret, client, Mappings())
        del secret
        things = reachable(connector)
        assert holding(things), "whoever looks so finds it where it is"
        shown = [repr(each) for each in things if not isinstance(each, str | bytes | dict | tuple | list)]
        assert not [each for each in shown if CANARY in each]
    assert not holding(reachable(vault, subject))


async def test_what_people_do_leaves_no_opened_secret_behind():
    vault = vault_of("k1")
    control = Control(Kept(connection(vault)), lambda: vault, CONNECTORS)
    assert (await control.mapping("erp")).connector == "protheus"
    await vault.open(PLACE, control.registry.subject.sealed)
    gc.collect()
    assert not holding(reachable(control, vault))


@pytest.mark.parametrize("kind", CONNECTORS.values(), ids=lambda kind: kind.name)
def test_credentials_of_every_connector_hide_what_is_secret(kind):
    secret = [name for name, each in kind.credentials.model_fields.items() if "Secret" in str(each.annotation)]
    given = dict.fromkeys(kind.credentials.model_fields, CANARY)
    credentials = kind.credentials.model_validate(given)
    shown = "".join(str(getattr(credentials, name)) + repr(getattr(credentials, name)) for name in secret)
    assert secret
    assert CANARY not in shown
