"""The guest image, built once, and guests of it run by QEMU itself (emulated, 128 MiB)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deadlines import READY_S
from tests.waiting import wait_until_sync

RECIPE = Path(__file__).parents[3] / "local" / "guest_image" / "build.py"
BUILD_S = 300


@dataclass
class Guest:
    """A running QEMU with its serial console in a file."""

    process: subprocess.Popen[bytes]
    console_file: Path
    monitor: Path

    def console(self) -> str:
        return self.console_file.read_text(errors="replace") if self.console_file.exists() else ""

    def wait_for(self, text: str, deadline_s: float = READY_S) -> str:
        def seen() -> bool:
            assert self.process.poll() is None, f"QEMU ended\n{self.console()[-2000:]}"
            return text in self.console()

        try:
            wait_until_sync(seen, f"{text!r} on the console", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.console()[-2000:]}") from None
        return self.console()

    def type(self, text: str) -> None:
        """Input on the serial console."""
        assert self.process.stdin
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def order(self, command: str) -> None:
        """One QMP command."""
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(10)
            qmp.connect(str(self.monitor))
            answers = qmp.makefile()
            answers.readline()
            for execute in ("qmp_capabilities", command):
                qmp.sendall(json.dumps({"execute": execute}).encode())
                answer = json.loads(answers.readline())
                while "event" in answer:
                    answer = json.loads(answers.readline())
                assert "return" in answer


@pytest.fixture(scope="session")
def image() -> Path:
    """The built image; kept in the clone's cache, so a second run costs a second."""
    out = RECIPE.parents[2] / ".cache" / "guest_image"
    done = subprocess.run(
        [sys.executable, str(RECIPE), "--out", str(out)],
        capture_output=True, text=True, timeout=BUILD_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


Run = Callable[..., Guest]


@pytest.fixture
def run(image: Path, tmp_path: Path) -> Iterator[Run]:
    """Starts guests; ends them with the test."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Guest:
            console, monitor = tmp_path / "console", tmp_path / "qmp"
            command = [
                "qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-display", "none",
                "-nodefaults", "-no-reboot",
                "-chardev", "stdio,id=c,signal=off", "-serial", "chardev:c",
                "-qmp", f"unix:{monitor},server=on,wait=off", *arguments,
            ]  # fmt: skip
            with console.open("wb") as output:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output)
            assert process.stdin
            stack.callback(process.stdin.close)
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
            return Guest(process, console, monitor)

        yield start


@pytest.fixture
def direct(image: Path) -> list[str]:
    """Boots kernel and ramdisk."""
    files = ["-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img")]
    return [*files, "-append", "console=ttyS0"]


NIC = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n"]


@pytest.fixture
def disk(image: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """Boots an overlay of the given size by the BIOS."""

    def overlay(size: str, bus: str = "virtio") -> list[str]:
        path = tmp_path / "root.qcow2"
        base = str(image / "novakube-guest.qcow2")
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base]
        subprocess.run([*command, str(path), size], check=True, timeout=30)
        return ["-drive", f"file={path},if={bus},format=qcow2"]

    return overlay
