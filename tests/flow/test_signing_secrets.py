"""Signing secrets through the operations and the store, on a real PostgreSQL, to what a receiver gets."""

import asyncio
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.connectors import CONNECTORS
from relay.control import Control
from relay.domain.errors import KeyTrouble, NotFound, UserError
from relay.domain.rotation import read, signing_keys
from relay.domain.signing import parse_secret, verifying_key
from relay.store.log import LogStore
from relay.vault import Keyring, MasterKeys, Place, Purpose

URL = "https://x.example/"


@pytest.fixture
def control(world):
    return Control(world.registry, lambda: world.vault, CONNECTORS)


async def stored(control, name="hook"):
    subject = (await control.registry.endpoint(name)).subject
    place = Place(subject.customer_id, subject.id, Purpose.SIGNING_SECRET)
    return read(await control.vault().open(place, subject.sealed))


async def added(control, signing="hmac"):
    return await control.add_endpoint(customer="acme", name="hook", url=URL, signing=signing)


@pytest.mark.parametrize(
    ("signing", "prefixes"), [("hmac", ["whsec_"]), ("ed25519", ["whpk_"]), ("both", ["whsec_", "whpk_"])]
)
async def test_a_new_endpoint_gives_what_its_receiver_verifies_with(control, signing, prefixes):
    made = await added(control, signing)
    assert [each[: each.index("_") + 1] for each in made.for_receiver] == prefixes
    assert all(map(verifying_key, made.for_receiver))
    assert "whsk_" not in made.model_dump_json()
    keys = await control.endpoint_keys("hook")
    assert [(each.signing, each.until) for each in keys] == [
        (kind, None) for kind in ("hmac", "ed25519") if signing in {kind, "both"}
    ]
    assert [each.public_key for each in keys if each.public_key] == [each for each in [made.public_key] if each]


async def test_an_unknown_signing_is_refused_and_nothing_is_stored(control):
    with pytest.raises(UserError, match="unknown signing 'rsa': the known ones are hmac, ed25519, both"):
        await added(control, "rsa")
    assert await control.endpoints() == []


async def test_a_rotated_secret_signs_beside_the_old_one_until_the_overlap_is_over(control):
    first = await added(control)
    began = time.time()
    second = await control.rotate_secret("hook", overlap=timedelta(hours=2))
    assert second.secret != first.secret
    assert [each.secret for each in await stored(control)] == [second.secret, first.secret]
    keys = await control.endpoint_keys("acme/hook")
    assert tuple(keys) == second.keys
    assert keys[0].until is None
    left = keys[1].until - datetime.fromtimestamp(began, UTC)
    assert timedelta(hours=2, seconds=-1) <= left <= timedelta(hours=2, seconds=60)
    assert first.secret not in str(keys) + second.model_dump_json() + repr(second)
    assert second.secret not in repr(second)
    third = await control.rotate_secret("hook", overlap=timedelta(0))
    assert [each.secret for each in await stored(control)] == [third.secret]


async def test_an_endpoint_goes_over_from_a_shared_secret_to_a_key_pair(control):
    await added(control)
    pair = await control.rotate_secret("hook", signing="ed25519")
    assert (pair.secret, pair.public_key[:5]) == (None, "whpk_")
    assert [each.signing for each in pair.keys] == ["ed25519", "hmac"]
    again = await control.rotate_secret("hook")
    assert [each.signing for each in again.keys] == ["ed25519", "ed25519", "hmac"]
    assert again.keys[1].public_key == pair.public_key


async def test_at_most_five_are_live(control):
    await added(control, "both")
    await control.rotate_secret("hook")
    before = await stored(control)
    with pytest.raises(UserError, match="6 signing secrets would be live"):
        await control.rotate_secret("hook")
    assert await stored(control) == before
    assert len((await control.rotate_secret("hook", overlap=timedelta(0))).keys) == 2


async def test_what_cannot_be_rotated_says_why(control):
    with pytest.raises(NotFound):
        await control.rotate_secret("nobody")
    with pytest.raises(NotFound):
        await control.endpoint_keys("nobody")
    await added(control)
    with pytest.raises(UserError, match="overlap is"):
        await control.rotate_secret("hook", overlap=timedelta(days=91))
    with pytest.raises(UserError, match="unknown signing"):
        await control.rotate_secret("hook", signing="rsa")
    other = replace(control.vault(), masters=MasterKeys.of(Keyring(current="k2", keys={"k2": os.urandom(32)})))
    with pytest.raises(KeyTrouble):
        await replace(control, vault=lambda: other).rotate_secret("hook")
    assert len(await stored(control)) == 1


async def test_of_rotations_at_the_same_time_none_is_lost(control):
    await added(control)
    ended = await asyncio.gather(*(control.rotate_secret("hook") for _ in range(4)), return_exceptions=True)
    done = [each for each in ended if not isinstance(each, UserError)]
    assert done
    assert {each.secret for each in done} < {each.secret for each in await stored(control)}
    assert len(await stored(control)) == len(done) + 1


async def test_a_planned_secret_is_shown_with_its_beginning_and_the_old_one_ends_an_overlap_later(control):
    first = await added(control)
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    second = await control.rotate_secret("hook", overlap=timedelta(hours=1), begin=begin)
    assert [(each.since, each.until) for each in second.keys] == [(begin, None), (None, begin + timedelta(hours=1))]
    assert tuple(await control.endpoint_keys("hook")) == second.keys
    keys = signing_keys(await stored(control), int(time.time()))
    for moment, signs in ((-1, [first.secret]), (0, [second.secret, first.secret]), (3600, [second.secret])):
        at = int(begin.timestamp()) + moment
        assert [each.key for each in keys if each.signs(at)] == list(map(parse_secret, signs))


@pytest.mark.parametrize("begin", [timedelta(seconds=-1), timedelta(days=91), None])
async def test_a_beginning_in_the_past_too_far_off_or_without_a_zone_is_refused(control, begin):
    await added(control)
    moment = datetime(2100, 1, 1) if begin is None else datetime.now(UTC) + begin  # noqa: DTZ001 - the point
    with pytest.raises(UserError, match="begin is"):
        await control.rotate_secret("hook", begin=moment)
    assert len(await stored(control)) == 1


async def test_the_public_keys_that_receivers_may_ask_for_are_those_that_sign_or_will(control, world):
    log, first = LogStore(world.database), await added(control, "both")
    hook = first.endpoint.id
    assert await log.public_keys(hook) == (first.public_key,)
    planned = await control.rotate_secret("hook", begin=datetime.now(UTC) + timedelta(days=1))
    assert await log.public_keys(hook) == (planned.public_key, first.public_key)
    await world.sql("UPDATE endpoints SET public_keys_until[2] = now()")
    assert await log.public_keys(hook) == (planned.public_key,)
    await control.rotate_secret("hook", signing="hmac", overlap=timedelta(0))
    assert await log.public_keys(hook) == ()


async def test_a_rotation_wakes_the_worker_and_stops_its_runner_and_no_other_value_changes(control, world):
    await added(control)
    claimed = await world.claimed("endpoints", (await world.registry.endpoint("hook")).subject.id)
    await control.rotate_secret("hook")
    again = (await world.registry.endpoint("hook")).subject
    assert replace(again, sealed=b"") == replace(claimed.subject, sealed=b"")
    assert await world.one("SELECT version FROM endpoints WHERE id = $1", again.id) == claimed.version + 1
