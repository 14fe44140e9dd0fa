"""Files of the image cache: bytes by digest, and beside them what was found out. Blocking.

``<digest>`` appears by rename after verification, so its presence proves its content.
``<digest>.json`` only remembers verdicts and where the bytes came from; without it they are
found out again. A disk that uses an image holds a hard link to it: a link count above one is
"in use", and no eviction can take bytes from under a guest.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from novakube_agent.hostops.durable import remove_file, sync_directory, write_whole
from novakube_kit.failpoints import failpoint

UNUSED_S = 86400.0
"""Source: Nova's ``remove_unused_original_minimum_age_seconds``."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the cache knows about one digest."""

    url: str = ""
    etag: str | None = None
    virtual_sizes: Mapping[str, int] = field(default_factory=dict)
    """Virtual size in bytes by declared format, for those that passed inspection."""
    kernel: bool = False
    """Used as it is by domains (kernel, ramdisk), without a link: never evicted."""


class ImageFiles:
    """The directory ``<state>/images``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self) -> None:
        """Makes the directory; the hypervisor's user reads it."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest are."""
        return self.root / digest

    def converted(self, digest: str) -> Path:
        """Where the qcow2 made from a foreign format is."""
        return self.root / f"{digest}.qcow2"

    def part(self, key: str) -> Path:
        """The unfinished download of a digest or URL."""
        return self.root / f".{hashlib.sha256(key.encode()).hexdigest()}.part"

    def known(self, digest: str) -> Known | None:
        """What is known about present bytes; None when they are absent."""
        if not self.path(digest).exists():
            return None
        try:
            return Known(**json.loads((self.root / f"{digest}.json").read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return Known()

    def remember(self, digest: str, known: Known) -> None:
        """Writes the sidecar."""
        write_whole(self.root / f"{digest}.json", json.dumps(asdict(known), sort_keys=True))

    def by_url(self, url: str) -> tuple[str, str] | None:
        """Digest and strong validator of what this URL once gave."""
        for sidecar in self.root.glob("[0-9a-f]*.json"):
            known = self.known(sidecar.stem)
            if known is not None and known.url == url and known.etag:
                return sidecar.stem, known.etag
        return None

    def publish(self, part: Path, digest: str, url: str, etag: str | None) -> None:
        """Gives verified bytes their name, durably."""
        with failpoint("host.image.publish"):
            part.replace(self.path(digest))
            sync_directory(self.root)
        self.drop(part)
        self.remember(digest, replace(self.known(digest) or Known(), url=url, etag=etag))

    def resume_etag(self, part: Path, url: str) -> str | None:
        """The validator of a part's bytes, when they are of this URL."""
        try:
            fields = json.loads(part.with_suffix(".etag").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        same = fields.get("url") == url
        return str(fields["etag"]) if same and fields.get("etag") else None

    def begin(self, part: Path, url: str, etag: str | None) -> None:
        """Before the first byte: old bytes go first, or they would gain the new validator."""
        self.drop(part)
        if etag is not None:
            write_whole(part.with_suffix(".etag"), json.dumps({"url": url, "etag": etag}))

    def drop(self, part: Path) -> None:
        """Forgets an unfinished download."""
        remove_file(part)
        remove_file(part.with_suffix(".etag"))

    def touch(self, path: Path) -> None:
        """Notes the use."""
        path.touch()

    def evict(self, unused_s: float = UNUSED_S) -> int:
        """Removes images no disk uses and no Guest asked for within ``unused_s``.

        Unfinished downloads of that age go too. Returns the bytes set free.
        """
        freed = 0
        found = [path for path in self.root.iterdir() if path.suffix not in (".json", ".etag")]
        for path, stat in [(path, path.stat()) for path in found]:
            if time.time() - stat.st_mtime < unused_s:
                continue
            if path.suffix == ".part":
                self.drop(path)
            elif stat.st_nlink > 1 or self._is_kernel(path):
                continue
            else:
                remove_file(path)
                remove_file(self.root / f"{path.name}.json")
            freed += stat.st_blocks * 512
        return freed

    def _is_kernel(self, path: Path) -> bool:
        known = self.known(path.stem)
        return known is not None and known.kernel
