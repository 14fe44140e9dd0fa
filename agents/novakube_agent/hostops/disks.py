"""DiskPort: disk files of guests, one directory per incarnation.

Root: a qcow2 overlay on a hard link to the cached image (a copy where that is on another file
system), in the same directory and named relatively, so the directory may be renamed and the cache
may forget the image. Ephemeral:
sparse raw with ext4 labelled ``ephemeral0``; swap: sparse raw with a swap signature, as Nova
hands them out. Blank: empty qcow2. A file gets its name by rename when it is complete, and is
never made twice.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, TypeVar

from novakube_agent.hostops import qemu_img
from novakube_agent.hostops.durable import sync_directory
from novakube_agent.hostops.process import run
from novakube_agent.hostops.threads import in_thread
from novakube_agent.ports import CachedImage, DiskFile
from novakube_crds.v1alpha1.guest import GuestDisk
from novakube_kit.errors import HostBusy, HostFailure, InvalidSpec
from novakube_kit.failpoints import failpoint

_SUFFIXES: tuple[Literal["qcow2", "raw"], ...] = ("qcow2", "raw")
_MKFS_DEADLINE_S = 120.0
_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_EPHEMERAL_LABEL = "ephemeral0"

T = TypeVar("T")


class DiskStore:
    """DiskPort below ``<state>/guests``."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "guests"
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)

    def directory(self, guest_name: str) -> Path:
        """Pure: where the files of a Guest are.

        Raises:
            InvalidSpec: the name is no plain file name.
        """
        if not _SAFE_NAME.fullmatch(guest_name):
            raise InvalidSpec(f"Guest name {guest_name!r} must match {_SAFE_NAME.pattern}")
        return self._root / guest_name

    async def existing(self, guest_name: str) -> frozenset[str]:
        """Devices (vda, ...) whose files exist; empty when the directory does not."""
        return await _blocking(lambda: _devices(self.directory(guest_name)))

    async def ensure(self, guest_name: str, disk: GuestDisk, image: CachedImage | None) -> DiskFile:
        """Creates the overlay or blank disk once (``.part`` + rename); never recreates.

        Raises:
            InvalidSpec: ``FlavorTooSmall``, or a role without what it needs.
            HostFailure: a program refused or is missing.
            HostBusy: no space, or too slow.
        """
        directory = self.directory(guest_name)
        if not _SAFE_NAME.fullmatch(disk.device):
            raise InvalidSpec(f"disk device {disk.device!r} must match {_SAFE_NAME.pattern}")
        format_, make = _recipe(disk, image)
        path = directory / f"{disk.device}.{format_}"
        if not await _blocking(path.exists):
            part = directory / f".{path.name}.part"
            await _blocking(lambda: _begin(directory, part))
            with failpoint(f"host.disk.{disk.role}"):
                await make(part)
            await _blocking(lambda: _finish(part, path))
        return DiskFile(
            device=disk.device,
            path=path,
            format=format_,
            bus=disk.bus,
            boot_index=disk.boot_index,
        )

    async def remove(self, guest_name: str) -> None:
        """Removes the directory with all in it; tolerant of absence.

        It is renamed first: after a crash nobody takes half a directory for a guest's disks.
        """
        directory = self.directory(guest_name)
        await _blocking(lambda: _remove(directory, self._root / f".{guest_name}.del"))

    async def adopt(self, old_guest_name: str, guest_name: str) -> None:
        """Renames the directory of an earlier incarnation on this node.

        Raises:
            HostFailure: neither directory is there, or both are.
        """
        old, new = self.directory(old_guest_name), self.directory(guest_name)
        await _blocking(lambda: _adopt(old, new))

    async def guests(self) -> frozenset[str]:
        """Names of Guests that have a directory."""
        return await _blocking(
            lambda: frozenset(
                entry.name for entry in self._root.iterdir() if not entry.name.startswith(".")
            )
        )


Make = Callable[[Path], Awaitable[None]]


