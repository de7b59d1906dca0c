"""The demo's screen: a live view on a terminal, plain lines elsewhere. Reads the book, writes nothing into it."""

import asyncio
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relay.demo.book import Book, Key, Trip

REFRESH = 0.25
SHOWN_TRIPS = 8
SHOWN_CHANGES = 8


async def live(book: Book, console: Console) -> None:
    """Redraw until cancelled."""
    with Live(_view(book), console=console, auto_refresh=False, transient=True) as screen:
        while True:
            await asyncio.sleep(REFRESH)
            screen.update(_view(book), refresh=True)


async def plain(book: Book, console: Console) -> None:
    """A line whenever something moved, until cancelled."""
    told = ""
    while True:
        line = book.phase
        if book.webhooks:
            line += f": {book.changes} changes, {len(book.topic_events)} events, {book.webhooks} verified webhooks"
        if line != told:
            console.print(line, highlight=False)
            told = line
        await asyncio.sleep(REFRESH * 4)


def summary(proof: dict[str, Any], console: Console) -> None:
    """The proof of completeness, for people."""
    table = Table(title="Nothing lost, nothing out of order" if proof["complete"] else "The figures do not agree")
    table.add_column("figure")
    table.add_column("value", justify="right")
    made = proof["orders_at_start"] + proof["changes_made"]
    table.add_row("orders told by the first sync", str(proof["orders_at_start"]))
    table.add_row("changes made in the ERP after it", str(proof["changes_made"]))
    table.add_row("to be told in all", str(made))
    table.add_row("events on the topic", str(proof["events_on_topic"]))
    table.add_row("commands sent, and applied once", f"{proof['commands_sent']}, {proof['commands_applied']}")
    table.add_row("changes that say which command caused them", str(proof["changes_caused_by_commands"]))
    table.add_row("results on their topic (accepted, applied)", str(proof["results_on_topic"]))
    table.add_row("verified webhooks (events and results)", str(proof["verified_webhooks"]))
    table.add_row("out of order", str(proof["out_of_order"]))
    table.add_row("duplicates (same id, dropped by the receiver)", str(proof["duplicates"]))
    for name, spread in (("topic", proof["seconds_to_topic"]), ("webhook", proof["seconds_to_webhook"])):
        figures = ", ".join(f"{key} {value:.2f} s" for key, value in spread.items())
        table.add_row(f"ERP change to {name} (polled twice a second)", figures)
    console.print(table)


def _view(book: Book) -> Group:
    counts = Table.grid(padding=(0, 3))
    counts.add_row(
        f"changes in the ERP [b]{book.seeded + book.changes}[/]",
        f"events on the topic [b]{len(book.topic_events)}[/]",
        f"verified webhooks [b]{book.webhooks}[/]",
    )
    return Group(
        Panel(counts, title=f"relay demo: {book.phase}", title_align="left"),
        _trips(book),
        _last(book.last),
    )


def _trips(book: Book) -> Table:
    arrived = [trip for trip in book.trips if trip.event in book.webhook_times]
    title = f"Latest changes ({len(book.trips) - len(arrived)} on their way)"
    table = Table(expand=True, title=title, title_justify="left")
    for name in ("order", "change in the ERP", "on the topic after", "verified webhook after"):
        table.add_column(name)
    for trip in arrived[-SHOWN_TRIPS:]:
        table.add_row(trip.number, trip.name, _after(trip, book.topic_times), _after(trip, book.webhook_times))
    return table


def _after(trip: Trip, times: dict[Key, float]) -> str:
    return f"{times[trip.event] - trip.changed_at:.2f} s" if trip.event in times else "..."


def _last(event: dict[str, Any]) -> Panel:
    if not event:
        return Panel(Text("waiting for the first change"), title="Last event", title_align="left")
    data = event["data"]
    first = f"{data['number']} sequence {data['sequence']}: {', '.join(data['kinds'])}"
    changes = [
        f"  {change['path']}: {_short(change['before'])} -> {_short(change['after'])}"
        for change in data["changes"][:SHOWN_CHANGES]
    ]
    return Panel(Text("\n".join([first, *changes])), title=f"Last event: {event['type']}", title_align="left")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
