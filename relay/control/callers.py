"""Operator keys: made here, shown once, kept as a digest; and the audit log of what callers changed."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import Field

from relay.control.given import name_given
from relay.control.views import View
from relay.domain.callers import CallerKind, Scope
from relay.domain.tokens import TOKEN_BYTES, TokenKind, digest_of, token_of
from relay.store.callers import CallerStore

Done = TypeVar("Done")
MOST = 1000
"""Keys that a command lists."""


class OperatorView(View):
    """An operator key, without the key."""

    id: str
    name: str
    scope: Scope
    created_at: datetime
    revoked_at: datetime | None


class OperatorAdded(View):
    """A new operator key, in the one answer that shows it."""

    key: str = Field(repr=False, description="Shown only now: `Authorization: Bearer rlyk_...`.")
    operator: OperatorView


class AuditView(View):
    """One change: who, what, when, from where, and how it ended. `status` is null when nobody knows."""

    position: int
    at: datetime
    request_id: str
    caller_kind: CallerKind
    caller_id: str
    caller_name: str
    address: str = Field(description="Where the caller's request came from; `local`: this machine's socket.")
    action: str = Field(description="The operation's id, as in the API's description.")
    subject: str | None = Field(description="The id of what was changed.")
    customer_id: str | None
    status: int | None = Field(description="The HTTP status of the answer; null: it broke off.")
    ended_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the store."""
        return cls.model_validate(row)


@dataclass(frozen=True, slots=True)
class Operators:
    """Operator keys."""

    store: CallerStore

    async def add(self, name: str, scope: Scope) -> OperatorAdded:
        """A new key; it is in the answer and nowhere else. Raises UserError, AlreadyThere."""
        name_given("operator key's", name)
        key = token_of(TokenKind.OPERATOR, os.urandom(TOKEN_BYTES))
        row = await self.store.add_operator(f"key_{secrets.token_hex(12)}", name, scope, digest_of(key))
        return OperatorAdded(key=key, operator=OperatorView.model_validate(row))

    async def revoke(self, name: str) -> OperatorView:
        """The key of this id or name is good for nothing from now on. Raises NotFound."""
        return OperatorView.model_validate(await self.store.revoke_operator(name))

    async def all(self) -> list[OperatorView]:
        """All keys, revoked ones too."""
        return [OperatorView.model_validate(row) for row in await self.store.operators(None, MOST)]
