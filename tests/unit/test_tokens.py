"""Tokens have a shape that says what they are for, and are kept as digests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.callers import Scope
from relay.domain.tokens import TokenKind, digest_of, kind_of, token_of


@given(st.sampled_from(TokenKind), st.binary(min_size=32, max_size=32))
def test_a_token_says_what_it_is_for_and_has_a_digest_that_is_not_the_token(kind, random_bytes):
    token = token_of(kind, random_bytes)
    assert token.startswith(kind)
    assert (len(token), kind_of(token), len(digest_of(token))) == (48, kind, 32)


@pytest.mark.parametrize(
    "text",
    ["", "rlyp_", "rlyp_" + "a" * 42, "rlyk_" + "a" * 44, "rlyx_" + "a" * 43, "whsec_" + "a" * 43, "rlyc_" + "ã" * 43],
)
def test_what_has_not_the_shape_of_a_token_is_none(text):
    assert kind_of(text) is None


def test_a_token_is_made_from_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        token_of(TokenKind.PULL, b"short")


def test_a_scope_holds_itself_and_the_smaller_ones():
    held = {scope: [each for each in Scope if scope.holds(each)] for scope in Scope}
    assert held == {
        Scope.READ: [Scope.READ],
        Scope.WRITE: [Scope.READ, Scope.WRITE],
        Scope.ADMIN: [Scope.READ, Scope.WRITE, Scope.ADMIN],
    }
