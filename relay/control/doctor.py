"""Doctor: looks at everything that relay stands on and works for, and says what to do about what is not well.

    database, tables, workers, broker, clock, keys, waiting work, commands, connections, endpoints -> one finding each

Nothing is changed, no ERP is asked and no webhook sent. What cannot be looked at is a finding, too, and stops none of
the others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from relay.control.findings import Examination, Finding, Verdict, commands_finding, trouble, well
from relay.control.telling import ago, span
from relay.domain.connections import Connection, ConnectionState
from relay.domain.egress import Policy
from relay.domain.endpoints import Endpoint, EndpointState, Verification
from relay.domain.errors import RelayError, UserError
from relay.ports import Clock
from relay.store.named import Sighting
from relay.store.registry import Registry
from relay.store.vitals import Vitals, VitalStore
from relay.wire.egress import Resolver
from relay.wire.webhook import check_host

Probe = Callable[[], Awaitable[None]]
"""Returns when a part is well; raises a RelayError that says what is wrong."""

ALIVE_WITHIN = timedelta(minutes=1)
"""A worker that was not seen for longer does not run."""
WAITS_TOO_LONG = timedelta(minutes=2)
"""Events that nobody publishes or admits for longer are stuck."""
CLOCK_OFF, CLOCK_WRONG = timedelta(seconds=5), timedelta(minutes=1)
"""Receivers refuse signatures that are five minutes away; a clock that is a minute off is on the way there."""
PATIENCE = 10.0
"""Seconds for one part to answer."""
RESOLVE_WITHIN = timedelta(seconds=5)
HOSTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Doctor:
    """Examines one installation. `probes` look at parts outside of the database, by name: the broker, the keys."""

    registry: Registry
    probes: Mapping[str, Probe]
    egress: Policy
    resolve: Resolver
    clock: Clock

    async def examine(self) -> Examination:
        """Look at everything there is."""
        found = await self._database()
        if found[0].verdict is not Verdict.TROUBLE:
            probed, connections, endpoints = await asyncio.gather(
                self._probes(), self._connections(), self._endpoints()
            )
            found += [*probed, *connections, *endpoints]
        else:
            found += await self._probes()
        worst = max(found, key=lambda each: list(Verdict).index(each.verdict)).verdict
        return Examination(verdict=worst, findings=tuple(found))

    async def _database(self) -> list[Finding]:
        vitals = VitalStore(self.registry.database)
        try:
            async with asyncio.timeout(PATIENCE):
                at, head = await vitals.revision()
                if at != head:
                    return [_tables(at, head)]
                asked = self.clock()
                look = await vitals.look(ALIVE_WITHIN)
                answered = self.clock()
        except (RelayError, TimeoutError) as error:
            return [trouble("database", str(error) or _SILENT, "Start PostgreSQL, and check RELAY_DATABASE__URL")]
        return [
            well("database", f"PostgreSQL {look.version}, {look.bytes / 1_000_000:,.0f} MB, tables at {at}"),
            _workers(look.workers),
            _clocks(look.now, asked, answered),
            *_waiting(look),
            commands_finding(look),
        ]

    async def _probes(self) -> list[Finding]:
        return list(await asyncio.gather(*(_probed(name, probe) for name, probe in self.probes.items())))

    async def _connections(self) -> list[Finding]:
        now = self.clock()
        return [connection_finding(each, now) for each in await self.registry.connections()]

    async def _endpoints(self) -> list[Finding]:
        seen = await self.registry.endpoints()
        hosts = await self._hosts({each.subject.url for each in seen})
        return [endpoint_finding(each, hosts[each.subject.url], self.clock()) for each in seen]

    async def _hosts(self, urls: Iterable[str]) -> dict[str, str]:
        """What keeps each URL's host from being called; empty when nothing does. Each host is looked up once."""
        turns = asyncio.Semaphore(HOSTS_AT_ONCE)

        async def refused(url: str) -> str:
            async with turns:
                try:
                    return "; ".join(await check_host(url, self.egress, within=RESOLVE_WITHIN, resolve=self.resolve))
                except UserError as error:
                    return str(error)

        by_host = {_host(url): url for url in urls}
        found = dict(zip(by_host, await asyncio.gather(*map(refused, by_host.values())), strict=True))
        return {url: found[_host(url)] for url in urls}


