"""Names behind codes: whoever reads beside somebody who asks for them has them, too."""

import asyncio

import pytest

from relay.connectors.protheus.names import Names
from relay.connectors.protheus.query import Answer
from relay.domain.errors import Unavailable
from tests.fakes import run

ROW = {"C7_FORNECE": "FOR001", "C7_LOJA": "01"}
NAMED = {"A2_COD": "FOR001", "A2_LOJA": "01", "A2_NOME": "São João", "A2_CGC": "1"}


class Slow:
    """Answers after a while; first what is wrong, if something is."""

    def __init__(self, *wrong):
        self.wrong = list(wrong)

    async def rows(self, table, *_, **__):
        await asyncio.sleep(1)
        if self.wrong:
            raise self.wrong.pop(0)
        return Answer((NAMED,) if table == "SA2" else (), more=False, hidden=frozenset())


def test_two_that_ask_at_once_both_have_the_name():
    async def work():
        names = Names(Slow())
        return await asyncio.gather(*(names.beside([ROW]) for _ in range(2)))

    assert [row["A2_NOME"] for (row,) in run(work())] == ["São João"] * 2


def test_a_name_that_was_not_answered_is_asked_for_again():
    async def work():
        names = Names(Slow(Unavailable("down")))
        with pytest.raises(Unavailable):
            await names.beside([ROW])
        return await names.beside([ROW])

    assert run(work())[0]["A2_NOME"] == "São João"
