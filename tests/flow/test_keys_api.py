"""Keys over the control API: shown, checked and rotated by admins, and in the audit log."""

import pytest

from relay.vault import Keyring, MasterKeys, Vault
from tests.fixtures.api import control_of, serving_control

K1, K2 = b"1" * 32, b"2" * 32


def vault_of(world, *ids):
    known = {"k1": K1, "k2": K2}
    return Vault(MasterKeys.of(Keyring(ids[0], {each: known[each] for each in ids})), world.keys)


async def test_keys_are_shown_checked_and_rotated_by_admins(world):
    await world.customer("acme")
    await world.customer("umbrella")
    async with serving_control(world, control=control_of(world, vault_of(world, "k2", "k1"))) as api:
        shown = (await api.get("/v1/keys")).json()
        assert [(each["id"], each["current"], each["data_keys"]) for each in shown["masters"]] == [
            ("k2", True, 0),
            ("k1", False, 2),
        ]
        rewrapped = await api.post("/v1/keys/rotate", {})
        assert (rewrapped.status_code, rewrapped.json()["done"]) == (200, 2)
        renewed = await api.post("/v1/keys/rotate", {"data_keys": True, "customer": "acme"})
        assert (renewed.json()["ok"], renewed.json()["done"]) == (True, 1)
        checked = (await api.post("/v1/keys/check")).json()
        assert (checked["ok"], checked["data_keys"]) == (True, 2)
        assert await api.audited("action", "subject", "customer_id") == [
            ("rotate_keys", "master_keys", None),
            ("rotate_keys", "data_keys", "acme"),
            ("check_keys", None, None),
        ]


@pytest.mark.parametrize("key", ["read", "write"])
async def test_nobody_else_sees_or_rotates_them(api, key):
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys/check"), ("POST", "/v1/keys/rotate")):
        reply = await api.call(method, path, key=key, **({"json": {}} if method == "POST" else {}))
        assert reply.status_code == 403, path


async def test_what_cannot_be_rotated_says_why(world):
    await world.customer("acme")
    async with serving_control(world, control=control_of(world, vault_of(world, "k2"))) as api:
        alone = await api.post("/v1/keys/rotate", {"customer": "acme"})
        assert (alone.status_code // 100, "customer goes with data_keys" in alone.text) == (4, True)
        nobody = await api.post("/v1/keys/rotate", {"data_keys": True, "customer": "nobody"})
        assert nobody.status_code == 404
        early = (await api.post("/v1/keys/check")).json()
        assert (early["ok"], early["problems"][0]["customer"]) == (False, "acme")
        assert "the master key `k1` is missing (there: k2)" in early["problems"][0]["problem"]