def connection_finding(seen: Sighting, now: datetime) -> Finding:
    """How a connection is, by what its last poll left behind."""
    subject: Connection = seen.subject
    name = f"connection {subject.customer_id}/{subject.name}"
    match subject.state:
        case ConnectionState.NEEDS_RECONNECT:
            return trouble(name, seen.problem or "the ERP refuses the login", "`relay connections reconnect`")
        case ConnectionState.ACTIVE if subject.failures:
            return trouble(name, seen.problem or f"{subject.failures} polls in a row failed", _ERP)
        case ConnectionState.ACTIVE if seen.problem:
            return trouble(name, seen.problem, "`relay connections show` tells more")
        case ConnectionState.ACTIVE:
            last = f"read {ago(seen.seen_at, now)}" if seen.seen_at else "not read yet"
            return _noticed(name, last, seen.notices) if seen.notices else well(name, last)
        case _:
            return Finding(subject=name, verdict=Verdict.NOTICE, says=f"{subject.state}: it is not polled")


def endpoint_finding(seen: Sighting, host: str, now: datetime) -> Finding:
    """How an endpoint is: its state, what keeps its host from being called, and since when it takes nothing."""
    subject: Endpoint = seen.subject
    name = f"endpoint {subject.customer_id}/{subject.name}"
    if subject.state is EndpointState.DISABLED:
        says = f"disabled: {seen.problem or 'by a person'}"
        return Finding(subject=name, verdict=Verdict.NOTICE, says=says, advice="`relay endpoints enable`")
    if host:
        return trouble(name, host, "Mend its DNS entry, or give another URL: `relay endpoints change`")
    if says := _in_the_way(seen, now):
        return trouble(name, says, _RECEIVER)
    return well(name, "nothing stands in the way of its webhooks")


def _in_the_way(seen: Sighting, now: datetime) -> str:
    subject: Endpoint = seen.subject
    if problem := seen.problem:
        return problem
    if subject.state is EndpointState.SUSPENDED:
        return "suspended after days of failure"
    if failing := subject.health.failing_since:
        return f"every attempt has failed, the first {ago(failing, now)}"
    if subject.options.verification is not Verification.NONE and not subject.verified:
        return "it has not proved yet that it wants webhooks"
    return ""


def _tables(at: str | None, head: str) -> Finding:
    says = f"the tables are at {at or 'no revision'}, this relay works on {head}"
    return trouble("database", says, "Run `relay migrate`; when the tables are newer, use the newer relay")


def _workers(running: int) -> Finding:
    if running:
        return well("workers", f"{running} running")
    return trouble("workers", "none is running: nothing is polled or sent", "Start `relay worker`, or `relay up`")


def _clocks(database: datetime, asked: datetime, answered: datetime) -> Finding:
    off = max(database - answered, asked - database, timedelta(0))
    if off < CLOCK_OFF:
        return well("clock", "this machine and the database agree")
    says = f"this machine and the database differ by {span(off.total_seconds())}"
    advice = "Let both keep time by NTP: receivers refuse signatures that are five minutes away"
    return Finding(
        subject="clock", verdict=Verdict.TROUBLE if off > CLOCK_WRONG else Verdict.NOTICE, says=says, advice=advice
    )


def _waiting(look: Vitals) -> list[Finding]:
    stuck = {
        "outbox": (look.unpublished_since, "events wait to be published", "Look at the broker, and at a worker's log"),
        "admission": (look.unadmitted_since, "published events have not come back", "Look at the broker's consumers"),
        "notices": (look.untold_since, "notices wait to be published", "Look at the broker, and at a worker's log"),
    }
    return [_since(name, since, look.now, says, advice) for name, (since, says, advice) in stuck.items()]


def _since(name: str, since: datetime | None, now: datetime, says: str, advice: str) -> Finding:
    if since is None or now - since < WAITS_TOO_LONG:
        return well(name, "nothing waits for long")
    return trouble(name, f"{says}: the oldest for {span((now - since).total_seconds())}", advice)


async def _probed(name: str, probe: Probe) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            await probe()
    except (RelayError, TimeoutError) as error:
        return trouble(name, str(error) or _SILENT, _ADVICE.get(name, ""))
    return well(name, _WELL.get(name, "answers"))


def _host(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}", parts.port


def _noticed(subject: str, says: str, notices: Sequence[str]) -> Finding:
    return Finding(subject=subject, verdict=Verdict.NOTICE, says=f"{says}; {'; '.join(notices)}", advice=_NOTICES)


_SILENT = f"no answer within {PATIENCE:g} s"
_ERP = "See that the ERP runs and can be reached from here; polling goes on by itself"
_RECEIVER = "`relay endpoints test` says what the receiver answers now, and what to do"
_NOTICES = "`relay connections show` lists them; most are mended in the field mapping"
_WELL = {"keys": "every master key that is needed is here"}
_ADVICE = {
    "proxy": "Start it, or mend RELAY_EGRESS__PROXY: all webhooks go through it, and wait meanwhile",
    "broker": "Start it (`relay up` has one), or check RELAY_KAFKA__BOOTSTRAP and its login; events wait meanwhile",
    "keys": "`relay keys show` tells more; give the missing key behind the current one, or restore it from its backup",
}
