"""Operator keys, the audit log and the doctor, over HTTP."""

from relay.client.calls import Calls, segment
from relay.control.callers import AuditView, OperatorAdded, OperatorView
from relay.control.findings import Examination
from relay.domain.callers import Scope
from relay.domain.errors import NotFound


class CallerCalls(Calls):
    """What administrators do."""

    async def add_operator(self, name: str, scope: Scope) -> OperatorAdded:
        """A new operator key; it is in the answer and nowhere else."""
        return await self._post(OperatorAdded, "/v1/operators", {"name": name, "scope": scope})

    async def operators(self) -> list[OperatorView]:
        """All operator keys, revoked ones too."""
        return await self._list(OperatorView, "/v1/operators")

    async def revoke_operator(self, name: str) -> OperatorView:
        """The key of this id or name is good for nothing from now on."""
        known = [each for each in await self.operators() if each.revoked_at is None]
        found = [each for each in known if name in {each.id, each.name}]
        if not found:
            raise NotFound(f"there is no operator key {name!r}: see `relay operators list`")
        return await self._delete(OperatorView, f"/v1/operators/{segment(found[0].id)}")

    async def audit(self, *, most: int = 50, subject: str | None = None, caller: str | None = None) -> list[AuditView]:
        """Every change and who made it, the latest first; of one thing or one caller, by their ids."""
        return await self._list(AuditView, "/v1/audit", most, subject=subject, caller=caller)

    async def examine(self) -> Examination:
        """Look at everything that relay stands on and works for."""
        return await self._get(Examination, "/v1/doctor")
