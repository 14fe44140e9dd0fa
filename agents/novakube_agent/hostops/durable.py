"""Files that are whole or absent, also after a crash. Blocking."""

from __future__ import annotations

import os
from pathlib import Path

from novakube_kit.failpoints import failpoint


def sync_directory(directory: Path) -> None:
    """Makes renames and removals in the directory last."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> bool:
    """Writes by rename, durably; False when the file already holds the text.

    The temporary name begins with a dot: dnsmasq skips such files in its hosts directory.
    """
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except FileNotFoundError:
        pass
    part = path.with_name(f".{path.name}.part")
    with failpoint("host.file.write"):
        with part.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)
    return True


def remove_file(path: Path) -> bool:
    """Removes a file; False when it was not there."""
    with failpoint("host.file.remove"):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True