def _recipe(disk: GuestDisk, image: CachedImage | None) -> tuple[Literal["qcow2", "raw"], Make]:
    if disk.role == "config":
        raise InvalidSpec(f"disk {disk.device}: config drives are not made by the disk store")
    if disk.image is not None or image is not None:
        if image is None:
            raise InvalidSpec(f"disk {disk.device}: its image has not been fetched")
        size = _overlay_size(disk, image)
        return "qcow2", lambda part: _overlay(part, disk.device, image, size)
    if disk.size_bytes == 0:
        raise InvalidSpec(f"disk {disk.device}: without an image it needs a size")
    if disk.role == "ephemeral":
        return "raw", lambda part: _formatted(
            part,
            disk.size_bytes,
            ["mkfs.ext4", "-q", "-F", "-L", _EPHEMERAL_LABEL, "-E", "lazy_itable_init=1"],
        )
    if disk.role == "swap":
        return "raw", lambda part: _formatted(part, disk.size_bytes, ["mkswap", "-q"])
    return "qcow2", lambda part: qemu_img.create_blank(part, disk.size_bytes)


def _overlay_size(disk: GuestDisk, image: CachedImage) -> int:
    if disk.size_bytes == 0:
        return image.virtual_size_bytes
    if disk.size_bytes < image.virtual_size_bytes:
        raise InvalidSpec(
            f"disk {disk.device} has {disk.size_bytes} bytes, but its image needs "
            f"{image.virtual_size_bytes}: take a flavor with a larger root disk",
            reason="FlavorTooSmall",
        )
    return disk.size_bytes


async def _overlay(part: Path, device: str, image: CachedImage, size: int) -> None:
    base = part.with_name(f"{device}.base")
    await _blocking(lambda: _link(image.path, base))
    await qemu_img.create_overlay(part, base.name, image.format, size)


def _link(source: Path, base: Path) -> None:
    try:
        if base.exists() and base.samefile(source):
            return
        base.unlink(missing_ok=True)
        base.hardlink_to(source)
    except FileNotFoundError as error:
        # Evicted between download and use: the next attempt fetches it again.
        raise HostBusy(f"image {source.name} left the cache", reason="ImageEvicted") from error
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, base)


def _copy(source: Path, base: Path) -> None:
    """Each guest has its own then, which costs the image's size."""
    part = base.with_name(f".{base.name}.part")
    try:
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(base)
    finally:
        part.unlink(missing_ok=True)


async def _formatted(part: Path, size: int, argv: list[str]) -> None:
    await _blocking(lambda: _sparse(part, size))
    await run([*argv, str(part)], deadline_s=_MKFS_DEADLINE_S)


def _sparse(part: Path, size: int) -> None:
    with part.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(size)


def _begin(directory: Path, part: Path) -> None:
    directory.mkdir(mode=0o711, exist_ok=True)
    part.unlink(missing_ok=True)


def _finish(part: Path, path: Path) -> None:
    with failpoint("host.disk.finish"):
        handle = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        part.replace(path)
        sync_directory(path.parent)
        sync_directory(path.parent.parent)


def _devices(directory: Path) -> frozenset[str]:
    if not directory.is_dir():
        return frozenset()
    files = [item for suffix in _SUFFIXES for item in directory.glob(f"[!.]*.{suffix}")]
    return frozenset(item.stem for item in files)


def _remove(directory: Path, doomed: Path) -> None:
    with failpoint("host.disk.remove"):
        # What an interrupted removal left goes first: rename needs an empty target.
        if doomed.exists():
            shutil.rmtree(doomed)
        if directory.exists():
            directory.rename(doomed)
            sync_directory(doomed.parent)
            shutil.rmtree(doomed)


def _adopt(old: Path, new: Path) -> None:
    if old.is_dir() and new.is_dir() and any(new.iterdir()):
        raise HostFailure(f"disks of both {old.name} and {new.name} exist; neither is touched")
    if old.is_dir():
        with failpoint("host.disk.adopt"):
            old.rename(new)  # an empty directory of that name is replaced
            sync_directory(new.parent)
    elif not new.is_dir():
        raise HostFailure(f"no disks of {old.name} on this node", reason="DisksMissing")


async def _blocking(step: Callable[[], T]) -> T:
    try:
        return await in_thread(step)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostBusy(f"no space on this node: {error}", reason="NoSpace") from error
        if error.errno in (errno.ENOENT, errno.EROFS):
            # Whoever mends or mounts the folder need not build the guest anew.
            raise HostBusy(f"file system of this node: {error}", reason="DisksUnusable") from error
        raise HostFailure(f"file system of this node: {error}") from error
