"""LeasePort on Linux: the records that dnsmasq's script keeps, and the FIFO it tells by.

Records are level: each look reads those of the NICs at hand, so nothing depends on what was
heard before. The FIFO only says where to look soon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from novakube_agent import dhcpbridge
from novakube_agent.hostops.durable import remove_file, write_whole
from novakube_agent.hostops.threads import in_thread
from novakube_agent.leases import (
    RECORD_MAX_BYTES,
    HeldLease,
    guest_lease,
    leasable,
    parse_event,
    parse_record,
)
from novakube_agent.metrics import LEASE_EVENTS
from novakube_agent.ports import LeaseEvent
from novakube_agent.render.dnsmasq import lease_holders, render_script
from novakube_crds.v1alpha1.guest import GuestLease, GuestNic
from novakube_kit.errors import HostFailure
from novakube_kit.failpoints import failpoint

_log = logging.getLogger(__name__)
SCRIPT = "novakube-dhcpbridge"
_PIPE_BYTES = 65536
"""All that a FIFO holds (pipe(7)): one read leaves no half line behind."""


class DhcpLeases:
    """LeasePort of one node."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    async def held(self, nics: Sequence[GuestNic]) -> tuple[GuestLease, ...]:
        """What DHCP holds for these NICs, in a fixed order."""
        if not nics:
            return ()
        return await in_thread(partial(_held, self._state_dir / "networks", nics))

    async def follow(self, heard: Callable[[LeaseEvent], None]) -> None:
        """Tells each event until cancelled.

        Raises:
            HostFailure: the FIFO cannot be made.
        """
        handle = await in_thread(partial(_open_fifo, self._state_dir))
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(handle, _read, handle, heard)
            await loop.create_future()
        finally:
            loop.remove_reader(handle)
            os.close(handle)


def install(state_dir: Path) -> None:
    """The script that dnsmasq runs, and its copy of the bridge. Blocking; one at a time.

    Its interpreter is the one behind this process's (a virtualenv may be replaced under a
    living dnsmasq). Nothing is written when it is there already.
    """
    bridge = state_dir / f"{SCRIPT}.py"
    write_whole(bridge, Path(dhcpbridge.__file__).read_text(encoding="utf-8"))
    text = render_script(Path(sys.executable).resolve(), bridge)
    write_whole(state_dir / SCRIPT, text, mode=0o755)


def settle(directory: Path, hosts: dict[str, str]) -> None:
    """Records as dnsmasq's lease file has it. Blocking; only while no dnsmasq is running.

    Makes up for what a dnsmasq that was killed, or that had no script yet, did not tell. When
    such a lease began nobody knows: not later than the file was last written.

    Args:
        directory: the Network's directory.
        hosts: MAC by address of the present NICs.
    """
    path, folder = directory / "leases", directory / dhcpbridge.HELD
    try:
        text, written = path.read_text(encoding="utf-8", errors="replace"), path.stat().st_mtime
    except FileNotFoundError:
        text, written = "", 0.0
    leased = lease_holders(text)
    folder.mkdir(mode=0o755, exist_ok=True)
    for record in folder.iterdir():
        if record.name not in leased:
            remove_file(record)
    for address, mac in leased.items():
        if mac is not None and hosts.get(address) == mac and _record(folder / address) is None:
            write_whole(
                folder / address, dhcpbridge.record_text(mac, int(written)), mode=0o600
            )  # fmt: skip


def forget(directory: Path, nic: GuestNic) -> None:
    """Removes the NIC's records. Blocking; tolerant of absence.

    dnsmasq keeps the lease itself until it expires; the NIC's next guest makes a new record.
    """
    for _, address in leasable(nic):
        path = directory / dhcpbridge.HELD / address
        if path.exists():
            remove_file(path)


def _held(networks: Path, nics: Sequence[GuestNic]) -> tuple[GuestLease, ...]:
    found = sorted(_of_nics(networks, nics), key=lambda lease: (lease.mac, lease.address))
    return tuple(found)


def _of_nics(networks: Path, nics: Sequence[GuestNic]) -> Iterator[GuestLease]:
    for nic in nics:
        for uid, address in leasable(nic):
            record = _record(networks / uid / dhcpbridge.HELD / address)
            lease = None if record is None else guest_lease(nic, address, record)
            if lease is not None:
                yield lease


def _record(path: Path) -> HeldLease | None:
    """The record; None when there is none or it is damaged, which is logged."""
    try:
        with path.open("rb") as file:
            return parse_record(file.read(RECORD_MAX_BYTES).decode(errors="replace"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        _log.warning("record of a lease is damaged", extra={"path": str(path), "why": str(error)})
        return None


def _open_fifo(state_dir: Path) -> int:
    """A new FIFO in the place of the last agent's, for the owner only; open for reading.

    Open for writing too: it never reads as ended when a script closes it.
    """
    path = state_dir / dhcpbridge.EVENTS
    part = path.with_name(f".{path.name}.part")
    try:
        with failpoint("host.fifo"):
            state_dir.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                part.unlink()
            os.mkfifo(part, 0o600)
            handle = os.open(part, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            part.replace(path)
    except OSError as error:
        raise HostFailure(f"FIFO {path}: {error}", reason="LeasesNotFollowed") from error
    return handle


def _read(handle: int, heard: Callable[[LeaseEvent], None]) -> None:
    try:
        data = os.read(handle, _PIPE_BYTES)
    except BlockingIOError:
        return
    for line in data.decode(errors="replace").splitlines():
        try:
            event = parse_event(line)
        except ValueError as error:
            LEASE_EVENTS.labels("Malformed").inc()
            _log.warning("event of a lease not understood: %s", error)
            continue
        heard(event)
