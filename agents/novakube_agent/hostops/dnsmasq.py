"""One dnsmasq per Network and node: started, adopted, reloaded, stopped. Blocking.

It daemonises, so it outlives the agent. A living one is recognised by its command line, which
names a configuration file of the Network's directory; that file's name holds the digest of
its text, so "runs with the wanted configuration" is decided by the command line alone.

It has a helper process, which runs the script for leases one by one, and which ends by itself
when all is told; the helper is no server, and is waited for.

Removed hosts files must be forgotten: ``dhcp-hostsdir`` never forgets, ``dhcp-hostsfile``
with a directory is read anew on SIGHUP (dnsmasq(8)), so that is what the rendering uses.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from novakube_agent.dhcpbridge import NETWORK
from novakube_agent.hostops import netns
from novakube_agent.hostops.dhcp_leases import settle
from novakube_agent.hostops.durable import remove_file, write_whole
from novakube_agent.hostops.process import run_blocking
from novakube_agent.render.dnsmasq import config_name, conflicting_leases
from novakube_kit.errors import HostBusy, HostFailure
from novakube_kit.failpoints import failpoint

START_DEADLINE_S = 10.0
STOP_DEADLINE_S = 5.0
_PROC = Path("/proc")
_SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


def _is_helper(pid: int) -> bool:
    """Whether a dnsmasq is the helper: it alone ignores SIGTERM, to tell what is left."""
    lines = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
    ignored = next(line for line in lines.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) & _SIGTERM_BIT)


def _configuration(pid: int, *, helper: bool = False) -> Path | None:
    """The configuration file of a dnsmasq, or of a dnsmasq's helper; None for all else."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        if Path(words[0].decode(errors="replace")).name != "dnsmasq" or _is_helper(pid) != helper:
            return None
    except (FileNotFoundError, ProcessLookupError):
        return None
    for word in words[1:]:
        option, _, value = word.decode(errors="replace").partition("=")
        if option == "--conf-file" and value:
            return Path(value)
    return None


def running(directory: Path) -> dict[int, Path]:
    """Living dnsmasq of a Network's directory: configuration file by process id.

    The pid file first; only when it leads nowhere are all processes looked through (a kill
    before the pid file was written must not end in two servers).
    """
    try:
        pid = int((directory / "dnsmasq.pid").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        pid = 0
    config = _configuration(pid) if pid else None
    if config is not None and config.parent == directory:
        return {pid: config}
    return everywhere(directory)


def everywhere(below: Path, *, helper: bool = False) -> dict[int, Path]:
    """Living dnsmasq (or helpers of one) whose configuration lies below a directory."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            config = _configuration(int(entry.name), helper=helper)
            if config is not None and below in config.parents:
                found[int(entry.name)] = config
    return found


def ensure(namespace: str, directory: Path, config: str, hosts: dict[str, str]) -> int:
    """A dnsmasq with this configuration in the namespace; returns its process id.

    One with another configuration is replaced; so is one that holds an address of a present
    NIC leased to another MAC, after that lease has been struck from the file.

    Args:
        namespace: name of the network namespace.
        directory: the Network's state directory.
        config: text of the configuration.
        hosts: MAC by address of the present NICs.

    Raises:
        HostFailure: dnsmasq refuses its configuration, with its words.
        HostBusy: it did not come up or go down in time.
    """
    wanted = directory / config_name(config)
    found = running(directory)
    stale = _stale_leases(directory, hosts)
    if list(found.values()) == [wanted] and not stale:
        return next(iter(found))
    stop(directory)
    if stale:
        _strike(directory, stale)
    settle(directory, hosts)
    write_whole(wanted, config)
    code, words = netns.inside(
        namespace,
        lambda: run_blocking(
            ["dnsmasq", f"--conf-file={wanted}"],
            deadline_s=START_DEADLINE_S,
            variables={NETWORK: str(directory)},
        ),
    )
    if code:
        raise HostFailure(
            f"dnsmasq for {directory.name} did not start: {words}", reason="DHCPServerFailed"
        )
    for other in directory.glob("dnsmasq-*.conf"):
        if other != wanted:
            remove_file(other)
    return next(iter(running(directory)), 0)


def _stale_leases(directory: Path, hosts: dict[str, str]) -> list[str]:
    try:
        text = (directory / "leases").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return conflicting_leases(text, hosts)


def _strike(directory: Path, lines: list[str]) -> None:
    path = directory / "leases"
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line not in lines]
    write_whole(path, "".join(f"{line}\n" for line in kept))


def reload(directory: Path) -> None:
    """Makes a living dnsmasq read its hosts files again."""
    for pid in running(directory):
        with failpoint("host.dnsmasq.reload"), suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)


def stop(directory: Path) -> None:
    """Ends every dnsmasq of the directory, and waits for what its script has to tell.

    Tolerant of none. Afterwards nothing writes into the directory.

    Raises:
        HostBusy: one did not end in time, though killed.
    """
    for pid in everywhere(directory):
        with failpoint("host.dnsmasq.stop"):
            _end(pid)
    for pid in everywhere(directory, helper=True):
        _end(pid)


def _end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # A helper ignores the first: it ends by itself once its dnsmasq is gone.
        for number, deadline_s in ((signal.SIGTERM, STOP_DEADLINE_S), (signal.SIGKILL, 1.0)):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], deadline_s)[0]:
                return
    finally:
        os.close(handle)
    raise HostBusy(f"dnsmasq, process {pid}, does not end")
