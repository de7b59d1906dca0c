"""Keys on a real PostgreSQL: both kinds replaced, what is lost or damaged named, and nobody else harmed by it."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from relay.control import Control, KeyCare
from relay.domain.endpoints import Endpoint, EndpointId
from relay.domain.errors import KeyTrouble, NotFound, Unavailable, UserError
from relay.domain.keys import CustomerKey
from relay.store.keys import KeyStore
from relay.store.sealed import COLUMNS
from relay.vault import Keyring, MasterKeys, Place, Purpose, Vault
from relay.vault.transit import Transit, TransitAccess
from tests.fixtures.store import connection_named, endpoint_named
from tests.fixtures.transit import transit

K1, K2 = b"1" * 32, b"2" * 32
# Not sealed with customers' keys: trees, bodies, answers of receivers, digests, what a master key wraps, and answers
# that are given again, which are sealed with what only their caller has.
NOT_SEALED = {
    ("admissions", "body"),
    ("attempts", "excerpt"),
    ("attempts_other", "excerpt"),
    *(("commands", name) for name in ("before", "body", "digest", "origin", "raw", "result")),
    ("connections", "token_digest"),
    ("customer_keys", "wrapped"),
    ("dead_letters", "body"),
    ("endpoints", "pull_token"),
    ("idempotency", "answer"),
    ("idempotency", "digest"),
    ("idempotency", "fingerprint"),
    ("operator_keys", "digest"),
    ("outbox", "body"),
    ("outbox", "origin"),
    ("redrives", "digest"),
    ("snapshots", "tree"),
}


def ring(*ids):
    known = {"k1": K1, "k2": K2}
    return MasterKeys.of(Keyring(ids[0], {each: known[each] for each in ids}))


def care(world, *ids, masters=None):
    vault = Vault(masters or ring(*ids), world.keys)
    return KeyCare(world.keys, lambda: vault)


async def furnish(world, *customers):
    """For each customer a connection and an endpoint with access; every secret says whose it is."""
    for customer in customers:
        connection = connection_named("erp", customer)
        sealed = await world.vault.seal(Place(customer, connection.id, Purpose.CREDENTIALS), secret(connection.id))
        await world.registry.add_connection(replace(connection, sealed=sealed))
        endpoint = endpoint_named("hook", customer)
        signing = await world.vault.seal(Place(customer, endpoint.id, Purpose.SIGNING_SECRET), secret(endpoint.id))
        access = await world.vault.seal(Place(customer, endpoint.id, Purpose.ACCESS), secret(endpoint.id))
        await world.registry.add_endpoint(replace(endpoint, sealed=signing, access=access))


def secret(subject):
    return f"canary of {subject}".encode()


async def opened(world, *ids):
    """Every secret as these master keys open it, by purpose and subject."""
    vault, found = Vault(ring(*ids), world.keys), {}
    for purpose in COLUMNS:
        for value in await world.keys.sealed.page(purpose, "", 10_000):
            place = Place(value.customer_id, value.subject, Purpose(purpose))
            found[purpose, value.subject] = await vault.open(place, value.sealed)
    return found


async def versions(world):
    rows = await world.sql("SELECT customer_id, array_agg(version ORDER BY version) FROM customer_keys GROUP BY 1")
    return dict(map(tuple, rows))


def told(outcome):
    return {(each.customer, each.subject, each.purpose) for each in outcome.problems}


# Master keys


async def test_after_a_rotation_the_old_master_key_may_go(world):
    await furnish(world, "acme", "umbrella")
    before = await opened(world, "k1")
    assert set(before.values()) == {secret(subject) for _, subject in before}
    steps = []
    rotated = await care(world, "k2", "k1").rewrap(lambda done, total: steps.append((done, total)))
    assert (rotated.ok, rotated.done, steps) == (True, 2, [(0, 2), (2, 2)])
    assert await opened(world, "k2") == before
    assert (await care(world, "k2", "k1").rewrap()).done == 0
    shown = await care(world, "k2").show()
    assert [(each.id, each.current, each.here, each.data_keys) for each in shown.masters] == [("k2", True, True, 2)]


async def test_a_master_key_that_goes_too_early_is_named_with_the_customers_that_need_it(world):
    await furnish(world, "acme", "umbrella")
    early = care(world, "k2")
    shown = await early.show()
    assert [(each.id, each.here, each.data_keys, each.customers) for each in shown.masters] == [
        ("k2", True, 0, ()),
        ("k1", False, 2, ("acme", "umbrella")),
    ]
    assert await early.missing() == {"k1": ["acme", "umbrella"]}
    for outcome in (await early.check(), await early.rewrap()):
        assert not outcome.ok
        assert {each.customer for each in outcome.problems} == {"acme", "umbrella"}
        assert all("the master key `k1` is missing (there: k2)" in each.problem for each in outcome.problems)
    assert [each.values for each in (await early.check()).problems] == [3, 3]
    assert (await care(world, "k2", "k1").rewrap()).done == 2


async def test_the_versions_of_a_kms_are_rotated_by_it_and_its_old_ones_may_go(world):
    await furnish(world, "acme", "umbrella")
    before = await opened(world, "k1")
    async with transit() as kms:
        service = Transit(TransitAccess(kms.url, token=kms.token))
        masters = MasterKeys(lambda: Keyring("k1", {"k1": K1}), service, "relay")
        with_kms = care(world, masters=masters)
        assert (await with_kms.rewrap()).done == 2
        kms.rotate()
        assert [each.id for each in (await with_kms.show()).masters if each.data_keys] == ["transit/relay v1"]
        assert (await with_kms.rewrap()).done == 2
        assert (await with_kms.rewrap()).done == 0
        kms.keys["relay"].least = 2
        masters.remembered.forget()
        assert (await with_kms.check()).ok
        kms.answers(503, "Vault is sealed")
        with pytest.raises(Unavailable, match="Vault is sealed"):
            await with_kms.rewrap()
        kms.works()
        back = care(world, masters=replace(masters, wanted="k1"))
        assert (await back.rewrap()).done == 2
        await masters.close()
    assert await opened(world, "k1") == before


# Data keys


async def test_new_data_keys_seal_everything_anew_and_the_old_ones_go(world):
    await furnish(world, "acme", "umbrella")
    before, rows = await opened(world, "k1"), await world.sql("SELECT sealed, version FROM connections ORDER BY id")
    renewed = await care(world, "k1").renew()
    assert (renewed.ok, renewed.done, renewed.values) == (True, 2, 6)
    assert await opened(world, "k1") == before
    assert await versions(world) == {"acme": [2], "umbrella": [2]}
    after = await world.sql("SELECT sealed, version FROM connections ORDER BY id")
    assert not {row["sealed"] for row in rows} & {row["sealed"] for row in after}
    assert [row["version"] for row in rows] == [row["version"] for row in after], "runners go on"
    assert (await care(world, "k1").show()).rotation_began is None


async def test_one_customers_data_key_is_renewed_alone(world):
    await furnish(world, "acme", "umbrella")
    renewed = await care(world, "k1").renew("acme")
    assert (renewed.done, renewed.values) == (1, 3)
    assert await versions(world) == {"acme": [2], "umbrella": [1]}
    with pytest.raises(NotFound, match="no customer 'nobody'"):
        await care(world, "k1").renew("nobody")


async def test_what_broke_off_goes_on_and_makes_no_second_new_key(world):
    await furnish(world, "acme", "umbrella", "third")
    before = await opened(world, "k1")
    began = await world.keys.begin_rotation()
    # As if it had been killed: one customer is done, one has its new key and nothing sealed with it, one has none.
    await care(world, "k1").renew("acme")
    [key] = await world.vault.new_keys([("third", 2)])
    await world.keys.add([key])
    assert (await care(world, "k1").show()).rotation_began == began
    assert (await care(world, "k1").show()).exchanging == ("third",)
    steps = []
    renewed = await care(world, "k1").renew(None, lambda done, total: steps.append((done, total)))
    assert (renewed.done, steps) == (2, [(1, 3), (3, 3)])
    assert await versions(world) == {"acme": [2], "third": [2], "umbrella": [2]}
    assert await opened(world, "k1") == before


async def test_two_rotations_at_once_do_no_harm(world):
    await furnish(world, *(f"c{n}" for n in range(30)))
    before = await opened(world, "k1")
    await asyncio.gather(care(world, "k1").renew(), care(world, "k2", "k1").rewrap(), care(world, "k1").renew())
    await care(world, "k1").renew()
    await care(world, "k2", "k1").rewrap()
    assert await opened(world, "k2") == before
    assert (await care(world, "k2").check()).ok


async def test_people_who_change_secrets_meanwhile_lose_nothing(world):
    customers = [f"c{n}" for n in range(8)]
    await furnish(world, *customers)
    control, last, refused, going = Control(world.registry, lambda: world.vault, {}), {}, [], True

    async def person(customer):
        subject = f"con_{customer}_erp"
        place, count = Place(customer, subject, Purpose.CREDENTIALS), 0
        while going:
            count += 1
            wanted = f"{subject} {count}".encode()
            try:
                await world.registry.set_credentials(subject, await world.vault.seal(place, wanted), subject.encode())
            except UserError:
                refused.append(subject)
            else:
                last["credentials", subject] = wanted
            await control.change_endpoint(f"{customer}/hook", at_once=1 + count % 50)

    people = [asyncio.create_task(person(each)) for each in customers]
    rotations = [await care(world, "k1").renew() for _ in range(5)]
    going = False
    await asyncio.gather(*people)
    await care(world, "k1").renew()
    found = await opened(world, "k1")
    assert set(refused) <= {subject for _, subject in last}
    assert {place: found[place] for place in last} == last
    assert all(found["access", f"end_{each}_hook"] == secret(f"end_{each}_hook") for each in customers)
    assert all(each.ok for each in rotations)
    assert {len(each) for each in (await versions(world)).values()} == {1}


async def test_a_secret_that_was_sealed_with_a_key_that_went_is_not_stored(world):
    await furnish(world, "acme")
    place = Place("acme", "con_acme_erp", Purpose.CREDENTIALS)
    late = await world.vault.seal(place, b"late")
    await care(world, "k1").renew()
    with pytest.raises(UserError, match="data key was exchanged at the same time: try again"):
        await world.registry.set_credentials("con_acme_erp", late, b"digest")
    new = Endpoint(EndpointId("end_new"), "acme", "new", "https://x.example/", sealed=late)
    with pytest.raises(UserError, match="try again"):
        await world.registry.add_endpoint(new)
    await world.registry.set_credentials("con_acme_erp", await world.vault.seal(place, b"again"), b"digest")
    assert (await opened(world, "k1"))["credentials", "con_acme_erp"] == b"again"


async def test_postgresql_removes_no_key_that_something_is_sealed_with(world):
    await furnish(world, "acme")
    with pytest.raises(UserError, match="exchanged"):
        await world.sql("DELETE FROM customer_keys")


# Loss and damage


FLIP = "set_byte({column}, octet_length({column}) - 5, get_byte({column}, octet_length({column}) - 5) # 1)"
CUT = "substring({column} from 1 for octet_length({column}) - 1)"
OTHERS = "(SELECT sealed FROM connections WHERE id = 'con_umbrella_erp')"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"UPDATE connections SET sealed = {FLIP.format(column='sealed')}", ("con_acme_erp", "credentials")),
        (f"UPDATE connections SET sealed = {CUT.format(column='sealed')}", ("con_acme_erp", "credentials")),
        ("UPDATE connections SET sealed = 'gone'", ("con_acme_erp", "credentials")),
        (f"UPDATE connections SET sealed = {OTHERS}", ("con_acme_erp", "credentials")),
        ("UPDATE endpoints SET access = sealed", ("end_acme_hook", "access")),
        ("UPDATE endpoints SET sealed = access", ("end_acme_hook", "signing-secret")),
        (f"UPDATE customer_keys SET wrapped = {FLIP.format(column='wrapped')}", (None, None)),
        (f"UPDATE customer_keys SET wrapped = {CUT.format(column='wrapped')}", (None, None)),
        ("UPDATE customer_keys SET wrapped = 'gone'", (None, None)),
        (
            "UPDATE customer_keys SET wrapped = (SELECT wrapped FROM customer_keys WHERE customer_id = 'umbrella')",
            (None, None),
        ),
    ],
    ids=[
        "flipped",
        "cut",
        "short",
        "of-another",
        "moved",
        "moved-back",
        "key",
        "key-cut",
        "key-short",
        "key-of-another",
    ],
)
async def test_what_was_damaged_is_named_and_nobody_else_is_harmed(world, statement, what):
    await furnish(world, "acme", "umbrella")
    await world.sql(f"{statement} WHERE customer_id = 'acme'")
    checked = await care(world, "k1").check()
    assert told(checked) == {("acme", *what)}
    assert "canary" not in checked.model_dump_json()
    rotated = [await care(world, "k2", "k1").rewrap(), await care(world, "k2", "k1").renew()]
    assert {each.customer for outcome in rotated for each in outcome.problems} <= {"acme"}
    assert (await versions(world))["umbrella"] == [2]
    vault = Vault(ring("k2"), world.keys)
    sealed = await world.keys.value("credentials", "con_umbrella_erp")
    place = Place("umbrella", "con_umbrella_erp", Purpose.CREDENTIALS)
    assert await vault.open(place, sealed) == secret("con_umbrella_erp")


async def test_a_customer_whose_data_key_is_lost_is_mended_by_giving_its_secrets_again(world):
    await furnish(world, "acme")
    await world.sql("UPDATE customer_keys SET wrapped = 'gone'")
    place = Place("acme", "con_acme_erp", Purpose.CREDENTIALS)
    with pytest.raises(KeyTrouble, match="customer `acme` is damaged"):
        await world.vault.seal(place, b"new")
    assert not (await care(world, "k1").renew("acme")).ok
    await world.registry.set_credentials("con_acme_erp", await world.vault.seal(place, b"new"), b"digest")
    assert told(await care(world, "k1").check()) == {("acme", None, None)}
    assert [each.values for each in (await care(world, "k1").check()).problems] == [2]


async def test_another_master_key_under_the_same_id_is_refused_for_all_it_wrapped(world):
    await furnish(world, "acme")
    impostor = MasterKeys.of(Keyring("k1", {"k1": K2}))
    checked = await care(world, masters=impostor).check()
    [problem] = checked.problems
    assert "customer `acme`, wrapped by `k1`, cannot be opened" in problem.problem
    assert problem.values == 3


async def test_a_value_that_names_a_key_that_never_was_is_named(world):
    """Only somebody who goes around PostgreSQL's own rules can make one."""
    await furnish(world, "acme")
    await world.sql("ALTER TABLE connections DROP CONSTRAINT connections_sealed_data_key")
    await world.sql("UPDATE connections SET sealed = set_byte(sealed, 2, 7)")
    checked = await care(world, "k1").check()
    assert told(checked) == {("acme", "con_acme_erp", "credentials")}
    assert "has no data key 7" in checked.problems[0].problem


