"""A libvirtd of one's own, which leaves the machine's own (if any) untouched.

How it is kept apart, for whoever starts another one (a simulated node, say):

- a *holder* process (``unshare --mount --net``) owns a mount and a network namespace; in
  it ``/run``, ``/etc/libvirt``, ``/var/lib/libvirt``, ``/var/log/libvirt`` and
  ``/var/cache/libvirt`` are bind mounts of folders of this daemon's state directory, so
  they survive a restart of the daemon and can be read from outside;
- the daemon enters those namespaces with ``nsenter``, which replaces itself: the pid is the
  daemon's own;
- ``unix_sock_dir`` in libvirtd.conf points to a folder that is mounted nowhere else, so the
  socket has one path inside and outside:
  ``qemu+unix:///system?socket=STATE/sock/libvirt-sock``. Keep STATE short: a socket's path
  ends at 107 bytes;
- disks and console logs lie outside the hidden folders, so QEMU sees the same paths.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

from tests.deadlines import READY_S, STOP_S
from tests.waiting import wait_until_sync

_HIDDEN = {
    "run": "/run",
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""


class PrivateLibvirtd:
    """Start with ``start``, end with ``close``; everything is below ``state``."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="nklv-"))
        self.socket = self.state / "sock" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self._holder: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        for folder in (*_HIDDEN, "sock", "data"):
            (self.state / folder).mkdir()
        (self.state / "etc" / "qemu.conf").write_text(_QEMU_CONF)
        (self.state / "etc" / "libvirtd.conf").write_text(
            f'unix_sock_dir = "{self.state}/sock"\n'
            'auth_unix_rw = "none"\nauth_unix_ro = "none"\n'
            f'host_uuid = "{uuid.uuid4()}"\n'
        )

    @property
    def data(self) -> Path:
        """A folder that daemon, QEMU and test see under the same path."""
        return self.state / "data"

    @property
    def pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def _namespaces(self) -> list[str]:
        assert self._holder is not None
        return ["nsenter", "--target", str(self._holder.pid), "--mount", "--net", "--"]

    def run(self, *argv: str) -> str:
        """Runs a program inside."""
        done = subprocess.run(
            [*self._namespaces, *argv], check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout

    def hold(self) -> None:
        """Makes the namespaces."""
        ready = self.state / "held"
        mounts = "".join(f"mount --bind {self.state}/{a} {b}\n" for a, b in _HIDDEN.items())
        script = f"{mounts}ip link set lo up\ntouch {ready}\nexec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "--", "sh", "-ec", script]
        )
        wait_until_sync(ready.exists, "namespaces of the private libvirtd", READY_S)

    def start(self) -> None:
        """Starts the daemon and waits until it answers."""
        if self._holder is None:
            self.hold()
        self.socket.unlink(missing_ok=True)
        with (self.state / "libvirtd.log").open("ab") as log:
            self._daemon = subprocess.Popen([*self._namespaces, "libvirtd"], stdout=log, stderr=log)
        wait_until_sync(self._answers, "private libvirtd answers", READY_S)

    def _answers(self) -> bool:
        assert self._daemon is not None
        if self._daemon.poll() is not None:
            raise AssertionError((self.state / "libvirtd.log").read_text())
        return self.socket.exists() and self.virsh("version", check=False).returncode == 0

    def virsh(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A look, or a meddling hand, from outside."""
        return subprocess.run(
            ["virsh", "--quiet", "--connect", self.uri, *argv],
            check=check, capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the daemon; its guests live on."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGCONT)
        self._daemon.send_signal(how)
        self._daemon.wait(STOP_S)
        self._daemon = None

    def qemu_pid(self, domain: str) -> int:
        return int((self.state / "run" / "libvirt" / "qemu" / f"{domain}.pid").read_text())

    def close(self) -> None:
        """Ends daemon, guests and namespaces, and removes the state."""
        if self._daemon is not None:
            self.stop(signal.SIGKILL)
        for pid_file in (self.state / "run" / "libvirt" / "qemu").glob("*.pid"):
            _kill(int(pid_file.read_text()))
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait(STOP_S)
        shutil.rmtree(self.state)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_until_sync(lambda: not Path(f"/proc/{pid}").exists(), f"pid {pid} gone", STOP_S)
