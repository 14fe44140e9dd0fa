"""Fetching image bytes over HTTP: bounded in size, time and reach.

Redirects are followed here, each hop checked like the first. Proxies of the environment are
ignored on purpose: a proxy would resolve the name itself and void the address check.
Bytes are taken as they are on the wire's inside: no content encoding, no TLS exceptions.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp

from novakube_agent.hostops.download_address import AddressPolicy, CheckedResolver, check
from novakube_agent.hostops.threads import in_thread
from novakube_kit.errors import ImageRejected, Retryable
from novakube_kit.failpoints import failpoint

_MIB = 1024 * 1024
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """How long, how large, how far."""

    max_bytes: int = 100 * 1024 * _MIB
    connect_s: float = 10.0
    stalled_s: float = 30.0
    """No byte for so long ends the attempt."""
    grace_s: float = 120.0
    min_bytes_per_s: int = 256 * 1024
    """A transfer may take ``grace_s`` + size / this; a trickle ends then."""
    max_redirects: int = 5
    min_free_bytes: int = 512 * _MIB
    """The file system keeps so much free."""

    def total_s(self, size: int | None) -> float:
        """Seconds for the whole transfer of so many bytes."""
        return self.grace_s + (size or self.max_bytes) / self.min_bytes_per_s


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a finished download left in its file."""

    size_bytes: int
    sha256: str
    etag: str | None
    resumed: bool


class NotModified(Exception):
    """The server says the bytes of ``known_etag`` are still the current ones."""


