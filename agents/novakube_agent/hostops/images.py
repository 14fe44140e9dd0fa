"""ImagePort: the node's image cache, by digest.

Verified means: the declared checksum, the declared format and no other, no reference to
anything outside the file, within limits. Only then do the bytes get their name.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from novakube_agent.hostops import qemu_img
from novakube_agent.hostops.download import Downloader, DownloadLimits, Fetched, NotModified
from novakube_agent.hostops.download_address import AddressPolicy
from novakube_agent.hostops.images_inspect import QEMU_FORMAT, inspect
from novakube_agent.hostops.images_store import ImageFiles, Known
from novakube_agent.hostops.threads import in_thread
from novakube_agent.ports import CachedImage
from novakube_crds.v1alpha1.guest import GuestImage
from novakube_kit.errors import HostBusy, HostFailure, ImageRejected, Retryable

_LOG = logging.getLogger(__name__)
_TIB = 1024**4
_AS_IT_IS = "file"  # verdict of kernels and ramdisks, which have no disk format
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Limits of this node."""

    state_dir: Path
    """The agent's state directory; files go below ``images/``."""
    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    download: DownloadLimits = field(default_factory=DownloadLimits)
    max_virtual_bytes: int = 4 * _TIB


class _Flight:
    """One shared preparation: whoever still waits for it is in ``listeners``."""

    def __init__(self) -> None:
        self.task: asyncio.Task[CachedImage] | None = None
        self.listeners: list[Progress] = []
        self.percent = -1

    def progress(self, percent: int) -> None:
        """To all listeners, once per percent."""
        if percent != self.percent:
            self.percent = percent
            for listener in self.listeners:
                listener(percent)


