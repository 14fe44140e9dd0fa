"""Bounds the console logs that QEMU writes.

Where virtlogd holds the log it rotates by itself (2 MiB by default, well below the bound
here). Where QEMU holds the file it appends, so a copy and a truncation rotate it without
QEMU noticing; what the guest writes between the two is lost.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024


def rotate(log: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Moves what a log holds to ``<log>.0`` once it is larger than ``max_bytes``.

    One older piece is kept, under the name virtlogd would give it. Returns whether it
    rotated; a log that is not there does not.
    """
    try:
        if log.stat().st_size <= max_bytes:
            return False
        part = log.with_name(log.name + ".part")
        shutil.copyfile(log, part)
        part.replace(log.with_name(log.name + ".0"))
        os.truncate(log, 0)
    except FileNotFoundError:
        return False
    return True
