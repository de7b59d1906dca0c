"""Faults of the simulated RM, on demand: by script, by chance, by a request's header, or over HTTP.

erp.faults.next("reset", 2, on="create")              the next two creates are reset before anything is written
erp.faults.next("after reset", on="create")           one is reset after it: the caller cannot know
erp.faults.chance = lambda call, request: ...         any call, as a test's dice fall
X-Fail: after timeout                                 this call
POST {url}/simulator/faults {"fault": "429", "count": 3, "on": "list"}
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, get_args

from relay.demo.rough_http import ROUGH, Charset, Reply, Request, json_reply

Call = Literal["token", "list", "read", "create", "update", "cancel", "delete"]
CALLS: Final[tuple[str, ...]] = get_args(Call)
HEADER: Final = "x-fail"
_AFTER: Final = "after "
_CUT: Final = ("truncated", "short")
"""Half of an answer to a call that was done."""


class Faults:
    """What is to go wrong."""

    def __init__(self) -> None:
        self._next: dict[str, deque[str]] = {call: deque() for call in CALLS}
        self.chance: Chance = no_fault
        """Asked for each call for which no script says anything."""
        self.served = 0
        """How many calls went wrong."""

    def next(self, fault: str, count: int = 1, *, on: str) -> None:
        """Let the next `count` calls of that kind fail in this way, after those asked for before. Raises ValueError."""
        if not _is_known(fault) or on not in CALLS:
            raise ValueError(f"no fault {fault!r} on {on!r}: faults are {', '.join(FAULTS)}, on {', '.join(CALLS)}")
        self._next[on].extend([fault] * count)

    def heal(self) -> None:
        """Forget the faults that were asked for."""
        self.chance = no_fault
        for waiting in self._next.values():
            waiting.clear()

    def answered(self, call: str, request: Request, answer: Callable[[Request], Reply], charset: Charset) -> Reply:
        """The answer, or the fault whose turn it is, before or after the call is done."""
        fault = self._of(call, request)
        if fault is None:
            return answer(request)
        self.served += 1
        kind = fault.removeprefix(_AFTER)
        if kind == fault and kind not in _CUT:
            return instead(kind, charset)
        whole = answer(request)
        if kind == "truncated":
            return replace(whole, body=whole.body[: len(whole.body) // 2])
        return replace(whole, manner="short") if kind == "short" else instead(kind, charset)

    def _of(self, call: str, request: Request) -> str | None:
        named = request.headers.get(HEADER, "")
        if _is_known(named):
            return named
        return self._next[call].popleft() if self._next[call] else self.chance(call, request)


Chance = Callable[[str, Request], str | None]


def no_fault(_call: str, _request: Request) -> str | None:
    """All goes well."""
    return None


def instead(fault: str, charset: Charset) -> Reply:
    """What comes instead of an answer."""
    if fault in ROUGH:
        return ROUGH[fault]
    status, content = _TEXTS[fault]
    return json_reply(status, content, charset)


def ttalk(code: str, message: str, detail: str = "") -> dict[str, object]:
    """A fault in the shape of TOTVS' own guide."""
    return {"code": code, "message": message, "detailedMessage": detail, "helpUrl": "", "details": []}


def _is_known(fault: str) -> bool:
    return fault.removeprefix(_AFTER) in FAULTS


_TEXTS: Final[dict[str, tuple[int, dict[str, object]]]] = {
    "401": (401, ttalk("401", "Não autorizado", "Usuário ou senha inválidos")),
    "404": (404, ttalk("404", "Movimento não localizado na base")),
    "500_ttalk": (500, ttalk("500", "Erro na execução", "Tempo limite de execução excedido (RM.Lib.RMSException)")),
    "500_error_code": (500, {"errorCode": 500, "errorMessage": "Erro ao acessar o servidor de aplicação"}),
    "200_status_400": (200, {"Status": "400", "Mensagem": "Requisição inválida"}),
}
FAULTS: Final = (*ROUGH, *_TEXTS, *_CUT)
