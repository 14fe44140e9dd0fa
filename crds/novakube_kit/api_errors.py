"""The API server's answers as our errors. The server's own sentence is what users read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from novakube_kit.errors import (
    AlreadyExists,
    ApiUnavailable,
    Conflict,
    Forbidden,
    InvalidSpec,
    NotFound,
    NovakubeError,
    Terminal,
)

UNAUTHORIZED = "Unauthorized"
EXPIRED = "Expired"
NAMESPACE_TERMINATING = "NamespaceTerminating"
VERSION_TOO_LARGE = "ResourceVersionTooLarge"
"""The version asked for is newer than what the server knows: it is behind, or its store was
restored. Source: k8s.io/apiserver storage/errors.go, NewTooLargeResourceVersionError."""


def api_error(code: int, status: Mapping[str, Any], after_s: float | None = None) -> NovakubeError:
    """The error of an HTTP code >= 400 and the ``metav1.Status`` that came with it.

    Args:
        code: HTTP status, or ``code`` of a watch's ERROR event.
        status: the decoded body; may lack every field.
        after_s: seconds the server asks to wait; ``details.retryAfterSeconds`` counts too.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/.
    """
    message = str(status.get("message") or f"the Kubernetes API answered {code}")
    reason = str(status.get("reason") or "")
    details = status.get("details") or {}
    causes = [cause.get("reason") for cause in details.get("causes") or ()]
    if code in (408, 429) or code >= 500:
        asked_s = details.get("retryAfterSeconds")
        too_large = VERSION_TOO_LARGE if VERSION_TOO_LARGE in causes else None
        return ApiUnavailable(message, reason=too_large, after_s=after_s or asked_s or None)
    if code == 409:
        return AlreadyExists(message) if reason == "AlreadyExists" else Conflict(message)
    if code in _BY_CODE:
        kind, fixed = _BY_CODE[code]
        return kind(message, reason=fixed)
    if code == 403:
        terminating = NAMESPACE_TERMINATING in causes
        return Forbidden(message, reason=NAMESPACE_TERMINATING if terminating else None)
    return Terminal(message, reason=reason or None)


_BY_CODE: Mapping[int, tuple[type[NovakubeError], str | None]] = {
    400: (InvalidSpec, None),
    401: (Forbidden, UNAUTHORIZED),
    404: (NotFound, None),
    410: (Conflict, EXPIRED),
    413: (InvalidSpec, "TooLarge"),
    422: (InvalidSpec, None),
}


def retry_after_s(header: str | None) -> float | None:
    """``Retry-After`` in seconds; the API server never sends the form with a date."""
    return float(header) if header is not None and header.isdecimal() else None
