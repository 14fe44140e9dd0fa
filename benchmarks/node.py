"""A node of the local cloud from the outside: its libvirt, files of its guests, raw domains."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from novakube_local import members
from novakube_local.layout import NODE_STATE, Layout

FIRST_LINE = b"Linux version"
"""The kernel's first line on the console (init/version.c)."""
COMMAND_S = 60
BOOT_S = 180.0
POLL_S = 0.005


def first_line(log: Path) -> bool:
    """Whether the kernel has spoken."""
    try:
        return FIRST_LINE in log.read_bytes()
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class Raw:
    """A domain made without novakube: novakube's own XML, image, tap and bridge."""

    xml: Path
    disk: Path
    base: Path
    console: Path
    name: str
    size_bytes: int


class Node:
    """One node of a local cloud that is up."""

    def __init__(self, layout: Layout, name: str) -> None:
        """Raises RuntimeError when its first process is not there."""
        pid = members.alive(layout.load(), name)
        if pid is None:
            raise RuntimeError(f"node {name} is not up")
        self.folder = layout.node_dir(name)
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--net", "--uts", "--pid"]

    def run(self, *argv: str) -> str:
        """Output of a command in the node's namespaces.

        Raises:
            RuntimeError: with what it said.
        """
        done = subprocess.run(
            [*self._enter, *argv], capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def guest_folder(self, guest: str) -> Path:
        """Disks and console log of a Guest."""
        return self.folder / "novakube" / "guests" / guest

    def console(self, guest: str) -> Path:
        """A Guest's console log."""
        return self.guest_folder(guest) / "console.log"

    def raw(self, guest: str, size_bytes: int) -> Raw:
        """A raw twin of a Guest that is off: its NIC's tap is free, its bridge and DHCP stay."""
        folder = self.folder / "raw"
        folder.mkdir(exist_ok=True)
        source = self.guest_folder(guest)
        base = folder / "vda.base"
        base.unlink(missing_ok=True)
        base.hardlink_to(source / "vda.base")
        text = self.run("virsh", "dumpxml", "--inactive", f"novakube-{guest}")
        seen_by_libvirt = f"{NODE_STATE}/guests/{guest}"
        document = ET.fromstring(text.replace(seen_by_libvirt, str(folder)))
        metadata = document.find("metadata")
        if metadata is not None:
            document.remove(metadata)  # else the agent would see an orphan of its own
        name = document.find("name")
        known = document.findtext("uuid")
        assert name is not None
        assert known is not None
        name.text = "raw"
        xml = folder / "raw.xml"
        xml.write_text(re.sub(known, str(uuid.uuid4()), ET.tostring(document, encoding="unicode")))
        return Raw(xml, folder / "vda.qcow2", base, folder / "console.log", "raw", size_bytes)

    def boot_raw(self, raw: Raw) -> float:
        """Seconds from ``qemu-img create`` to the kernel's first line; nothing of it stays."""
        create = f"qemu-img create -q -f qcow2 -u -b {raw.base.name} -F qcow2 {raw.disk} "
        script = f"{create}{raw.size_bytes} && virsh --quiet create {raw.xml}"
        started = time.perf_counter()
        self.run("sh", "-c", script)
        try:
            while not first_line(raw.console):
                if time.perf_counter() - started > BOOT_S:
                    raise RuntimeError(f"the raw domain says nothing in {raw.console}")
                time.sleep(POLL_S)
            return time.perf_counter() - started
        finally:
            self.run("virsh", "--quiet", "destroy", raw.name)
            raw.disk.unlink(missing_ok=True)
            raw.console.unlink(missing_ok=True)

    def forget_raw(self) -> None:
        """Removes the raw domain's folder."""
        shutil.rmtree(self.folder / "raw", ignore_errors=True)
