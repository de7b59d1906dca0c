"""`relay demo`: from a change in an ERP to a verified webhook, before one's eyes, with the proof at the end."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from relay.cli.options import AsJson, Erp
from relay.cli.running import run, settings_for_command, stopping
from relay.cli.shown import document
from relay.domain.errors import RelayError

if TYPE_CHECKING:
    from relay.demo.book import Book
    from relay.demo.show import Plan
    from relay.settings import Settings

Screen = Callable[["Book", Console], Coroutine[Any, Any, None]]


def demo(
    *,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Go on until Ctrl-C.")] = False,
    erp: Annotated[Erp, typer.Option(help="A simulated Protheus or RM, or a real Tryton (installed: a minute).")] = (
        Erp.PROTHEUS
    ),
    orders: Annotated[int, typer.Option(min=1, max=10_000, help="Orders that the ERP has at the beginning.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Show the whole line on this machine: an ERP, relay, topic, verifying receiver; proof at the end.

    Nothing is installed and nothing stays behind.
    """
    from relay.app.standing import data_directory
    from relay.demo import screen
    from relay.demo.show import Plan

    settings = settings_for_command(None)
    installed = data_directory(settings) / "simulated" / "tryton-installed"
    view: Screen = screen.plain if plain or as_json or not sys.stdout.isatty() else screen.live
    run(_demo(settings, Plan(orders=orders, keep=keep, erp=erp.value, installed=installed), view, as_json=as_json))


async def _demo(settings: "Settings", plan: "Plan", view: Screen, *, as_json: bool) -> None:
    from relay.demo import screen, show
    from relay.demo.book import Book

    book, console = Book(), Console(stderr=as_json)

    def done(proof: dict[str, Any]) -> None:
        if as_json:
            document(proof)
        else:
            screen.summary(proof, console)
        if not proof["complete"]:
            raise RelayError("the figures do not agree: something was lost, doubled or out of order")

    async with stopping() as stop:
        showing = asyncio.create_task(view(book, console))
        playing = asyncio.create_task(show.run(settings, plan, book, done))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopped, showing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, showing, stopped):
            task.cancel()
        ended = await asyncio.gather(playing, showing, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each
    if stop.is_set() and not plan.keep:
        raise KeyboardInterrupt
