"""Problems: every refusal in one shape (RFC 9457), with a sentence that says what to do. None repeats what came."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from relay.domain.errors import NotFound, Unavailable, UserError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5
"""Seconds, when the database does not answer."""


class Problem(BaseModel):
    """Why a request was refused."""

    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What is wrong, and what to do.")


def problem(
    status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: str | int
) -> Response:
    """The answer that refuses a request; `members` stand beside the usual ones."""
    content = {**Problem(title=status.phrase, status=status, detail=detail).model_dump(), **members}
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})}, MEDIA_TYPE)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is told of the refusals of a path."""
    described = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    answers: dict[int | str, dict[str, Any]] = {
        int(each): {"description": each.phrase, "content": described} for each in statuses
    }
    # Without a default FastAPI would add an answer of its own, which is never sent.
    return {**answers, "default": {"description": "Refused", "content": described}}


def answer_with_problems(app: FastAPI) -> None:
    """Errors that are raised on purpose become problems."""

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, error: RequestValidationError) -> Response:
        return problem(
            HTTPStatus.BAD_REQUEST, "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        )

    @app.exception_handler(NotFound)
    async def not_found(_: Request, error: NotFound) -> Response:
        return problem(HTTPStatus.NOT_FOUND, str(error))

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> Response:
        return problem(HTTPStatus.BAD_REQUEST, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> Response:
        # The error names settings and parts: for logs and operators, not for receivers.
        del error
        detail = "relay's database does not answer now: try again"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": str(RETRY_AFTER)})
