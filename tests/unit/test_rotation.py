"""An endpoint's live secrets: how they are sealed, and how new ones take the place of old ones."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.errors import UserError
from relay.domain.rotation import (
    MOST_LIVE,
    LiveSecret,
    Signing,
    live,
    new_secrets,
    public_keys,
    read,
    rotated,
    signing_keys,
    signing_of,
    written,
)
from relay.domain.signing import TimedKey, new_secret, parse_secret

NOW = 1_767_225_600
CANARY = "canary-7f"


def hmac(byte=b"a"):
    return new_secret(byte * 32)


def ed25519(byte=b"a"):
    return new_private_key(byte * 32)


some_bytes = st.binary(min_size=32, max_size=32)
texts = some_bytes.map(new_secret) | some_bytes.map(new_private_key)
times = st.integers(0, 2**40)
ending = st.builds(LiveSecret, texts, st.none() | times, times)
lasting = st.builds(LiveSecret, texts, st.none() | times)


@given(st.lists(ending, max_size=3), lasting, st.lists(ending, max_size=1))
def test_what_is_written_is_read_back(before, one, behind):
    assert read(written([*before, one, *behind])) == (*before, one, *behind)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b" ",
        b"[]",
        b"[",
        b"[1]",
        b"[null]",
        CANARY.encode(),
        hmac().encode(),
        b"{}",
        b"\xff" + CANARY.encode(),
        json.dumps([{"secret": hmac()}]).encode(),
        json.dumps([{"secret": hmac(), "until": None}]).encode(),
        *[
            json.dumps([{"secret": hmac(), "since": None, "until": None} | wrong]).encode()
            for wrong in (
                {"secret": 1},
                {"secret": CANARY},
                {"since": "soon"},
                {"since": 1.0},
                {"until": "soon"},
                {"until": True},
                {"until": NOW},
                {"more": CANARY},
            )
        ],
    ],
)
def test_what_cannot_be_read_is_refused_and_not_repeated(plain):
    with pytest.raises(UserError) as refused:
        read(plain)
    assert CANARY not in str(refused.value)
    assert "whsec_YWFh" not in str(refused.value)


def test_a_secret_is_not_in_its_repr():
    assert repr(LiveSecret(hmac(), until=NOW)) == f"LiveSecret(since=None, until={NOW})"


@pytest.mark.parametrize(
    ("signing", "prefixes"),
    [(Signing.HMAC, ["whsec_"]), (Signing.ED25519, ["whsk_"]), (Signing.BOTH, ["whsec_", "whsk_"])],
)
def test_new_secrets_are_of_the_kind_that_was_asked_for_and_say_so(signing, prefixes):
    made = new_secrets(signing, lambda count: b"r" * count)
    assert [each[: each.index("_") + 1] for each in made] == prefixes
    assert signing_of([LiveSecret(each) for each in made]) is signing


def test_a_secret_that_ends_does_not_say_what_an_endpoint_signs_with():
    assert signing_of([LiveSecret(ed25519()), LiveSecret(hmac(), until=NOW)]) is Signing.ED25519


def test_a_new_secret_goes_first_and_the_old_one_ends_after_the_overlap():
    after = rotated([LiveSecret(hmac())], [hmac(b"b")], NOW, 60)
    assert after == (LiveSecret(hmac(b"b")), LiveSecret(hmac(), until=NOW + 60))
    assert live(after, NOW + 59) == after
    assert live(after, NOW + 60) == (LiveSecret(hmac(b"b")),)


def test_no_overlap_ends_all_older_ones_now():
    before = [LiveSecret(hmac()), LiveSecret(hmac(b"o"), until=NOW + 999)]
    assert rotated(before, [hmac(b"b")], NOW, 0) == (LiveSecret(hmac(b"b")),)


def test_a_shorter_overlap_brings_an_earlier_end_forward_and_a_longer_one_moves_none():
    before = [LiveSecret(hmac()), LiveSecret(hmac(b"o"), until=NOW + 50)]
    assert [each.until for each in rotated(before, [hmac(b"b")], NOW, 10)] == [None, NOW + 10, NOW + 10]
    assert [each.until for each in rotated(before, [hmac(b"b")], NOW, 99)] == [None, NOW + 99, NOW + 50]


def test_a_sixth_live_secret_is_refused_with_what_to_do():
    secrets = [LiveSecret(hmac())]
    for byte in b"bcde":
        secrets = rotated(secrets, [hmac(bytes([byte]))], NOW, 60)
    assert len(secrets) == MOST_LIVE
    with pytest.raises(UserError, match=r"6 signing secrets would be live.*--overlap 0s"):
        rotated(secrets, [hmac(b"f")], NOW, 60)
    assert len(rotated(secrets, [hmac(b"f")], NOW + 60, 60)) == 2


def test_a_planned_secret_begins_then_and_the_old_one_ends_an_overlap_later():
    after = rotated([LiveSecret(hmac())], [hmac(b"b")], NOW, 60, begin=NOW + 1000)
    assert after == (LiveSecret(hmac(b"b"), since=NOW + 1000), LiveSecret(hmac(), until=NOW + 1060))
    assert live(after, NOW) == after


def test_a_planned_change_without_overlap_leaves_no_moment_unsigned_and_none_signed_twice():
    keys = signing_keys(rotated([LiveSecret(hmac())], [hmac(b"b")], NOW, 0, begin=NOW + 9), NOW)
    for moment, signs in ((NOW, hmac()), (NOW + 8, hmac()), (NOW + 9, hmac(b"b")), (NOW + 99, hmac(b"b"))):
        assert [each.key for each in keys if each.signs(moment)] == [parse_secret(signs)]


def test_a_secret_that_leaks_before_it_begins_is_left_out_by_a_rotation_without_overlap():
    planned = rotated([LiveSecret(hmac())], [hmac(b"b")], NOW, 60, begin=NOW + 1000)
    assert rotated(planned, [hmac(b"c")], NOW, 0) == (LiveSecret(hmac(b"c")),)


def test_a_later_plan_lets_an_earlier_one_begin():
    planned = rotated([LiveSecret(hmac())], [hmac(b"b")], NOW, 10, begin=NOW + 100)
    assert rotated(planned, [hmac(b"c")], NOW, 10, begin=NOW + 200) == (
        LiveSecret(hmac(b"c"), since=NOW + 200),
        LiveSecret(hmac(b"b"), since=NOW + 100, until=NOW + 210),
        LiveSecret(hmac(), until=NOW + 110),
    )


def test_the_keys_of_the_live_ones_carry_their_times():
    secrets = [LiveSecret(hmac(b"n"), NOW + 9), LiveSecret(hmac(), until=NOW + 1), LiveSecret(hmac(b"o"), until=NOW)]
    assert signing_keys(secrets, NOW) == [
        TimedKey(parse_secret(hmac(b"n")), since=NOW + 9),
        TimedKey(parse_secret(hmac()), until=NOW + 1),
    ]


def test_public_keys_are_those_of_pairs_that_sign_or_will_each_with_its_end():
    secrets = [
        LiveSecret(ed25519(), NOW + 9),
        LiveSecret(hmac()),
        LiveSecret(ed25519(b"b"), until=NOW + 1),
        LiveSecret(ed25519(b"o"), until=NOW),
    ]
    assert public_keys(secrets, NOW) == {
        public_key(ed25519()): None,
        public_key(ed25519(b"b")): datetime.fromtimestamp(NOW + 1, UTC),
    }


class Rotations(RuleBasedStateMachine):
    """Whatever is rotated when, something always signs, the newest for good, and none outlives what was promised."""

    def __init__(self):
        super().__init__()
        self.now, self.count, self.promised = NOW, 0, {}
        self.secrets = (LiveSecret(self.new()),)

    def new(self):
        self.count += 1
        return new_secret(self.count.to_bytes(32, "big"))

    @rule(seconds=st.integers(0, 100))
    def time_goes_by(self, seconds):
        self.now += seconds

    @precondition(lambda self: len(live(self.secrets, self.now)) < MOST_LIVE)
    @rule(overlap=st.integers(0, 200), ahead=st.none() | st.integers(1, 200))
    def rotate(self, overlap, ahead):
        before, new = live(self.secrets, self.now), self.new()
        begin = None if ahead is None else self.now + ahead
        self.secrets = read(written(rotated(self.secrets, [new], self.now, overlap, begin)))
        assert self.secrets[0] == LiveSecret(new, begin)
        end = self.now + (ahead or 0) + overlap
        for each in before:
            self.promised[each.secret] = min(self.promised.get(each.secret, end), end)
        assert {each.secret for each in self.secrets[1:]} == {
            each.secret for each in before if self.promised[each.secret] > max(self.now, each.since or 0)
        }

    @invariant()
    def the_newest_is_for_good_and_the_others_end_as_promised(self):
        assert [each.secret for each in self.secrets if each.until is None] == [self.secrets[0].secret]
        assert all(each.until == self.promised[each.secret] for each in self.secrets[1:])
        keys = signing_keys(self.secrets, self.now)
        assert len(keys) <= MOST_LIVE
        changes = {self.now, *(each.since for each in keys), *(each.until for each in keys)} - {None}
        assert all(any(key.signs(moment) for key in keys) for moment in changes if moment >= self.now)


TestRotations = Rotations.TestCase
