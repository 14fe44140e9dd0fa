"""Errors as the kubectl routes answer them: a Kubernetes Status object and its HTTP code."""

from __future__ import annotations

import logging

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from novakube_api.agents import AgentFailed, AgentUnreachable
from novakube_api.authorization import Denied, Unauthenticated
from novakube_kit.errors import ApiUnavailable, NotFound, NovakubeError

log = logging.getLogger(__name__)

_CODES: tuple[tuple[type[NovakubeError], int], ...] = (
    (Unauthenticated, 401),
    (Denied, 403),
    (NotFound, 404),
    (AgentFailed, 502),
    (AgentUnreachable, 504),
    (ApiUnavailable, 503),
)


def status_code(error: NovakubeError) -> int:
    """HTTP code of an error; 500 for what no caller can mend."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 500)


def status(
    code: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """A failure in the shape that kubectl and its libraries read (metav1.Status)."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return JSONResponse(body, status_code=code, headers=headers)


async def answer(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's exception handler for every NovakubeError."""
    if not isinstance(error, NovakubeError):
        raise error
    code = status_code(error)
    if code != 500:
        headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
        return status(code, error.reason, error.message, headers)
    # Our own request was refused: the caller can do nothing, the administrator must be told.
    log.error("Request failed: %s: %s", error.reason, error.message)
    return status(500, "InternalError", f"novakube-api itself was refused: {error.message}")


async def invalid(_: Request, error: Exception) -> JSONResponse:
    """400 naming each parameter, where FastAPI would answer 422 in its own shape."""
    if not isinstance(error, RequestValidationError):
        raise error
    message = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
    return status(400, "BadRequest", message)


async def http(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    reason = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "BadRequest")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return status(error.status_code, reason, message, dict(error.headers or {}))
