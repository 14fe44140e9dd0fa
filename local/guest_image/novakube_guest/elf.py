"""Which shared libraries a program needs, read from the ELF file itself.

``ldd`` would run the program's loader and look at the host's libraries; we want those of the
unpacked packages. 64-bit little-endian only, as all guests are.
Source: System V ABI, chapters 4 and 5 (ELF header, program header, dynamic section).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from novakube_guest.errors import BuildError

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
_LIBRARY_FOLDERS = (
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib",
    "usr/lib",
    "lib64",
    "usr/libexec/sudo",
    "usr/lib/sudo",
)


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def needed(data: bytes) -> tuple[str, ...]:
    """Names of the libraries (DT_NEEDED) and, if any, the path of the loader (PT_INTERP).

    Raises:
        BuildError: it is no 64-bit little-endian ELF file.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        raise BuildError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, table + i * size) for i in range(count)]
    loads = [(h[3], h[2], h[5]) for h in headers if h[0] == _PT_LOAD]
    names = [_text(data, h[2]) for h in headers if h[0] == _PT_INTERP]
    for header in headers:
        if header[0] == _PT_DYNAMIC:
            names += _dynamic_names(data, header[2], header[5], loads)
    return tuple(names)


def _dynamic_names(
    data: bytes, offset: int, size: int, loads: list[tuple[int, int, int]]
) -> list[str]:
    entries = list(struct.iter_unpack("<qQ", data[offset : offset + size]))
    end = next((i for i, (tag, _) in enumerate(entries) if tag == _DT_NULL), len(entries))
    strings = next((value for tag, value in entries[:end] if tag == _DT_STRTAB), None)
    if strings is None:
        return []
    at = next(
        file + strings - address
        for address, file, length in loads
        if address <= strings < address + length
    )
    return [_text(data, at + value) for tag, value in entries[:end] if tag == _DT_NEEDED]


def find_library(tree: Path, name: str) -> Path:
    """Path of a library, relative to the unpacked tree.

    Raises:
        BuildError: no package brought it.
    """
    places = (
        [name.lstrip("/")]
        if name.startswith("/")
        else [f"{folder}/{name}" for folder in _LIBRARY_FOLDERS]
    )
    for place in places:
        if (tree / place).exists():
            return Path(place)
    raise BuildError(f"no unpacked package has the library {name}")


def library_closure(tree: Path, programs: Iterable[Path]) -> list[Path]:
    """All libraries (paths relative to the tree) that the programs load, directly or not."""
    found: dict[Path, None] = {}
    queue = list(programs)
    while queue:
        for name in needed((tree / queue.pop(0)).read_bytes()):
            path = find_library(tree, name)
            if path not in found:
                found[path] = None
                queue.append(path)
    return sorted(found)
