"""`relay listen`: a webhook receiver for one's own machine, which verifies each signature and prints what came."""

import asyncio
import os
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from relay.cli.options import AsJson
from relay.cli.running import run, settings_for_command, stopping
from relay.cli.shown import document_line, line, note
from relay.demo.received import Kind, Received
from relay.demo.receiver import Receiver, Tally, receiver
from relay.domain.notices import CONNECTION_TYPES
from relay.domain.results import RESULT_TYPES
from relay.domain.signing import VerifyingKey, verifying_key

VARIABLE = "RELAY_LISTEN_SECRET"
SHOWN_CHANGES = 6
LONGEST_VALUE = 40


def listen(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 9000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    secret_file: Annotated[
        Path | None,
        typer.Option(help=f"File with whsec_... or whpk_... keys; without it {VARIABLE} is read, or it is asked for."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Receive webhooks here: verify each signature, print what came, and count at the end.

    Requests with a bad signature are answered 401, all others 204.
    """
    from relay.cli.given import signing_secrets_of

    settings_for_command(None)
    secrets = [verifying_key(each) for each in signing_secrets_of(secret_file, VARIABLE, os.environ)]
    run(_listen(secrets, host, port, as_json=as_json))


async def _listen(secrets: list[VerifyingKey], host: str, port: int, *, as_json: bool) -> None:
    async with stopping() as stop, receiver(secrets, host=host, port=port) as here:
        note(f"listening at {here.url} (Ctrl-C ends and counts)")
        printing = asyncio.create_task(_print(here, as_json=as_json))
        await asyncio.wait({printing, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        printing.cancel()
        with suppress(asyncio.CancelledError):
            await printing
    while not here.received.empty():
        _tell(here.received.get_nowait(), as_json=as_json)
    _tell_totals(here.tally, as_json=as_json)


async def _print(here: Receiver, *, as_json: bool) -> None:
    while True:
        _tell(await here.received.get(), as_json=as_json)


def _tell(each: Received, *, as_json: bool) -> None:
    data = _data(each.body)
    if as_json:
        told: dict[str, Any] = {
            "kind": each.kind,
            "verified": each.verified,
            "problem": each.problem,
            "type": each.type,
            "event_id": each.event_id,
            "delivery": each.delivery,
            "attempt": each.attempt,
            "timestamp": each.timestamp,
            "order_id": each.order_id,
            "number": data.get("number"),
            "sequence": each.sequence,
            "command_id": data.get("command_id"),
            "kinds": data.get("kinds", []),
            "changes": data.get("changes", []),
        }
        document_line(told)
        return
    at = datetime.now().astimezone().strftime("%H:%M:%S")
    if each.kind is Kind.HANDSHAKE:
        line(f"{at}  handshake  {each.asked_by or '?'} asks whether webhooks are wanted here")
        return
    if not each.verified:
        line(f"{at}  REFUSED  {each.problem}")
        return
    if each.kind is Kind.CHALLENGE:
        line(f"{at}  challenge  answered")
        return
    again = f" (attempt {each.attempt})" if each.attempt > 1 else ""
    word = "test" if each.kind is Kind.TEST else "verified"
    line(f"{at}  {word}  {each.type}  {_about(data, each)}{again}")
    changes = data.get("changes", [])
    for change in changes[:SHOWN_CHANGES]:
        line(f"            {change['path']}: {_short(change['before'])} -> {_short(change['after'])}")
    if len(changes) > SHOWN_CHANGES:
        line(f"            and {len(changes) - SHOWN_CHANGES} more changes")


def _about(data: dict[str, Any], each: Received) -> str:
    if each.type in RESULT_TYPES:
        order = f"  order {data['remote_id']}" if data.get("remote_id") else ""
        return f"command {data.get('command_id')}{order}"
    if each.type in CONNECTION_TYPES:
        return f"connection {data.get('subject_name')}"
    return f"order {data.get('number') or '?'}  sequence {each.sequence}"


def _tell_totals(tally: Tally, *, as_json: bool) -> None:
    counts = {name: value for name, value in asdict(tally).items() if isinstance(value, int)}
    if as_json:
        document_line({"totals": counts})
    else:
        line(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()))


def _data(body: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    data = event.get("data") if isinstance(event, dict) else None
    return data if isinstance(data, dict) else {}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
