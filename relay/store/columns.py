r"""Columns of many rows, each as one text: for the statements that every delivery pays for.

    column(["a", None]) -> "a\n" -> string_to_array($1, E'\n', '') -> 'a', NULL

An array is easier to read, but asyncpg asks of each of its elements three times whether it is an array itself: that was
more of a worker's work than all else that it sends to the store.
"""

from collections.abc import Collection


def column(values: Collection[object]) -> str:
    """These as one text, None as nothing. No value has a line end: neither ids nor what names an order can have one."""
    text = "\n".join(["" if each is None else str(each) for each in values])
    assert text.count("\n") == max(0, len(values) - 1)
    return text
