"""The pure parts of the guest image's recipe."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from novakube_guest.cpio import archive
from novakube_guest.disk import (
    ALIGNMENT,
    KERNEL_ARGS,
    RAMDISK_ADDRESS,
    SECTOR,
    SETUP_SECTORS,
    boot_area,
    boot_sector,
)
from novakube_guest.elf import library_closure, needed
from novakube_guest.errors import BuildError
from novakube_guest.modules import install, modinfo
from novakube_guest.packages import closure, parse_depends

APT = """libpam0g
  Depends: libaudit1
  PreDepends: libc6
 |Depends: debconf
  Depends: <debconf-2.0>
    cdebconf
libaudit1
 |Depends: libcap-ng0
  Depends: libcap2
libc6
libcap-ng0
libcap2
"""


def test_depends_keeps_alternatives_together() -> None:
    assert parse_depends(APT)["libpam0g"] == [
        ["libaudit1"], ["libc6"], ["debconf", "<debconf-2.0>"],
    ]  # fmt: skip


def test_closure_takes_the_first_alternative_of_libraries_only() -> None:
    found = closure(["libpam0g"], parse_depends(APT), "^lib")
    assert found == ["libaudit1", "libc6", "libcap-ng0", "libpam0g"]


def test_needed_of_a_real_program() -> None:
    names = needed(Path(sys.executable).resolve().read_bytes())
    assert "libc.so.6" in names
    assert any(name.startswith("/lib64/ld-linux") for name in names)


def test_what_is_no_elf_is_refused() -> None:
    with pytest.raises(BuildError, match="not a 64-bit little-endian ELF"):
        needed(b"#!/bin/sh\n" + b"\0" * 64)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "python").write_bytes(Path(sys.executable).resolve().read_bytes())
    with pytest.raises(BuildError, match="no unpacked package has the library"):
        library_closure(tmp_path, [Path("python")])


def test_modinfo_reads_whole_fields() -> None:
    section = (
        b"\0license=GPL\0alias=pci:v1\0alias=pci:v2\0depends=virtio,virtio_ring\0undepends=x\0"
    )
    assert modinfo(section, "depends") == ["virtio,virtio_ring"]
    assert modinfo(section, "alias") == ["pci:v1", "pci:v2"]


def test_dependencies_are_listed_last_to_load_first(tmp_path: Path) -> None:
    chosen = {
        "virtio_ring": b"\0depends=\0",
        "virtio": b"\0depends=virtio_ring\0",
        "virtio_net": b"\0depends=virtio,virtio_ring\0alias=virtio:d1\0",
    }
    install(chosen, tmp_path / "modules")
    lines = (tmp_path / "modules/modules.dep").read_text().splitlines()
    assert lines == [
        "virtio_ring.ko:",
        "virtio.ko: virtio_ring.ko",
        "virtio_net.ko: virtio.ko virtio_ring.ko",
    ]
    assert (tmp_path / "modules/modules.alias").read_text() == "alias virtio:d1 virtio_net\n"


def test_boot_sector_has_one_bootable_partition() -> None:
    sector = boot_sector(b"\xeb" + b"\0" * 439, 34816, 4096)
    assert len(sector) == SECTOR
    assert sector[510:] == b"\x55\xaa"
    assert sector[446] == 0x80
    assert struct.unpack_from("<II", sector, 454) == (34816, 4096)


def bzimage(unpacks_to: int = 64 * 1024 * 1024) -> bytes:
    """A kernel of two setup sectors and 700 bytes."""
    setup = bytearray(2 * SECTOR)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    setup[0x211] = 1
    struct.pack_into("<QI", setup, 0x258, 0x1000000, unpacks_to - 0x1000000)
    return bytes(setup) + b"k" * 700


def test_kernel_and_ramdisk_lie_as_the_loader_reads_them() -> None:
    area = boot_area(b"\0" * 440, bzimage(), b"r" * 513)
    assert struct.unpack("<III", area.loader[428:]) == (2, 2, RAMDISK_ADDRESS)
    assert len(area.content) == (SETUP_SECTORS + 2 + 2) * SECTOR
    kernel = area.content[SETUP_SECTORS * SECTOR :]
    assert kernel[:SECTOR] == b"k" * SECTOR
    assert kernel[2 * SECTOR : 3 * SECTOR] == b"r" * SECTOR
    assert area.first_sector == ALIGNMENT
    assert area.content[0xE000:].startswith(KERNEL_ARGS.encode() + b"\0")
    assert struct.unpack_from("<II", area.content, 0x218) == (RAMDISK_ADDRESS, 513)
    assert struct.unpack_from("<I", area.content, 0x228) == (0x9E000,)


def test_a_kernel_that_the_loader_cannot_start_is_refused() -> None:
    with pytest.raises(BuildError, match="no bzImage"):
        boot_area(b"\0" * 440, b"\0" * 4096, b"")
    with pytest.raises(BuildError, match="unpacks itself up to"):
        boot_area(b"\0" * 440, bzimage(RAMDISK_ADDRESS + 1), b"")


def test_archive_is_the_same_for_the_same_tree(tmp_path: Path) -> None:
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        tree = tmp_path / str(number)
        tree.mkdir()
        for name in order:
            (tree / name).write_text(name)
            (tree / name).chmod(0o644)
        (tree / "link").symlink_to("a")
    assert archive(tmp_path / "0") == archive(tmp_path / "1")
    assert b"TRAILER!!!" in archive(tmp_path / "0")
