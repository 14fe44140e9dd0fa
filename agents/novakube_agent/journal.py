"""The node's memory: one JSON file per Guest UID, written before what it vouches for.

Durable: file and directory are synced before ``save`` returns. All journals are held in
memory (they are what admission counts); the files are read once, at start.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from novakube_agent.model import Journal
from novakube_kit.errors import Retryable
from novakube_kit.failpoints import failpoint

_log = logging.getLogger(__name__)
_JOURNAL: TypeAdapter[Journal] = TypeAdapter(Journal)
SUFFIX = ".json"
STATE_UNUSABLE = "StateUnusable"
"""Reason of what keeps an agent from its own files."""


class Journals:
    """All journals of one node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, Journal] = {}
        self._ports: dict[str, set[str]] = {}

    async def load(self) -> None:
        """Reads every file.

        An unreadable one is renamed aside and logged, so that its Guest is recalled from its
        status instead of being forgotten silently.

        Raises:
            Retryable: the state directory cannot be read or made.
        """
        try:
            found = await asyncio.to_thread(self._read_all)
        except OSError as error:
            raise Retryable(f"journals: {error}", reason=STATE_UNUSABLE) from error
        for journal in found:
            self._hold(journal)

    async def check(self) -> None:
        """Raises Retryable when nothing could be written: a read-only file system, say."""
        if not await asyncio.to_thread(os.access, self._directory, os.W_OK):
            message = f"{self._directory} cannot be written"
            raise Retryable(message, reason=STATE_UNUSABLE)

    def get(self, guest_uid: str) -> Journal | None:
        """The journal of a Guest."""
        return self._held.get(guest_uid)

    def __iter__(self) -> Iterator[Journal]:
        """All journals at this moment."""
        return iter(tuple(self._held.values()))

    def claimed_by_others(self, mine: Journal, port_uid: str) -> bool:
        """Whether another Guest on this node has the Port; not the one that was taken over."""
        return bool(self._ports.get(port_uid, set()) - {mine.guest_uid, mine.adopted})

    async def save(self, journal: Journal) -> None:
        """On disk when it returns; a crash leaves the old or the new one, never half.

        Raises:
            Retryable: the state directory cannot be written.
        """
        with failpoint("journal.save"):
            await asyncio.to_thread(self._write, journal)
        self._hold(journal)

    async def forget(self, guest_uid: str) -> None:
        """Nothing of the Guest is left on the node."""
        with failpoint("journal.forget"):
            await asyncio.to_thread(self._unlink, guest_uid)
        self._release(guest_uid)

    def _hold(self, journal: Journal) -> None:
        self._release(journal.guest_uid)
        self._held[journal.guest_uid] = journal
        for nic in journal.nics:
            self._ports.setdefault(nic.port_uid, set()).add(journal.guest_uid)

    def _release(self, guest_uid: str) -> None:
        old = self._held.pop(guest_uid, None)
        for nic in old.nics if old else ():
            holders = self._ports.get(nic.port_uid, set())
            holders.discard(guest_uid)
            if not holders:
                self._ports.pop(nic.port_uid, None)

    def _path(self, guest_uid: str) -> Path:
        return self._directory / f"{guest_uid}{SUFFIX}"

    def _read_all(self) -> list[Journal]:
        self._directory.mkdir(parents=True, exist_ok=True)
        found = []
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                found.append(_JOURNAL.validate_json(path.read_bytes()))
            except ValidationError as error:
                aside = path.with_suffix(".unreadable")
                path.rename(aside)
                _log.error("journal unreadable, kept as %s: %s", aside.name, error)
        return found

    def _write(self, journal: Journal) -> None:
        path = self._path(journal.guest_uid)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(_JOURNAL.dump_json(journal))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            self._sync_directory()
        except OSError as error:
            raise Retryable(f"journal {path}: {error}", reason="JournalUnwritable") from error

    def _unlink(self, guest_uid: str) -> None:
        try:
            self._path(guest_uid).unlink(missing_ok=True)
            self._sync_directory()
        except OSError as error:
            raise Retryable(f"journal: {error}", reason="JournalUnwritable") from error

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
