"""Migrations are one line: each file is numbered, and follows the one before it."""

import re
from pathlib import Path

from relay import store


def test_each_migration_follows_the_one_before_it():
    told = {}
    for path in sorted((Path(store.__file__).parent / "migrations" / "versions").glob("*.py")):
        text = path.read_text()
        (revision,) = re.findall(r'^revision = "(\d{4})"$', text, re.MULTILINE)
        (before,) = re.findall(r"^down_revision = (.+)$", text, re.MULTILINE)
        assert path.name.startswith(f"{revision}_")
        told[revision] = before.strip('"')
    numbers = [f"{number:04}" for number in range(1, len(told) + 1)]
    assert list(told) == numbers
    assert list(told.values()) == ["None", *numbers[:-1]]