# The database as a whole


async def test_every_column_of_bytes_is_known_and_each_sealed_one_names_its_key(world):
    rows = await world.sql(
        "SELECT c.table_name, c.column_name FROM information_schema.columns AS c JOIN information_schema.tables AS t"
        " USING (table_schema, table_name) WHERE c.data_type = 'bytea' AND c.table_schema = 'public'"
    )
    found = {(row["table_name"], row["column_name"]) for row in rows if not row["table_name"].startswith("attempts_")}
    assert found - NOT_SEALED == set(COLUMNS.values()), "a sealed column goes into relay/store/sealed.py"
    assert set(COLUMNS) == set(Purpose)
    for table, value in COLUMNS.values():
        assert await world.one(
            "SELECT count(*) FROM pg_constraint WHERE conname = $1 AND confrelid = 'customer_keys'::regclass",
            f"{table}_{value}_data_key",
        )


async def test_keys_are_found_page_by_page_and_a_customers_first_key_stays(world):
    assert await world.keys.newest("nobody") is None
    first = await world.keys.begin(CustomerKey("acme", 1, b"one"))
    assert await world.keys.begin(CustomerKey("acme", 1, b"two")) == first
    await world.keys.add([CustomerKey("acme", 2, b"three"), CustomerKey("acme", 1, b"four")])
    pages = [await world.keys.page(None, 1), await world.keys.page(first, 5)]
    assert [[key.wrapped for key in page] for page in pages] == [[b"one"], [b"three"]]
    assert await world.keys.rewrap([CustomerKey("acme", 1, b"not so")], [first]) == 0
    assert Counter(key.version for key in await world.keys.of(["acme"])) == {1: 1, 2: 1}
    assert isinstance(world.keys, KeyStore)
