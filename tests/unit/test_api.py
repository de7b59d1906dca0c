"""Health, metrics and the catalogue, over real HTTP on a free port."""

import asyncio
import socket
import time

import httpx
import jsonschema
import pytest

from relay import __version__
from relay.api.app import application, served
from relay.domain.errors import Unavailable, UserError
from relay.domain.events import EVENT_TYPES


async def well():
    return None


async def away():
    raise Unavailable("PostgreSQL does not answer: is it running?")


async def hangs():
    await asyncio.Event().wait()


async def asked(path, **checks):
    async with served(application(checks, patience=0.05), "127.0.0.1", 0) as url, httpx.AsyncClient() as client:
        return await client.get(url + path)


async def test_live_needs_nothing_else_to_answer():
    reply = await asked("/health/live", database=away)
    assert (reply.status_code, reply.json()) == (200, {"status": "live", "version": __version__})


async def test_ready_when_all_parts_answer():
    reply = await asked("/health/ready", database=well, broker=well)
    assert reply.status_code == 200
    assert reply.json() == {"status": "ready", "parts": {"database": "ok", "broker": "ok"}}


async def test_not_ready_says_which_part_and_why():
    reply = await asked("/health/ready", database=away, broker=well, slow=hangs)
    assert reply.status_code == 503
    assert reply.json() == {
        "status": "waiting",
        "parts": {
            "database": "PostgreSQL does not answer: is it running?",
            "broker": "ok",
            "slow": "no answer within 0.05 s",
        },
    }


async def test_metrics_are_prometheus_text():
    reply = await asked("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert "relay_delivery_attempt_seconds_bucket" in reply.text


async def test_the_catalogue_has_every_type_and_valid_schemas():
    catalogue = (await asked("/v1/catalogue")).json()
    assert tuple(catalogue["event_types"]) == EVENT_TYPES
    for schema in catalogue["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_the_port_is_free_again_afterwards():
    async with served(application({}), "127.0.0.1", 0) as url:
        port = httpx.URL(url).port
    async with served(application({}), "127.0.0.1", port) as again:
        assert again == url


async def test_a_taken_port_names_the_setting():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} on 127\.0\.0\.1 is taken.*RELAY_HTTP__PORT"):
            async with served(application({}), "127.0.0.1", port):
                pass


async def test_an_address_of_another_machine_names_the_setting():
    with pytest.raises(UserError, match=r"cannot listen on port 0 of 192\.0\.2\.1.*RELAY_HTTP__HOST"):
        async with served(application({}), "192.0.2.1", 0):
            pass


async def test_a_request_that_hangs_does_not_hold_up_the_end():
    begun = asyncio.Event()

    async def slow():
        begun.set()
        await hangs()

    checks = {"slow": slow}
    async with httpx.AsyncClient() as client:
        async with served(application(checks, patience=60), "127.0.0.1", 0) as url:
            request = asyncio.create_task(client.get(url + "/health/ready"))
            await asyncio.wait_for(begun.wait(), 10)
            at = time.monotonic()
        assert time.monotonic() - at < 10
        await asyncio.wait([request])
        request.exception()
