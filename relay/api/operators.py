"""Who may call, and what callers did: operator keys and the audit log."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, Core, needs
from relay.api.lists import After, Limit, Listed, listed
from relay.control.callers import AuditView, OperatorAdded, Operators, OperatorView
from relay.domain.callers import CallerKind, Scope
from relay.domain.paging import page_key

KeyPath = Annotated[str, Path(pattern="^key_[0-9a-f]{24}$", description="The key's id, `key_...`.")]


class OperatorWanted(BaseModel):
    """A new operator key."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80, description="What to call it: who has it, and what for.")
    scope: Scope = Field(description="How much it may do; each scope holds the ones before it.")


class Me(BaseModel):
    """The caller as relay knows it."""

    kind: CallerKind
    id: str
    name: str
    scope: Scope
    customer: str | None = Field(description="Whose connection it is; null: the caller is not bound to one.")
    connection: str | None = Field(description="The only connection that the caller may touch; null: all.")


def me_router(core: Core) -> APIRouter:
    """Who am I."""
    router = core.router("/v1/me", "callers")

    @router.get("", summary="Who calls, and what for", **needs(Scope.READ, narrowed=True))
    async def show_me(call: CallNow) -> Me:
        caller = call.caller
        return Me(
            kind=caller.kind,
            id=caller.id,
            name=caller.name,
            scope=caller.scope,
            customer=caller.customer_id,
            connection=caller.connection_id,
        )

    return router


def operators_router(core: Core) -> APIRouter:
    """Operator keys."""
    router, operators = core.router("/v1/operators", "callers"), Operators(core.callers)

    @router.post("", summary="Make an operator key, shown once", status_code=201, **needs(Scope.ADMIN))
    async def add_operator(wanted: OperatorWanted, call: CallNow) -> OperatorAdded:
        added = await operators.add(wanted.name, wanted.scope)
        call.about(added.operator.id)
        return added

    @router.get("", summary="Operator keys, revoked ones too", **needs(Scope.ADMIN))
    async def list_operators(limit: Limit = 50, after: After = None) -> Listed[OperatorView]:
        rows = await core.callers.operators(page_key("operators", after, str), limit + 1)
        return listed("operators", rows, limit, view=OperatorView.model_validate, key=lambda r: (r["id"],))

    @router.delete("/{key_id}", summary="Revoke an operator key, from now on", **needs(Scope.ADMIN))
    async def revoke_operator(key_id: KeyPath) -> OperatorView:
        return await operators.revoke(key_id)

    return router


def audit_router(core: Core) -> APIRouter:
    """The audit log."""
    router = core.router("/v1/audit", "audit")

    @router.get("", summary="Every change and who made it, the latest first", **needs(Scope.ADMIN))
    async def list_audit(
        limit: Limit = 50,
        after: After = None,
        subject: Annotated[str | None, Query(max_length=200, description="Only what was done to this id.")] = None,
        caller: Annotated[str | None, Query(max_length=200, description="Only what this caller did.")] = None,
    ) -> Listed[AuditView]:
        key = page_key("audit", after, int)
        rows = await core.audit.entries(key, limit + 1, subject=subject, caller=caller)
        return listed("audit", rows, limit, view=AuditView.of, key=lambda row: (row["position"],))

    return router
