"""The bootable disk, made without loop devices, mounts or an installer.

Layout: MBR with our own boot sector (boot/loader.S); behind it, sector by sector, the kernel's
setup with the command line, the kernel and the ramdisk; then one partition with the ext4 root.
Sources: Linux Documentation/arch/x86/boot.rst; MBR layout: IBM PC DOS partition table.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from novakube_guest.errors import BuildError
from novakube_guest.packages import run

SECTOR = 512
_MIB = 1024 * 1024
ALIGNMENT = 2048
"""Sectors (1 MiB) that the partition begins at a multiple of."""
ROOT_LABEL = "novakube-root"
ROOT_UUID = "6e6f7661-6b75-4265-8775-657374000001"
EPOCH_S = 1_700_000_000
"""Time of everything in the file system, so that equal inputs give equal times."""
_SLACK_BYTES = 12 * 1024 * 1024
_EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,"
    "sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)
"""Named one by one: what newer e2fsprogs turn on, the guest's kernel may not know."""
LOADER_BYTES = 440
"""Of an MBR, before its signature; the last 12 are the numbers that the loader goes by."""
SETUP_SECTORS = 113
COMMAND_LINE_OFFSET = 0xE000
"""In the setup's segment, which the loader puts at SETUP_ADDRESS; both as in loader.S."""
SETUP_ADDRESS = 0x90000
RAMDISK_ADDRESS = 96 * _MIB
"""Below the end of the smallest guest (128 MiB), above what the kernel unpacks itself into."""
KERNEL_ARGS = (
    f"root=LABEL={ROOT_LABEL} console=tty0 console=ttyS0 cryptomgr.notests "
    "initcall_blacklist=crypto_kdf108_init,init_encrypted,init_kprobe_trace lsm= "
    "init_on_alloc=0 noreplace-smp"
)
"""Self-tests of ciphers, trace events and security modules, zeroed memory and code patched for
one processor cost an emulated boot two seconds of six, and nothing in this guest needs them.
``acpi=noirq`` would save one more, but takes message-signaled interrupts and SMP away."""


def partition_entry(first: int, sectors: int) -> bytes:
    """A bootable Linux partition; CHS fields at their maximum: LBA counts."""
    chs = b"\xfe\xff\xff"
    return b"\x80" + chs + b"\x83" + chs + struct.pack("<II", first, sectors)


def boot_sector(loader: bytes, first: int, sectors: int) -> bytes:
    """The loader's code with our one-partition table."""
    if len(loader) != LOADER_BYTES:
        raise BuildError(f"the boot loader has {len(loader)} bytes instead of {LOADER_BYTES}")
    signature = struct.pack("<I", 0x6E6B6775)
    return loader + signature + b"\0\0" + partition_entry(first, sectors) + b"\0" * 48 + b"\x55\xaa"


@dataclass(frozen=True, slots=True)
class BootArea:
    """What the disk begins with, and where its partition may begin."""

    loader: bytes
    content: bytes
    """From sector 1 on."""

    @property
    def first_sector(self) -> int:
        """Of the partition."""
        used = 1 + len(self.content) // SECTOR
        return -(-used // ALIGNMENT) * ALIGNMENT


def _sectors(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % SECTOR)


def boot_area(loader: bytes, kernel: bytes, ramdisk: bytes) -> BootArea:
    """Kernel and ramdisk as the loader wants them: the header filled in as the protocol asks.

    Raises:
        BuildError: a kernel of another kind, or one that would unpack itself over the ramdisk.
    """
    if kernel[0x202:0x206] != b"HdrS" or not kernel[0x211] & 1:
        raise BuildError("the kernel is no bzImage")
    preferred, needed = struct.unpack_from("<QI", kernel, 0x258)
    if preferred + needed > RAMDISK_ADDRESS:
        raise BuildError(f"the kernel unpacks itself up to {preferred + needed:#x}")
    length = (kernel[0x1F1] + 1) * SECTOR
    setup = bytearray(SETUP_SECTORS * SECTOR)
    setup[:length] = kernel[:length]
    setup[COMMAND_LINE_OFFSET : COMMAND_LINE_OFFSET + len(KERNEL_ARGS)] = KERNEL_ARGS.encode()
    setup[0x210] = 0xFF  # type_of_loader: undefined
    setup[0x211] |= 0x80  # loadflags: heap_end_ptr is valid
    struct.pack_into("<II", setup, 0x218, RAMDISK_ADDRESS, len(ramdisk))
    struct.pack_into("<H", setup, 0x224, COMMAND_LINE_OFFSET - 0x200)
    struct.pack_into("<I", setup, 0x228, SETUP_ADDRESS + COMMAND_LINE_OFFSET)
    body, disk = _sectors(kernel[length:]), _sectors(ramdisk)
    numbers = struct.pack("<III", len(body) // SECTOR, len(disk) // SECTOR, RAMDISK_ADDRESS)
    return BootArea(loader[: -len(numbers)] + numbers, bytes(setup) + body + disk)


def assemble(source: Path, work: Path) -> bytes:
    """The loader's machine code."""
    compiled, linked = work / "loader.o", work / "loader.bin"
    run(["as", "--32", "-o", str(compiled), str(source)])
    flat = ["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary"]
    run(["ld", *flat, "-o", str(linked), str(compiled)])
    return linked.read_bytes()


def _tree_bytes(tree: Path) -> int:
    block = 4096
    return sum(-(-path.lstat().st_size // block) * block + 256 for path in tree.rglob("*"))


def _freeze_times(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (EPOCH_S, EPOCH_S), follow_symlinks=False)


def make_root(tree: Path, out: Path, tool: list[str]) -> int:
    """Writes the ext4 file system with the tree in it; returns its size in sectors.

    Args:
        tree: content; owners as they are on disk.
        out: the file to write.
        tool: how to run mke2fs.
    """
    _freeze_times(tree)
    size = -(-(_tree_bytes(tree) * 21 // 20 + _SLACK_BYTES) // _MIB) * _MIB
    with out.open("wb") as f:
        f.truncate(size)
    run(
        [
            "env",
            f"E2FSPROGS_FAKE_TIME={EPOCH_S}",
            *tool,
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-O",
            _EXT4_FEATURES,
            "-J",
            "size=4",
            "-L",
            ROOT_LABEL,
            "-U",
            ROOT_UUID,
            "-m",
            "0",
            "-E",
            f"root_owner=0:0,hash_seed={ROOT_UUID}",
            "-d",
            str(tree),
            str(out),
        ]
    )
    return size // SECTOR


def write_disk(raw: Path, area: BootArea, root: Path, sectors: int) -> None:
    """Assembles the raw disk."""
    with raw.open("wb") as f:
        f.write(boot_sector(area.loader, area.first_sector, sectors))
        f.write(area.content)
        f.seek(area.first_sector * SECTOR)
        f.write(root.read_bytes())


def convert(raw: Path, out: Path) -> None:
    """Compresses the raw disk to qcow2 (version 3, no backing file)."""
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(out)])
