"""The bootable disk, made without loop devices, mounts or an installer.

Layout: MBR with GRUB's boot sector, GRUB's core image in the gap after it, and one partition
at 1 MiB with the ext4 root. GRUB's ``diskboot`` expects its rest at sector 2 by default, so
writing ``boot.img`` to sector 0 and ``core.img`` to sector 1 is a complete installation.
Source: GRUB manual, "BIOS installation"; MBR layout: IBM PC DOS partition table.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from novakube_guest.errors import BuildError
from novakube_guest.packages import run

SECTOR = 512
FIRST_SECTOR = 2048
ROOT_LABEL = "novakube-root"
ROOT_UUID = "6e6f7661-6b75-4265-8775-657374000001"
EPOCH_S = 1_700_000_000
"""Time of everything in the file system, so that equal inputs give equal times."""
_SLACK_BYTES = 12 * 1024 * 1024
_EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,"
    "sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)
"""Named one by one: newer e2fsprogs turn on features that GRUB 2.06 cannot read."""
_MIB = 1024 * 1024
_GRUB_MODULES = (
    "biosdisk",
    "part_msdos",
    "ext2",
    "linux16",
)
KERNEL_ARGS = f"root=LABEL={ROOT_LABEL} console=tty0 console=ttyS0"
# linux16 starts the kernel as a BIOS would. From its 32-bit entry ("linux") the kernel takes 4 s
# longer to unpack itself in an emulated guest.
_GRUB_CONFIG = f"""set root=(hd0,msdos1)
linux16 /boot/vmlinuz {KERNEL_ARGS}
initrd16 /boot/initrd.img
boot
"""


def partition_entry(first: int, sectors: int) -> bytes:
    """A bootable Linux partition; CHS fields at their maximum: LBA counts."""
    chs = b"\xfe\xff\xff"
    return b"\x80" + chs + b"\x83" + chs + struct.pack("<II", first, sectors)


def boot_sector(boot_img: bytes, sectors: int) -> bytes:
    """GRUB's boot code with our one-partition table."""
    if len(boot_img) != SECTOR:
        raise BuildError(f"GRUB's boot.img has {len(boot_img)} bytes instead of {SECTOR}")
    signature = struct.pack("<I", 0x6E6B6775)
    return (
        boot_img[:440]
        + signature
        + b"\0\0"
        + partition_entry(FIRST_SECTOR, sectors)
        + b"\0" * 48
        + b"\x55\xaa"
    )


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


def make_core(grub_folder: Path, tool: list[str], work: Path) -> bytes:
    """GRUB's core image with the configuration built in: no file of GRUB's on the disk.

    Raises:
        BuildError: it does not fit into the gap before the first partition.
    """
    config = work / "grub.cfg"
    config.write_text(_GRUB_CONFIG)
    core = work / "core.img"
    run(
        [
            *tool,
            "-O",
            "i386-pc",
            "-d",
            str(grub_folder),
            "-p",
            "(hd0,msdos1)/boot/grub",
            "-c",
            str(config),
            "-o",
            str(core),
            *_GRUB_MODULES,
        ]
    )
    data = core.read_bytes()
    if len(data) > (FIRST_SECTOR - 1) * SECTOR:
        raise BuildError(f"GRUB's core image has {len(data)} bytes: too large for the gap")
    return data


def write_disk(raw: Path, boot_img: bytes, core: bytes, root: Path, sectors: int) -> None:
    """Assembles the raw disk."""
    with raw.open("wb") as f:
        f.write(boot_sector(boot_img, sectors))
        f.write(core)
        f.seek(FIRST_SECTOR * SECTOR)
        f.write(root.read_bytes())


def convert(raw: Path, out: Path) -> None:
    """Compresses the raw disk to qcow2 (version 3, no backing file)."""
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(out)])
