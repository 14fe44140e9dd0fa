"""Assembles the guest's root file system from unpacked packages and our own files.

The layout is merged-usr: /bin, /sbin, /lib and /lib64 are links into /usr.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from novakube_guest.elf import library_closure
from novakube_guest.errors import BuildError
from novakube_guest.modules import install

BUSYBOX = "usr/bin/busybox"
STATIC_BUSYBOX = "usr/bin/busybox-static"
"""Runs our boot scripts: its shell has the applets built in, so that a command costs a fork and no
loading of libraries, which is most of an emulated boot. It is not the shell of users: static
glibc cannot resolve names."""
USER_ID = 1000
PROGRAMS = {
    "busybox": ("bin/busybox",),
    "dropbear-bin": ("usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/bin/dbclient"),
    "curl": ("usr/bin/curl",),
    "sudo": ("usr/bin/sudo", "usr/libexec/sudo/sudoers.so"),
    "util-linux": ("bin/lsblk", "sbin/blkid"),
    "iputils-ping": ("bin/ping",),
    "e2fsprogs": ("sbin/resize2fs", "sbin/mke2fs"),
    "libpam-modules": ("lib/x86_64-linux-gnu/security/pam_permit.so",),
}
"""Package -> what the guest gets of it, with the libraries these files need."""
_LINKS = {"usr/sbin/mkfs.ext4": "mke2fs", "usr/sbin/mkfs.ext3": "mke2fs"}
_UNUSED_APPLETS = frozenset({"blkid", "busybox", "mke2fs", "rpm", "rpm2cpio"})
_FOLDERS = (
    "boot",
    "dev",
    "etc/dropbear",
    "home/novakube",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var/lib",
    "var/log",
    "var/tmp",
)
_MODES = {
    "etc/shadow": 0o640,
    "etc/sudoers": 0o440,
    "usr/bin/sudo": 0o4755,
    "root": 0o700,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}


def merged(path: Path) -> Path:
    """Where a package's file goes in a merged-usr tree: ``bin/x`` is ``usr/bin/x``."""
    return path if path.parts[0] in ("usr", "etc", "var") else Path("usr") / path


def locate(unpacked: Path, name: str) -> Path:
    """Path of a package's file, whether the package is merged-usr itself or not.

    Raises:
        BuildError: the packages do not have it.
    """
    bare = name.removeprefix("usr/")
    for candidate in (bare, f"usr/{bare}", bare.replace("libexec/", "lib/", 1)):
        for path in (Path(candidate), Path("usr") / candidate):
            if (unpacked / path).is_file():
                return path
    raise BuildError(f"no unpacked package has {name}")


def copy_program(unpacked: Path, tree: Path, path: Path) -> None:
    """Copies a file (what a link points to) to its merged place."""
    target = tree / merged(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile((unpacked / path).resolve(), target)
    target.chmod(0o755)


def skeleton(tree: Path) -> None:
    """Folders and the links of a merged-usr tree."""
    for folder in _FOLDERS:
        (tree / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    (tree / "var/run").symlink_to("/run")


def add_applets(applets: Iterable[str], tree: Path) -> None:
    """A link to busybox for each of its applets."""
    for applet in applets:
        place = merged(Path(applet))
        if place.name not in _UNUSED_APPLETS and not (tree / place).exists():
            (tree / place).symlink_to("/" + BUSYBOX)


def add_programs(unpacked: Path, tree: Path) -> None:
    """The real programs and their libraries; they replace applets of the same name."""
    paths = [locate(unpacked, name) for names in PROGRAMS.values() for name in names]
    for path in (*paths, *library_closure(unpacked, paths)):
        copy_program(unpacked, tree, path)
    for name, target in _LINKS.items():
        (tree / name).symlink_to(target)


def add_overlay(overlay: Path, tree: Path) -> None:
    """Our own files; scripts become executable whatever the checkout's modes are."""
    for source in sorted(p for p in overlay.rglob("*") if p.is_file()):
        target = tree / source.relative_to(overlay)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = source.read_bytes()
        target.write_bytes(data)
        target.chmod(0o755 if data.startswith(b"#!") else 0o644)


def fix_owners(tree: Path) -> None:
    """Modes and owners that packages and checkouts do not carry."""
    for name, mode in _MODES.items():
        (tree / name).chmod(mode)
    os.chown(tree / "home/novakube", USER_ID, USER_ID)


def root_tree(
    unpacked: Path,
    static_busybox: Path,
    overlay: Path,
    tree: Path,
    kernel: str,
    modules: Mapping[str, bytes],
    applets: Iterable[str],
) -> None:
    """The whole system."""
    skeleton(tree)
    add_applets(applets, tree)
    add_programs(unpacked, tree)
    shutil.copyfile(static_busybox, tree / STATIC_BUSYBOX)
    (tree / STATIC_BUSYBOX).chmod(0o755)
    install(dict(modules), tree / "usr/lib/modules" / kernel)
    add_overlay(overlay, tree)
    fix_owners(tree)


def boot_tree(
    busybox: Path, overlay: Path, tree: Path, kernel: str, modules: Mapping[str, bytes]
) -> None:
    """The few files that find the root disk: a static busybox, /init and the disk drivers."""
    for folder in ("dev", "mnt", "proc", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib"):
        (tree / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):
        (tree / name).symlink_to(f"usr/{name}")
    for source, name in ((busybox, BUSYBOX), (overlay / "init", "init")):
        shutil.copyfile(source, tree / name)
        (tree / name).chmod(0o755)
    (tree / "usr/sbin/modprobe").symlink_to("/" + BUSYBOX)
    install(dict(modules), tree / "usr/lib/modules" / kernel)
