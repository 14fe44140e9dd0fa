"""Errors as the kubectl routes answer them: a Kubernetes Status object and its HTTP code."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse

from novakube_api.agents import AgentUnreachable
from novakube_api.authorization import Unauthenticated
from novakube_kit.errors import (
    ApiUnavailable,
    Conflict,
    Forbidden,
    InvalidSpec,
    NotFound,
    NovakubeError,
)

_CODES: tuple[tuple[type[NovakubeError], int], ...] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (InvalidSpec, 400),
    (AgentUnreachable, 504),
    (ApiUnavailable, 503),
)


def status_code(error: NovakubeError) -> int:
    """HTTP code of an error; 500 for what no caller can mend."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 500)


async def answer(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's exception handler for every NovakubeError."""
    if not isinstance(error, NovakubeError):
        raise error
    code = status_code(error)
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "code": code,
    }
    return JSONResponse(body, status_code=code, headers=headers)