class Downloader:
    """Fetches into a file. One session per download: no connection outlives its check."""

    def __init__(self, policy: AddressPolicy, limits: DownloadLimits) -> None:
        self._policy = policy
        self._limits = limits

    async def fetch(
        self,
        url: str,
        part: Path,
        *,
        progress: Callable[[int], None],
        resume_etag: str | None = None,
        known_etag: str | None = None,
        on_fresh: Callable[[str | None], Awaitable[None]],
    ) -> Fetched:
        """Downloads into ``part``.

        Goes on after what is there when the server proves by ``If-Range`` that it is the same.

        Args:
            url: http or https.
            part: the file; left in place on trouble that a later attempt may continue from.
            progress: 0..100 while bytes arrive (never called when the size is unknown).
            resume_etag: strong validator of the bytes in ``part``.
            known_etag: raise NotModified when the server still has this one.
            on_fresh: told the strong validator, if any, before the first byte of a download
                from the start is written.

        Raises:
            ImageRejected: not there, refused, too large, forbidden address.
            Retryable: unreachable, slow, truncated, no space.
            NotModified: see ``known_etag``.
        """
        offset = await in_thread(lambda: _size(part)) if resume_etag else 0
        transfer = _Transfer(url, part, self._limits, progress)
        async with self._session(_conditions(offset, resume_etag, known_etag)) as session:
            with self._failures(url, transfer):
                response = await self._open(session, url)
                async with response:
                    if offset and response.status == 416:
                        await on_fresh(None)
                    _check_status(url, response, offset)
                    etag = response.headers.get("ETag")
                    strong = etag if etag and not etag.startswith("W/") else None
                    resumed = response.status == 206
                    if not resumed:
                        await on_fresh(strong)
                    await transfer.receive(response, offset if resumed else 0)
        return Fetched(transfer.received, transfer.digest, strong, resumed)

    def _session(self, conditions: dict[str, str]) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.connect_s, sock_read=self._limits.stalled_s
        )
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(self._policy), use_dns_cache=False, force_close=True
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            headers={"Accept-Encoding": "identity", "User-Agent": "novakube-agent", **conditions},
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @contextmanager
    def _failures(self, url: str, transfer: _Transfer) -> Iterator[None]:
        """The client's errors as ours."""
        try:
            yield
        except aiohttp.InvalidURL as error:
            # Among others 2130706433 and 127.1: other ways to write an address.
            raise ImageRejected(
                f"{url} is, or leads to, no valid URL: {error}", reason="InvalidURL"
            ) from error
        except TimeoutError as error:
            raise transfer.unreachable(
                f"no answer within {self._limits.connect_s:g} s or no byte for "
                f"{self._limits.stalled_s:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise transfer.unreachable(str(error) or type(error).__name__) from error

    async def _open(self, session: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
        """Follows redirects to the response that holds the bytes."""
        here = url
        for _ in range(self._limits.max_redirects + 1):
            self._check_url(here)
            with failpoint("host.download.request"):
                response = await session.get(here, allow_redirects=False)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                return response
            response.release()
            here = urljoin(here, target)
        raise ImageRejected(
            f"{url} redirects more than {self._limits.max_redirects} times",
            reason="ImageUnreachable",
        )

    def _check_url(self, url: str) -> None:
        parts = _split(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ImageRejected(
                f"{url}: only http and https URLs with a host are fetched", reason="InvalidURL"
            )
        try:
            literal = str(ipaddress.ip_address(parts.hostname))
        except ValueError:
            return  # a name: the resolver checks what it leads to
        check(self._policy, parts.hostname, literal)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ImageRejected(f"{url} is no URL: {error}", reason="InvalidURL") from error


def _conditions(offset: int, resume_etag: str | None, known_etag: str | None) -> dict[str, str]:
    """Headers that ask for the rest of what is there, or for what is not known yet."""
    if offset and resume_etag:
        return {"Range": f"bytes={offset}-", "If-Range": resume_etag}
    return {"If-None-Match": known_etag} if known_etag else {}


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_status(url: str, response: aiohttp.ClientResponse, offset: int) -> None:
    status = response.status
    if status == 206:
        span = response.headers.get("Content-Range", "")
        if not offset or not span.startswith(f"bytes {offset}-"):
            raise ImageRejected(
                f"{url} answered with range {span!r}, though {offset}- was asked for",
                reason="ImageUnreachable",
            )
    if status in (200, 206):
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise ImageRejected(
                f"{url} answers with content encoding {encoding}, though none was accepted",
                reason="ImageUnreachable",
            )
        return
    if status == 304:
        raise NotModified
    said = f"{url} answered {status} {response.reason or ''}".strip()
    if status in (408, 416, 425, 429) or status >= 500:
        after = response.headers.get("Retry-After", "")
        wait = min(float(after), 300.0) if after.isdecimal() else None
        raise Retryable(said, reason="ImageUnreachable", after_s=wait)
    reasons = {404: "ImageNotFound", 410: "ImageNotFound"}
    raise ImageRejected(said, reason=reasons.get(status, "ImageAccessDenied"))


class _Transfer:
    """The bytes of one response on their way into the file."""

    def __init__(
        self, url: str, part: Path, limits: DownloadLimits, progress: Callable[[int], None]
    ) -> None:
        self._url = url
        self._part = part
        self._limits = limits
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._expected: int | None = None
        self.received = 0

    @property
    def digest(self) -> str:
        """sha256 of all bytes in the file."""
        return self._sha256.hexdigest()

    def unreachable(self, words: str) -> Retryable:
        """The transfer's failure, with how far it came."""
        of = f" of {self._expected}" if self._expected is not None else ""
        return Retryable(
            f"{self._url}: {words} (after {self.received}{of} bytes)", reason="ImageUnreachable"
        )

    async def receive(self, response: aiohttp.ClientResponse, offset: int) -> None:
        """Writes and hashes until the end of the body; fsyncs the file."""
        length = response.content_length
        self._expected = None if length is None else length + offset
        self._check_size(self._expected or 0)
        deadline = time.monotonic() + self._limits.total_s(self._expected)
        await in_thread(partial(self._check_space, length or 0))
        handle = await in_thread(partial(self._open, offset))
        try:
            async for chunk in response.content.iter_chunked(_MIB):
                self._check_size(self.received + len(chunk))
                await in_thread(partial(self._write, handle, chunk))
                if time.monotonic() > deadline:
                    raise self.unreachable(f"too slow: {self._limits.total_s(self._expected):g} s")
                if self._expected:
                    self._progress(min(100, self.received * 100 // self._expected))
        except aiohttp.ClientPayloadError as error:
            raise Retryable(
                f"{self._url} ended early: {self.received} of {self._expected} bytes",
                reason="ImageTruncated",
            ) from error
        finally:
            await in_thread(partial(_close, handle))

    def _open(self, offset: int) -> int:
        handle = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(handle, offset)
        while self.received < offset:
            chunk = os.read(handle, _MIB)
            self._sha256.update(chunk)
            self.received += len(chunk)
        return handle

    def _write(self, handle: int, chunk: bytes) -> None:
        self._check_space(len(chunk))
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(handle, view) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._no_space(0) from error
            raise
        self._sha256.update(chunk)
        self.received += len(chunk)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise ImageRejected(
                f"{self._url} has at least {size} bytes; this node takes images of at most "
                f"{self._limits.max_bytes}",
                reason="ImageTooLarge",
            )

    def _check_space(self, coming: int) -> None:
        stat = os.statvfs(self._part.parent)
        free = stat.f_bavail * stat.f_frsize
        if free - coming < self._limits.min_free_bytes:
            raise self._no_space(free)

    def _no_space(self, free: int) -> Retryable:
        return Retryable(
            f"no space on this node for {self._url}: {self._expected or 'unknown many'} bytes, "
            f"{free} free, {self._limits.min_free_bytes} of them kept free",
            reason="NoSpace",
            after_s=60,
        )


def _close(handle: int) -> None:
    with failpoint("host.download.sync"):
        os.fsync(handle)
        os.close(handle)
