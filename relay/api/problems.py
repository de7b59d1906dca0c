"""Problems: every refusal in one shape (RFC 9457), with a sentence that says what to do. None repeats what came."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from relay.domain.errors import AlreadyThere, KeyTrouble, NotFound, Permanent, RelayError, Transient, UserError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5
"""Seconds, when the database does not answer."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is answered now."""
asked_here: ContextVar[bool] = ContextVar("asked_here", default=False)
"""Whether it came by this machine's own socket, or from this process: an administrator is told the parts' own words."""

# The first that fits counts.
_STATUSES: tuple[tuple[type[RelayError], HTTPStatus], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (AlreadyThere, HTTPStatus.CONFLICT),
    (KeyTrouble, HTTPStatus.INTERNAL_SERVER_ERROR),
    (UserError, HTTPStatus.BAD_REQUEST),
    (Permanent, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Transient, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Problem(BaseModel):
    """Why a request was refused."""

    title: str = Field(description="The status in words.")
    status: int
    code: str = Field(description="What is wrong, in a word for programs: `not_found`, `credentials_refused`.")
    detail: str = Field(description="What is wrong, and what to do.")
    request_id: str = Field(description="The same as in the header `request-id`, and in relay's logs.")


def problem(
    status: HTTPStatus, detail: str, *, code: str = "", headers: Mapping[str, str] | None = None, **members: str | int
) -> Response:
    """The answer that refuses a request; `members` stand beside the usual ones."""
    told = Problem(
        title=status.phrase,
        status=status,
        code=code or status.name.lower(),
        detail=detail,
        request_id=request_id.get(),
    )
    content = {**told.model_dump(), **members}
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})}, MEDIA_TYPE)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is told of the refusals of a path."""
    described = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers: dict[int | str, dict[str, Any]] = {
        int(each): {"description": each.phrase, "content": described} for each in statuses
    }
    # Without a default FastAPI would add an answer of its own, which is never sent.
    return {**answers, "default": {"description": "Refused", "content": described}}


def problem_of(error: Exception) -> Response:
    """The answer to an error that was raised on purpose; any other is raised again."""
    match error:
        case RequestValidationError():
            return problem(HTTPStatus.BAD_REQUEST, "; ".join(map(_told, error.errors())), code="unreadable")
        case HTTPException():
            return problem(HTTPStatus(error.status_code), str(error.detail), headers=error.headers)
        case RelayError():
            return _of_ours(error)
        case _:
            raise error


def ended_badly() -> Response:
    """The answer to a request that met a bug."""
    detail = "this is a bug in relay: its log says under `request_id` where"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def answer_with_problems(app: FastAPI) -> None:
    """Errors that are raised on purpose become problems."""

    async def refused(request: Request, error: Exception) -> Response:
        answer = problem_of(error)
        if answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # Starlette names the methods of one route of the path, not those of all.
            path = getattr(request.scope.get("route"), "path", "")
            answer.headers["allow"] = ", ".join(each.upper() for each in app.openapi()["paths"].get(path, {}))
        return answer

    for kind in (RequestValidationError, HTTPException, RelayError):
        app.add_exception_handler(kind, refused)


def _of_ours(error: RelayError) -> Response:
    code = re.sub("(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    if error.of_erp:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), code=code)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.CONFLICT)
    if isinstance(error, Transient):
        # The error names settings and parts: for logs and operators, not for receivers.
        detail = str(error) if asked_here.get() else "relay's database does not answer now: try again"
        return problem(status, detail, code=code, headers={"retry-after": str(RETRY_AFTER)})
    field = getattr(error, "field", None)
    return problem(status, str(error), code=code, **({"field": field} if field else {}))


def _told(wrong: Mapping[str, Any]) -> str:
    if wrong["loc"] == ("body",) and isinstance(wrong.get("input"), bytes):
        return "the body is taken for JSON only when it is called so: send the header `Content-Type: application/json`"
    place = ".".join(str(step) for step in wrong["loc"][1:]) or str(wrong["loc"][0])
    return f"{place}: {wrong['msg'].removeprefix('Value error, ')}"
