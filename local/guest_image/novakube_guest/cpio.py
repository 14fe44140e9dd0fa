"""Writes a ramdisk: an LZ4-compressed "newc" cpio archive, the same bytes for the same tree.

LZ4 because an emulated guest unpacks it four times faster than gzip.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from novakube_guest.packages import run

_MAGIC = b"070701"


def _entry(number: int, name: str, mode: int, data: bytes, uid: int = 0, gid: int = 0) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, uid, gid, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = _MAGIC + b"".join(b"%08X" % value for value in fields) + encoded
    return _aligned(head) + _aligned(data)


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _content(path: Path) -> tuple[int, bytes, int, int]:
    status = path.lstat()
    owner = (status.st_uid, status.st_gid)
    if stat.S_ISLNK(status.st_mode):
        return stat.S_IFLNK | 0o777, str(path.readlink()).encode(), *owner
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode, b"", *owner
    return status.st_mode, path.read_bytes(), *owner


def archive(tree: Path) -> bytes:
    """The tree as an uncompressed archive: owners as on disk, time 0, sorted by name."""
    names = sorted(
        str((Path(folder) / name).relative_to(tree))
        for folder, folders, files in os.walk(tree)
        for name in (*folders, *files)
    )
    parts = [_entry(i, name, *_content(tree / name)) for i, name in enumerate(names, start=1)]
    return b"".join(parts) + _entry(0, "TRAILER!!!", 0, b"")


def write_ramdisk(tree: Path, out: Path, tool: list[str]) -> None:
    """Writes the compressed archive.

    Args:
        tree: content.
        out: the file to write.
        tool: how to run lz4; the kernel reads its legacy format only.
    """
    plain = out.with_name(out.name + ".cpio")
    plain.write_bytes(archive(tree))
    run([*tool, "-l", "-9", "-q", "-f", str(plain), str(out)])
    plain.unlink()
