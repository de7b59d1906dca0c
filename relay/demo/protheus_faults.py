"""How a simulated Protheus fails: each fault that real ones were seen to show, planned by a script or by a header.

erp.fail_next("reset", 2, on="write")                  before anything is written
erp.fail_next("html", on="write", applied=True)        after it: the caller cannot know
x-fail: reset    x-fail: after reset                   the same for one call, by a header of the request
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from relay.demo.rough_http import ROUGH, Reply, Request

Endpoint = Literal["query", "token", "write"]
Fault = Literal[
    "html", "html_200", "503", "503_retry_after", "429", "404", "500_ttalk", "400_ttalk", "500_error_code",
    "200_status_400", "401", "401_empty", "truncated", "short", "empty", "reset", "timeout",
]  # fmt: skip
HEADER: Final = "x-fail"
_AFTER: Final = "after "


@dataclass(frozen=True, slots=True)
class Planned:
    """One failure to come; `applied`: the work is done all the same, and only its answer is lost."""

    fault: Fault
    applied: bool = False


class Faults:
    """The failures that were asked for, in order, and how they look; `json` makes a reply of a status and a body."""

    def __init__(self, json: Callable[[int, Any], Reply]) -> None:
        self._json = json
        self._planned: dict[str, deque[Planned]] = {name: deque() for name in get_args(Endpoint)}
        self.choose: Callable[[Request], Planned | None] = lambda _: None
        """Asked for each call of a write endpoint that has no failure planned: a test's own dice."""

    def plan(self, endpoint: Endpoint, planned: Planned, count: int) -> None:
        """Let the next `count` calls of that endpoint fail, after those asked for before."""
        self._planned[endpoint].extend([planned] * count)

    def clear(self) -> None:
        """Forget the failures that were asked for."""
        for planned in self._planned.values():
            planned.clear()
        self.choose = lambda _: None

    def answered(self, endpoint: Endpoint, request: Request, answer: Callable[[Request], Reply]) -> Reply:
        """The answer, or the failure whose turn it is."""
        planned = self._next(endpoint, request)
        if planned is None:
            return answer(request)
        if planned.fault == "truncated":
            whole = answer(request)
            return replace(whole, body=whole.body[: len(whole.body) // 2])
        if planned.fault == "short":
            return replace(answer(request), manner="short")
        if planned.applied:
            answer(request)
        return self.reply(planned.fault)

    def reply(self, fault: Fault) -> Reply:
        """What the caller sees of a fault."""
        if fault in ROUGH:
            return ROUGH[fault]
        status, content = _TEXTS[fault]
        return self._json(status, content)

    def _next(self, endpoint: Endpoint, request: Request) -> Planned | None:
        asked = request.headers.get(HEADER, "")
        known = {str(fault): fault for fault in get_args(Fault)}
        if (name := asked.removeprefix(_AFTER)) in known:
            return Planned(known[name], applied=asked.startswith(_AFTER))
        if self._planned[endpoint]:
            return self._planned[endpoint].popleft()
        return self.choose(request) if endpoint == "write" else None


def ttalk(code: str, message: str, detail: str) -> dict[str, Any]:
    """The body of a TTALK fault."""
    return {"code": code, "message": message, "detailedMessage": detail, "helpUrl": "", "details": []}


_TEXTS: Final[Mapping[str, tuple[int, dict[str, Any]]]] = {
    "401": (401, {"code": 401, "message": "Não autorizado", "detailedMessage": "Usuário ou senha inválidos"}),
    "404": (404, {"errorCode": 404, "errorMessage": "Recurso não encontrado"}),
    "500_ttalk": (500, ttalk("500", "Erro na execução", "THREAD ERROR ([1234], relay, srv)")),
    "400_ttalk": (400, ttalk("400", "Fornecedor inválido", "AJUDA:REGNOIS C7_FORNECE := FOR999 < -- Invalido")),
    "500_error_code": (500, {"errorCode": 500, "errorMessage": "Fornecedor inválido"}),
    "200_status_400": (200, {"Status": "400", "Mensagem": "Fornecedor invalido"}),
}
