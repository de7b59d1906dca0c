"""Markdown: tables and the words for values."""

from collections.abc import Iterable, Sequence


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table; bars inside cells are escaped, line ends become blanks."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(_cell(each) for each in line)} |\n" for line in lines)


def code(text: str) -> str:
    """Text as code, or nothing for nothing."""
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
