"""Kernel modules: which files a set of modules needs, and the index modprobe reads.

A .deb has no modules.dep (depmod writes it on installation), so dependencies are read from the
modules' own .modinfo sections.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from novakube_guest.errors import BuildError
from novakube_guest.packages import run

_MODINFO = re.compile(rb"(?:^|(?<=\0))(depends|alias|softdep)=([\x20-\x7e]*)\0")


def module_name(path: Path) -> str:
    """``virtio_net`` of ``.../virtio-net.ko.xz``."""
    return path.name.split(".ko")[0].replace("-", "_")


def modinfo(data: bytes, field: str) -> list[str]:
    """All values of a .modinfo field of an uncompressed module."""
    return [value.decode() for key, value in _MODINFO.findall(data) if key.decode() == field]


def uncompressed(path: Path, zstd: Sequence[str]) -> bytes:
    """The module's bytes; Debian ships plain or .xz files, Ubuntu .zst."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        plain = path.with_suffix("")
        run([*zstd, "-q", "-d", "-f", str(path), "-o", str(plain)])
        return plain.read_bytes()
    return path.read_bytes()


def select(
    modules: Path, names: Iterable[str], zstd: Sequence[str] = ("zstd",)
) -> dict[str, bytes]:
    """The named modules and what they depend on, as name -> bytes, dependencies first.

    Args:
        modules: the ``lib/modules/<version>`` folder of the unpacked kernel.
        names: wanted modules; one that is built into the kernel needs no file.
        zstd: how to run zstd, for Ubuntu's modules.

    Raises:
        BuildError: a module is neither there nor built in.
    """
    files = {module_name(p): p for p in (modules / "kernel").rglob("*.ko*")}
    builtin = {
        module_name(Path(line)) for line in (modules / "modules.builtin").read_text().splitlines()
    }
    chosen: dict[str, bytes] = {}

    def take(name: str) -> None:
        if name in chosen or name in builtin:
            return
        if name not in files:
            raise BuildError(f"kernel {modules.name} has no module {name}")
        data = uncompressed(files[name], zstd)
        for needed in _depends(data):
            take(needed)
        chosen[name] = data

    for name in names:
        take(name)
    return chosen


def _depends(data: bytes) -> list[str]:
    return [
        name.replace("-", "_")
        for value in modinfo(data, "depends")
        for name in value.split(",")
        if name
    ]


def install(chosen: dict[str, bytes], folder: Path) -> None:
    """Writes the modules with modules.dep and modules.alias into ``lib/modules/<version>``."""
    folder.mkdir(parents=True)
    dep, alias = [], []
    for name, data in chosen.items():
        (folder / f"{name}.ko").write_bytes(data)
        needs = _recursive(name, chosen)
        dep.append(f"{name}.ko:{''.join(f' {need}.ko' for need in needs)}\n")
        alias += [f"alias {value} {name}\n" for value in modinfo(data, "alias")]
    (folder / "modules.dep").write_text("".join(dep))
    (folder / "modules.alias").write_text("".join(alias))


def _recursive(name: str, chosen: dict[str, bytes]) -> list[str]:
    """All that must be loaded before ``name``, last to load first, as modules.dep has it."""
    found: set[str] = set()
    queue = [name]
    while queue:
        fresh = {need for need in _depends(chosen[queue.pop()]) if need in chosen} - found
        found |= fresh
        queue += fresh
    return [other for other in reversed(chosen) if other in found]
