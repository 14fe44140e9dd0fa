"""Where bearer tokens come from: a file that somebody rotates, or the TokenRequest API."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Protocol

from novakube_kit.clock import Clock, SystemClock
from novakube_kit.errors import Forbidden, NovakubeError
from novakube_kit.kube import KubePort
from novakube_kit.resources import SERVICEACCOUNTS

_log = logging.getLogger(__name__)

FILE_CHECK_S = 10.0
"""A rotated token file is noticed within this time; the kubelet rotates at 80 % of a life."""
RENEW_AT = 0.8
"""Share of a token's life after which a new one is asked for, as the kubelet does."""
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


class TokenSource(Protocol):
    """Gives the bearer token of the next request."""

    async def token(self) -> str:
        """A token believed valid. Raises Forbidden or Retryable when there is none."""
        ...

    def invalidate(self) -> None:
        """The server refused the token with 401: do not give the same again unseen."""
        ...


class StaticToken:
    """A token that never changes, as a kubeconfig may carry one."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str:
        """The token."""
        return self._token

    def invalidate(self) -> None:
        """There is no other one; the caller's second 401 reaches its user."""


class FileToken:
    """A token file, read again when it changed (looked at every 10 s and after a 401)."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._token = ""
        self._check_at = float("-inf")

    async def token(self) -> str:
        """The file's content.

        Raises:
            Forbidden: the file is missing, unreadable or empty.
        """
        if self._clock.monotonic() >= self._check_at:
            self._token = await asyncio.to_thread(self._read)
            self._check_at = self._clock.monotonic() + FILE_CHECK_S
        return self._token

    def invalidate(self) -> None:
        """The next call reads the file."""
        self._check_at = float("-inf")

    def _read(self) -> str:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Forbidden(f"token file {self._path}: {error}", reason="NoToken") from error
        if not token:
            raise Forbidden(f"token file {self._path} is empty", reason="NoToken")
        return token


class RequestedToken:
    """A service account's token by TokenRequest, renewed in the background.

    Renewal starts at 80 % of the life the server granted, measured on the monotonic clock
    (a wrong wall clock does not matter), and is retried with backoff while the old token
    goes on being used until its end.
    """

    def __init__(
        self,
        kube: KubePort,
        namespace: str,
        service_account: str,
        *,
        life_s: int = 3600,
        audiences: tuple[str, ...] = (),
        clock: Clock | None = None,
    ) -> None:
        """Args: life_s: wanted seconds of life (>= 600, the API's minimum)."""
        self._kube = kube
        self._namespace = namespace
        self._account = service_account
        self._life_s = life_s
        self._audiences = audiences
        self._clock = clock or SystemClock()
        self._token = ""
        self._expires_at = float("-inf")
        self._renew_at = float("-inf")
        self._failures = 0
        self._renewal: asyncio.Task[None] | None = None

    async def token(self) -> str:
        """The current token; waits for a new one only when there is no valid one.

        Raises:
            Forbidden: the right to ask for it is missing.
            NotFound: the service account (or its namespace) does not exist yet.
            ApiUnavailable: no answer, and no valid token left.
        """
        now = self._clock.monotonic()
        if now >= self._expires_at:
            await asyncio.shield(self._renewing())
        elif now >= self._renew_at:
            self._renewing()
        return self._token

    def invalidate(self) -> None:
        """The next call asks for a new token and waits for it."""
        self._expires_at = float("-inf")

    async def settled(self) -> None:
        """Waits until no renewal is under way, however it ended."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    async def close(self) -> None:
        """Ends a renewal under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _renewing(self) -> asyncio.Task[None]:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew(), name=f"token-{self._namespace}")
            self._renewal.add_done_callback(self._report)
        return self._renewal

    def _report(self, renewal: asyncio.Task[None]) -> None:
        """Retrieves the outcome: in the background nobody else does."""
        error = None if renewal.cancelled() else renewal.exception()
        if error is not None:
            _log.warning("token of %s/%s not renewed: %s", self._namespace, self._account, error)

    async def _renew(self) -> None:
        asked_at = self._clock.monotonic()
        spec: dict[str, object] = {"expirationSeconds": self._life_s}
        if self._audiences:
            spec["audiences"] = list(self._audiences)
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": spec,
        }
        try:
            answer = await self._kube.create(
                SERVICEACCOUNTS, body, self._namespace, name=self._account, sub="token"
            )
        except NovakubeError:
            self._failures += 1
            delay = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(self._failures, 10))
            self._renew_at = self._clock.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311
            raise
        life_s = float(answer["spec"]["expirationSeconds"])
        self._token = answer["status"]["token"]
        self._expires_at = asked_at + life_s
        self._renew_at = asked_at + RENEW_AT * life_s
        self._failures = 0
