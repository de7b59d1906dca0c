"""The yardstick: pyreqwest alone, in a process of its own, with one prebuilt signed request and nothing around it.

parent: bare(at, ...) -> Timed        child: python -m bench.bare, told on its standard input what to send
"""

import asyncio
import base64
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import uvloop
from pyreqwest.client import ClientBuilder

from bench.clock import Timed, timed
from bench.trouble import Lost
from relay.domain.deliveries import Delivery, DeliveryId
from relay.domain.signing import parse_secret, webhook_headers


@dataclass(frozen=True, slots=True)
class Errand:
    """So many requests to `url`, so many at once. `authority` is the file of the certificate that is trusted."""

    url: str
    authority: str
    secret: str
    body: bytes
    requests: int
    at_once: int


async def bare(errand: Errand) -> Timed:
    """How fast the client alone is."""
    now = datetime.now(UTC)
    delivery = Delivery(DeliveryId("dlv_bare"), "evt_bare", "lane", 1, now, 0, errand.body)
    headers = webhook_headers([parse_secret(errand.secret)], delivery, int(now.timestamp()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "SSL_CERT_FILE": errand.authority},
    )
    body = base64.b64encode(errand.body).decode()
    told = {"url": errand.url, "requests": errand.requests, "at_once": errand.at_once, "headers": headers, "body": body}
    said, _ = await process.communicate(orjson.dumps(told))
    if process.returncode:
        raise Lost("the bare client has failed")
    return Timed(**orjson.loads(said))


async def _sent(told: dict[str, str], requests: int, at_once: int, headers: dict[str, str]) -> Timed:
    body, left = base64.b64decode(told["body"]), iter(range(requests))
    async with ClientBuilder().no_proxy().http1_only().pool_max_idle_per_host(at_once).build() as client:

        async def send() -> None:
            for _ in left:
                response = await client.post(told["url"]).headers(headers).body_bytes(body).build().send()
                if response.status // 100 != 2:
                    raise Lost(f"the receiver answers with {response.status}")

        with timed(requests) as watch:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(at_once):
                    tasks.create_task(send())
    return watch


def _main() -> None:
    told = orjson.loads(sys.stdin.buffer.read())
    watch = uvloop.run(_sent(told, told["requests"], told["at_once"], told["headers"]))
    sys.stdout.buffer.write(orjson.dumps({"count": watch.count, "seconds": watch.seconds, "cpu": watch.cpu}))


if __name__ == "__main__":
    _main()
