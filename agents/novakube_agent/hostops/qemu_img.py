"""qemu-img with explicit formats only: it never probes, and foreign bytes run under limits."""

from __future__ import annotations

from pathlib import Path

from novakube_agent.hostops.process import Limits, run

_GIB = 1024**3
# Source: Nova's QEMU_IMG_LIMITS (1 GiB, 30 s), with more time for conversions of large images.
LIMITS = Limits(address_space_bytes=_GIB, cpu_s=30)
CONVERT_LIMITS = Limits(address_space_bytes=_GIB, cpu_s=900)
DEADLINE_S = 60.0
CONVERT_DEADLINE_S = 3600.0


async def create_overlay(path: Path, backing: str, backing_format: str, size_bytes: int) -> None:
    """A qcow2 overlay. ``-u``: the backing file, inspected before, is not opened.

    Args:
        path: new file.
        backing: name of the backing file, relative to the overlay's directory.
        backing_format: raw or qcow2.
        size_bytes: virtual size.
    """
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", backing_format]
    await run([*argv, str(path), str(size_bytes)], deadline_s=DEADLINE_S, limits=LIMITS)


async def create_blank(path: Path, size_bytes: int) -> None:
    """An empty qcow2 disk."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size_bytes)]
    await run(argv, deadline_s=DEADLINE_S, limits=LIMITS)


async def convert(source: Path, source_format: str, target: Path) -> None:
    """An inspected image of a foreign format as qcow2."""
    argv = ["qemu-img", "convert", "-q", "-f", source_format, "-O", "qcow2"]
    await run(
        [*argv, str(source), str(target)], deadline_s=CONVERT_DEADLINE_S, limits=CONVERT_LIMITS
    )