class ImageCache:
    """ImagePort."""

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._files = ImageFiles(settings.state_dir / "images")
        self._files.open()
        self._downloader = Downloader(settings.addresses, settings.download)
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(
        self, image: GuestImage, *, progress: Progress, raw_file: bool = False
    ) -> CachedImage:
        """Downloads, verifies and inspects once; concurrent callers share one download.

        The last caller to be cancelled cancels the download; its bytes stay for the next.

        Args:
            image: what to fetch; ``sha256`` None accepts and reports what is found.
            progress: called with 0..100 while bytes arrive.
            raw_file: kernel or ramdisk: bytes as they are, no disk inspection.

        Raises:
            ImageRejected: ImageNotFound, ImageAccessDenied, ImageAddressForbidden, InvalidURL,
                ChecksumMismatch, FormatMismatch, ImageUnsafe, ImageTooLarge; terminal.
            Retryable: ImageUnreachable, ImageTruncated, NoSpace.
        """
        declared = _AS_IT_IS if raw_file else image.disk_format
        key = (image.sha256 or image.url, declared)
        flight = self._flights.get(key)
        if flight is None or flight.task is None or flight.task.done():
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._prepare(image, declared, flight))
            flight.task.add_done_callback(lambda task: self._ended(key, flight, task))
        flight.listeners.append(progress)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.listeners.remove(progress)
            if not flight.listeners and not flight.task.done():
                # Out of sight first: nobody may join what is being cancelled.
                self._landed(key, flight)
                flight.task.cancel()

    def _landed(self, key: tuple[str, str], flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _ended(
        self, key: tuple[str, str], flight: _Flight, task: asyncio.Task[CachedImage]
    ) -> None:
        self._landed(key, flight)
        if not task.cancelled():
            task.exception()  # seen: every waiter may have been cancelled

    async def _prepare(self, image: GuestImage, declared: str, flight: _Flight) -> CachedImage:
        async with self._locks[image.sha256 or image.url]:
            digest = await self._digest(image, flight)
        async with self._locks[digest]:
            return await self._verdict(image, declared, digest)

    async def _digest(self, image: GuestImage, flight: _Flight) -> str:
        """Bytes in the cache; returns their digest."""
        if image.sha256:
            cached: bool = await in_thread(self._files.path(image.sha256).exists)
            if cached:
                return image.sha256
        before = None if image.sha256 else await in_thread(partial(self._files.by_url, image.url))
        part = self._files.part(image.sha256 or image.url)
        try:
            fetched = await self._fetch_evicting(image, part, before, flight.progress)
        except NotModified:
            if before is None:
                raise Retryable(
                    f"{image.url} answered 304 to a question that was not asked",
                    reason="ImageUnreachable",
                ) from None
            return before[0]
        await self._check_digest(image, part, fetched)
        await in_thread(partial(self._files.publish, part, fetched.sha256, image.url, fetched.etag))
        return fetched.sha256

    async def _fetch_evicting(
        self, image: GuestImage, part: Path, before: tuple[str, str] | None, progress: Progress
    ) -> Fetched:
        try:
            return await self._fetch(image, part, before, progress)
        except Retryable as error:
            if error.reason != "NoSpace" or not await in_thread(self._files.evict):
                raise
            _LOG.info("unused images evicted", extra={"for": image.url})
        return await self._fetch(image, part, before, progress)

    async def _fetch(
        self, image: GuestImage, part: Path, before: tuple[str, str] | None, progress: Progress
    ) -> Fetched:
        async def fresh(etag: str | None) -> None:
            await in_thread(partial(self._files.begin, part, image.url, etag))

        # Without a digest to check at the end, a file of two halves would go unnoticed.
        etag = None
        if image.sha256:
            etag = await in_thread(partial(self._files.resume_etag, part, image.url))
        return await self._downloader.fetch(
            image.url,
            part,
            progress=progress,
            resume_etag=etag,
            known_etag=before[1] if before else None,
            on_fresh=fresh,
        )

    async def _check_digest(self, image: GuestImage, part: Path, fetched: Fetched) -> None:
        if image.sha256 is None or fetched.sha256 == image.sha256:
            return
        await in_thread(partial(self._files.drop, part))
        if fetched.resumed:
            raise Retryable(
                f"{image.url} does not fit the bytes of an earlier attempt; from the start",
                reason="ImageTruncated",
                after_s=0,
            )
        raise ImageRejected(
            f"{image.url} has sha256 {fetched.sha256} ({fetched.size_bytes} bytes), but "
            f"{image.sha256} is declared",
            reason="ChecksumMismatch",
        )

    async def _verdict(self, image: GuestImage, declared: str, digest: str) -> CachedImage:
        """Inspects (once per declared format) and, for foreign formats, converts."""
        path = self._files.path(digest)
        known = await in_thread(partial(self._files.known, digest)) or Known()
        size = (await in_thread(path.stat)).st_size
        if declared not in known.virtual_sizes:
            virtual = size
            if declared != _AS_IT_IS:
                limit = self._settings.max_virtual_bytes
                virtual = await in_thread(partial(inspect, path, declared, image.url, limit))
            known = replace(
                known,
                virtual_sizes={**known.virtual_sizes, declared: virtual},
                kernel=known.kernel or declared == _AS_IT_IS,
            )
            await in_thread(partial(self._files.remember, digest, known))
        format_ = QEMU_FORMAT.get(declared, "raw")
        if format_ not in ("raw", "qcow2"):
            path = await self._converted(image, digest, format_)
        await in_thread(partial(self._files.touch, path))
        return CachedImage(
            path=path,
            sha256=digest,
            size_bytes=size,
            virtual_size_bytes=known.virtual_sizes[declared],
            format="raw" if format_ == "raw" else "qcow2",
        )

    async def _converted(self, image: GuestImage, digest: str, format_: str) -> Path:
        target = self._files.converted(digest)
        if await in_thread(target.exists):
            return target
        part = self._files.part(target.name)
        try:
            await qemu_img.convert(self._files.path(digest), format_, part)
        except (HostFailure, HostBusy) as error:
            await in_thread(partial(self._files.drop, part))
            if error.reason == "ProgramMissing":
                raise
            raise ImageRejected(
                f"{image.url} cannot be converted from {format_}: {error.message}",
                reason="ImageConversionFailed",
            ) from error
        await in_thread(partial(part.replace, target))
        return target
