"""Counts and times every request by its route, never by its path: names are unbounded."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from novakube_kit.metrics import PHASE_BUCKETS_S

REQUESTS = Counter(
    "novakube_http_requests_total",
    "Requests answered by route and code; an answer that broke off counts as code aborted.",
    ["route", "method", "code"],
)
SECONDS = Histogram(
    "novakube_http_request_seconds",
    "Seconds from a request to the last byte of its answer.",
    ["route"],
    buckets=PHASE_BUCKETS_S,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code = ""
        complete = False

        async def watched(message: Message) -> None:
            nonlocal code, complete
            if message["type"] == "http.response.start":
                code = str(message["status"])
            elif not message.get("more_body"):
                complete = True
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(route, method, code if complete else "aborted").inc()
            SECONDS.labels(route).observe(time.perf_counter() - started)
