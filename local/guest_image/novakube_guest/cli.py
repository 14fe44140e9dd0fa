"""Command line and order of the build: resolve, compare with what is there, build, publish."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from novakube_guest import disk, packages, tree
from novakube_guest.cpio import write_ramdisk
from novakube_guest.errors import BuildError
from novakube_guest.modules import select
from novakube_guest.packages import Archive, unpack

RECIPE = Path(__file__).resolve().parent
OVERLAY = RECIPE.parent / "rootfs"
LOADER = RECIPE.parent / "boot" / "loader.S"
KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual")
"""Debian's and Ubuntu's package of the kernel for guests."""
BUILD_TOOLS = ("lz4", "zstd")
FOLLOW = r"^(lib(?!perl|gdbm|newt|slang|text|debian)|zlib1g$|linux-(image|modules)-)"
"""Which dependencies bring files that we use: libraries, and the kernel behind its meta package."""
DISK_MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ata_piix")
MODULES = (
    *DISK_MODULES,
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "button",
    "evdev",
    "sr_mod",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
)
OUTPUTS = ("vmlinuz", "initrd.img", "novakube-guest.qcow2")


def inputs_digest(versions: Mapping[str, str]) -> str:
    """One digest of everything the result depends on: packages, recipe, our files."""
    digest = hashlib.sha256(json.dumps(dict(versions), sort_keys=True).encode())
    sources = [LOADER, *RECIPE.glob("*.py"), *(p for p in OVERLAY.rglob("*") if p.is_file())]
    for path in sorted(sources):
        digest.update(str(path.relative_to(RECIPE.parent)).encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current(out: Path, digest: str) -> bool:
    """Whether ``out`` holds what these inputs gave, complete."""
    manifest = out / "manifest.json"
    if not manifest.exists():
        return False
    built: dict[str, Any] = json.loads(manifest.read_text())
    return built["inputs"] == digest and all(
        (out / name).exists() and (out / name).stat().st_size == facts["bytes"]
        for name, facts in built["files"].items()
    )


def _tool(unpacked: Path, name: str) -> list[str]:
    """Runs an unpacked program with the libraries it was unpacked with."""
    folders = [unpacked / "lib/x86_64-linux-gnu", unpacked / "usr/lib/x86_64-linux-gnu"]
    loader = unpacked / "lib64/ld-linux-x86-64.so.2"
    if not loader.exists():
        loader = unpacked / "usr/lib64/ld-linux-x86-64.so.2"
    return [
        str(loader),
        "--library-path",
        ":".join(map(str, folders)),
        str(unpacked / tree.locate(unpacked, name)),
    ]


def build(debs: list[Path], work: Path, out: Path) -> str:
    """Builds the three files into ``out``; returns the kernel's version."""
    # busybox-static has its file at the path of busybox's.
    static = [deb for deb in debs if deb.name.startswith("busybox-static_")]
    unpack(static, work / "static")
    unpacked = work / "unpacked"
    unpack([deb for deb in debs if deb not in static], unpacked)
    image = next((unpacked / "boot").glob("vmlinuz-*"), None)
    if image is None:
        raise BuildError("the kernel package has no boot/vmlinuz-*")
    kernel = image.name.removeprefix("vmlinuz-")
    modules_folder = (
        next(p for p in (unpacked / "lib/modules", unpacked / "usr/lib/modules") if p.exists())
        / kernel
    )
    zstd = _tool(unpacked, "usr/bin/zstd")
    modules = select(modules_folder, MODULES, zstd)
    root = work / "root"
    busybox = work / "static" / tree.locate(work / "static", "bin/busybox")
    applets = packages.run([*_tool(unpacked, "bin/busybox"), "--list-full"]).split()
    tree.root_tree(unpacked, busybox, OVERLAY, root, kernel, modules, applets)
    shutil.copyfile(image, out / "vmlinuz")
    lz4 = _tool(unpacked, "usr/bin/lz4")
    write_ramdisk(root, out / "initrd.img", lz4)

    boot = work / "boot"
    drivers = select(modules_folder, DISK_MODULES, zstd)
    tree.boot_tree(busybox, OVERLAY, boot, kernel, drivers)
    write_ramdisk(boot, work / "boot.img", lz4)
    sectors = disk.make_root(root, work / "root.ext4", _tool(unpacked, "sbin/mke2fs"))
    loader = disk.assemble(LOADER, work)
    area = disk.boot_area(loader, image.read_bytes(), (work / "boot.img").read_bytes())
    raw = work / "disk.raw"
    disk.write_disk(raw, area, work / "root.ext4", sectors)
    disk.convert(raw, out / "novakube-guest.qcow2")
    return kernel


def facts(path: Path) -> dict[str, Any]:
    """Size and digest of a finished file."""
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _publish(staged: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Replaces the files one by one and the manifest last: it never tells of absent files."""
    (out / "manifest.json").unlink(missing_ok=True)
    for name in OUTPUTS:
        (staged / name).replace(out / name)
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (staged / "manifest.json").write_text(text)
    (staged / "manifest.json").replace(out / "manifest.json")


def make(out: Path, cache: Path) -> bool:
    """Makes ``out`` current; returns False when it was already.

    Raises:
        BuildError: with what to do about it.
    """
    archive = Archive(cache)
    archive.refresh_if_empty("busybox-static")
    kernel_package = archive.first_known(KERNELS)
    roots = [kernel_package, "busybox-static", *tree.PROGRAMS, *BUILD_TOOLS]
    versions = archive.resolve(roots, FOLLOW)
    digest = inputs_digest(versions)
    if is_current(out, digest):
        return False
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as folder:
        work = Path(folder)
        staged = work / "out"
        staged.mkdir()
        kernel = build(archive.fetch(versions), work, staged)
        manifest = {
            "inputs": digest,
            "kernel": kernel,
            "packages": versions,
            "files": {name: facts(staged / name) for name in OUTPUTS},
        }
        _publish(staged, out, manifest)
    return True


def main(argv: list[str] | None = None) -> int:
    """Entry point; 0 when the image is there, 1 with the cause on standard error."""
    parser = argparse.ArgumentParser(description="Builds novakube's tiny guest image.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--cache", type=Path, help="folder for packages (default: OUT/packages)")
    args = parser.parse_args(argv)
    started = time.monotonic()
    if os.geteuid() != 0:
        print("guest image: must run as root: the image's files belong to root", file=sys.stderr)
        return 1
    try:
        made = make(args.out.resolve(), (args.cache or args.out / "packages").resolve())
    except (BuildError, OSError, subprocess.SubprocessError) as e:
        print(f"guest image: {e}", file=sys.stderr)
        return 1
    verb = "built" if made else "up to date"
    print(f"guest image: {verb} in {args.out} ({time.monotonic() - started:.1f} s)")
    return 0
