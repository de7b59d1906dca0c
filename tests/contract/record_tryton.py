"""Records the suite's Tryton exchanges from a real one: `.venv/bin/python -m tests.contract.record_tryton`.

Needs a network the first time (it installs Tryton under .cache). The orders are made up here; tokens are taken out.
"""

import asyncio
import json
import tempfile
from pathlib import Path

import httpx

from relay.connectors.tryton import TrytonCredentials, TrytonSettings
from relay.connectors.tryton.connector import TRYTON
from relay.demo.tryton import Tryton, tryton
from relay.ports import Mappings
from relay.wire.erp import PoliteTransport
from tests.contract.erps import RECORDINGS, TRYTON_HARNESS
from tests.contract.harness import CANARY, QUICK, Recording, RecordingInTurn, all_questions
from tests.contract.writers import SCENARIOS

CACHE = Path(__file__).parents[2] / ".cache" / "tryton"
OF_FIELDS = ("type", "string", "readonly", "required", "size", "digits", "selection")
TWO_LINES = [("PAR-M8", 100, "1.2500"), ("ROL-6204", 4, "37.90")]


async def orders(erp: Tryton) -> None:
    """Eight orders in different states."""
    buyer = erp.buyer
    await buyer.create_order(TWO_LINES, reference="rascunho")
    quoted = await buyer.create_order(TWO_LINES[:1], vendor="F002")
    await buyer.quote(quoted)
    await buyer.order_now(TWO_LINES, reference="Peça de reposição – urgente")
    part = await buyer.order_now(TWO_LINES)
    await buyer.receive(part, "0.5")
    whole = await buyer.order_now(TWO_LINES[1:], vendor="F002")
    await buyer.receive(whole)
    cancelled = await buyer.create_order(TWO_LINES)
    await buyer.cancel(cancelled)
    changed = await buyer.create_order(TWO_LINES)
    (first, _) = await buyer.lines(changed)
    await buyer.change_line(first["id"], quantity=12)
    await buyer.order_now(TWO_LINES)


def clean(request: httpx.Request, body: str) -> str:
    """An answer without its session token and its number, and of fields what relay reads."""
    answer = json.loads(body) | {"id": 0}
    match json.loads(request.content)["method"].rpartition(".")[2]:
        case "login":
            answer["result"] = [answer["result"][0], "token", None]
        case "fields_get":
            answer["result"] = {
                name: {part: told[part] for part in OF_FIELDS if part in told}
                for name, told in answer["result"].items()
            }
    return json.dumps(answer, ensure_ascii=False)


class Elsewhere(httpx.AsyncBaseTransport):
    """Sends what is meant for the suite's own address to a real server."""

    def __init__(self, url: str) -> None:
        self.inner, self.url = httpx.AsyncHTTPTransport(), httpx.URL(url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme=self.url.scheme, host=self.url.host, port=self.url.port)
        return await self.inner.handle_async_request(request)


async def record_writers() -> None:
    """Run each scenario of the suite of writers against a fresh Tryton and keep its answers."""
    recording = RecordingInTurn(clean)
    for recording.name, scenario in SCENARIOS.items():
        with tempfile.TemporaryDirectory() as data:
            async with tryton(CACHE, Path(data)) as erp:
                await erp.buyer.set_password(erp.username, CANARY)
                recording.inner = Elsewhere(erp.url)
                await scenario(TRYTON_HARNESS, recording)
    recording.write(RECORDINGS / "tryton_writing.json")
    print(f"{len(recording.bodies)} answers to writers recorded")  # noqa: T201 - a script speaks


async def main() -> None:
    """Fill a fresh Tryton, ask it everything, write the recordings."""
    await record_writers()
    with tempfile.TemporaryDirectory() as data:
        async with tryton(CACHE, Path(data), print) as erp:
            await orders(erp)
            recording = Recording(httpx.AsyncHTTPTransport(), clean)
            credentials = TrytonCredentials(username=erp.username, password=erp.password)

            def connect(mappings: Mappings | None = None, **settings: object) -> object:
                made = TrytonSettings(**{"url": erp.url, "database": erp.database, **settings})
                client = httpx.AsyncClient(transport=PoliteTransport(recording, QUICK))
                return TRYTON.build(made, credentials, client, mappings or Mappings(TRYTON_HARNESS.mapping))

            await all_questions(connect, TRYTON_HARNESS)
            async with httpx.AsyncClient(transport=recording) as client:  # asked when a login is answered 404
                await client.post(f"{erp.url}/rpc/", json={"id": 0, "method": "common.db.list", "params": []})
            recording.write(RECORDINGS / "tryton.json")
            print(f"{len(recording.exchanges)} exchanges recorded")  # noqa: T201 - a script speaks


if __name__ == "__main__":
    asyncio.run(main())
