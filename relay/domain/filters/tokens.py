"""The words of a filter: names, numbers, texts and signs, one after the other, each with its place."""

import re
from typing import NamedTuple, NoReturn

from relay.domain.errors import UserError

_TOKEN = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*+) | (?P<number>-?[0-9]++(?:\.[0-9]++)?)
      | (?P<text>"(?:[^"\\]|\\.)*+" | '(?:[^'\\]|\\.)*+') | (?P<sign><>|[=!<>]=|[<>()\[\],.])""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[ \t\r\n]*+")
_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MISTAKEN = {"&&": "and", "||": "or", "<>": "!=", "=": "==", "!": "not", "AND": "and", "OR": "or", "NOT": "not"}
_SHOWN_BEFORE, _SHOWN = 30, 60
"""Characters of the filter that an error shows."""


class Token(NamedTuple):
    """One word: its kind (name, number, text, sign or end), itself, and where it begins."""

    kind: str
    text: str
    at: int


class Tokens:
    """The words of one text, read once from left to right; `now` is the one that was not taken yet."""

    def __init__(self, text: str) -> None:
        self._text, self._end = text, 0
        if unfit := _UNFIT.search(text):
            self._refuse("this character cannot be used", unfit.start())
        self.now = self._next()

    def take(self) -> Token:
        """The word, and on to the next."""
        token, self.now = self.now, self._next()
        return token

    def expect(self, text: str) -> None:
        """On to the next word, if this is `text`. Raises UserError."""
        if self.now.text != text:
            self.refuse(f"`{text}` is expected")
        self.take()

    def expect_kind(self, kind: str, what: str) -> str:
        """The word, if it is of this kind, and on to the next. Raises UserError saying `what` belongs here."""
        if self.now.kind != kind:
            self.refuse(f"{what} is expected")
        return self.take().text

    def refuse(self, what: str, at: int | None = None) -> NoReturn:
        """Raise UserError saying `what` is wrong with the word at `at`, or with this one, and show the place."""
        self._refuse(what, self.now.at if at is None else at)

    def _next(self) -> Token:
        blank = _BLANK.match(self._text, self._end)
        assert blank is not None
        at = blank.end()
        if at == len(self._text):
            return Token("end", "", at)
        found = _TOKEN.match(self._text, at)
        if found is None or found.group() in _MISTAKEN:
            self._refuse(_guess(self._text[at:]), at)
        self._end = found.end()
        return Token(str(found.lastgroup), found.group(), at)

    def _refuse(self, what: str, at: int) -> NoReturn:
        start = max(0, at - _SHOWN_BEFORE)
        shown = _UNFIT.sub("\ufffd", re.sub(r"[\t\r\n]", " ", self._text[start : start + _SHOWN]))
        raise UserError(
            f"the condition cannot be used, at character {at + 1}: {what}\n  {shown}\n  {' ' * (at - start)}^"
        ) from None


def unquoted(text: str) -> str:
    """What stands between the quotes; a backslash stands before a quote or a backslash that is meant."""
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _guess(rest: str) -> str:
    for mistaken, meant in _MISTAKEN.items():
        if rest.startswith(mistaken):
            return f"write `{meant}` instead of `{mistaken}`"
    return "the text is not closed" if rest[0] in "\"'" else "this character means nothing here"
