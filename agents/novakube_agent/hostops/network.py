"""NetworkPort on Linux: every Network's bridge, namespace, gateway, DHCP and taps.

The NIC's record is written first and removed last; all else is derived from the records of
one Network under that Network's lock. Blocking steps run in the class's own threads, so the
event loop and other users of the default executor never wait for the kernel.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from novakube_agent.hostops import dhcp_leases, dnsmasq, iptables
from novakube_agent.hostops import network_plumbing as plumbing
from novakube_agent.hostops.netlink import Netlink
from novakube_agent.hostops.network_records import NetworkRecords, NicRecord
from novakube_agent.hostops.threads import in_thread
from novakube_agent.ports import NicLink
from novakube_agent.render.dnsmasq import (
    addresses,
    gateway_addresses,
    render_config,
    render_host,
    subnets,
)
from novakube_agent.render.names import (
    TAP_PREFIX,
    Mark,
    bridge_name,
    netns_name,
    tap_name,
)
from novakube_crds.v1alpha1.guest import GuestNic

_LOG = logging.getLogger(__name__)
_THREADS = 4

T = TypeVar("T")


class NicFilter(Protocol):
    """Where packet filtering joins: called while a NIC is not yet, or no longer, reachable."""

    def attach(self, nic: GuestNic, link: NicLink) -> None:
        """Blocking; before the tap is handed to the hypervisor."""
        ...

    def detach(self, nic: GuestNic) -> None:
        """Blocking; after the tap is gone; tolerant of absence."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The node's own facts."""

    state_dir: Path
    """The agent's state directory; files go below ``networks/``."""
    physical_networks: Mapping[str, str] = field(default_factory=dict)
    """Interface by physical network (``NOVAKUBE_PHYSICAL_NETWORKS``)."""


class NodeNetwork:
    """NetworkPort. One per node; survives nothing in memory that the disk does not hold."""

    def __init__(self, settings: NetworkSettings, filters: tuple[NicFilter, ...] = ()) -> None:
        self._settings = settings
        self._filters = filters
        self._records = NetworkRecords(settings.state_dir / "networks")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="network")
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._node_lock = asyncio.Lock()
        """Held while the first Network comes or the last goes (rules of the whole node)."""

    def close(self) -> None:
        """Ends the threads; touches nothing on the node."""
        self._threads.shutdown(wait=False)

    async def ensure_nic(self, guest_name: str, hostname: str, nic: GuestNic) -> NicLink:
        """Network plumbing up, tap made and on the bridge, DHCP entry in place.

        Raises:
            InvalidSpec: an address, route or host name that cannot be served.
            HostFailure: the node refuses for good; HostBusy: not now.
        """
        record = NicRecord(guest_name, hostname, nic)
        render_host(hostname, nic)  # refuses bad input before anything is made
        async with self._locks[nic.network_uid]:
            await self._run(self._records.check_readable)
            await self._run(lambda: self._records.put(record))
            await self._bridges_accepted()
            await self._script_installed()
            link = await self._run(lambda: self._ensure(record))
        await self._leave_others(nic)
        return link

    async def remove_nic(self, guest_name: str, nic: GuestNic) -> None:
        """Tap and DHCP entry gone; the Network's plumbing too when it was the last NIC."""
        async with self._locks[nic.network_uid]:
            last = await self._run(lambda: self._remove(nic))
        if last:
            await self._after_last()
        _LOG.debug("NIC removed", extra={"guest": guest_name, "port": nic.port_name})

    async def restore(self, nics: dict[str, list[GuestNic]]) -> None:
        """Everything of ``nics`` alive again but the taps; what belongs to none is removed.

        May be repeated at any time: a living dnsmasq with the wanted configuration is left
        alone. A tap that a process holds open is never removed, nor its Network.
        """
        wanted = {nic.port_uid: nic.network_uid for guest in nics.values() for nic in guest}
        await self._run(self._records.check_readable)
        await self._script_installed()
        open_taps = await self._run(lambda: self._remove_taps_but(set(wanted)))
        for uid in await self._run(self._known_networks):
            async with self._locks[uid]:
                await self._run(partial(self._restore, uid, wanted, open_taps))
        if await self._run(self._records.networks):
            await self._bridges_accepted()
        else:
            await self._after_last()

    async def present(self) -> frozenset[str]:
        """Port UIDs that have a tap or DHCP entry on this node."""
        return await self._run(self._present)

    async def _run(self, step: Callable[[], T]) -> T:
        return await in_thread(step, self._threads)

    async def _leave_others(self, nic: GuestNic) -> None:
        """No other Network has the NIC any more.

        A Network that was made anew from its manifest has another UID; the tap of a machine
        that goes on has moved to it.
        """
        for uid in await self._run(self._records.networks):
            if uid != nic.network_uid and self._records.left(uid, nic.port_uid):
                async with self._locks[uid]:
                    await self._run(partial(self._leave, uid, nic.port_uid))

    async def _bridges_accepted(self) -> None:
        async with self._node_lock:
            await self._run(iptables.ensure_bridge_accept)

    async def _script_installed(self) -> None:
        """Each agent's own, with its start too: an upgrade reaches every living dnsmasq."""
        async with self._node_lock:
            await self._run(lambda: dhcp_leases.install(self._settings.state_dir))

    async def _after_last(self) -> None:
        async with self._node_lock:
            if not await self._run(self._records.networks):
                await self._run(iptables.remove_bridge_accept)

    def _ensure(self, record: NicRecord) -> NicLink:
        nic = record.nic
        with Netlink() as netlink:
            self._ensure_network(netlink, nic.network_uid, record)
            plumbing.ensure_tap(netlink, nic)
        link = NicLink(
            port_uid=nic.port_uid,
            mac=nic.mac,
            tap=tap_name(nic.port_uid),
            bridge=bridge_name(nic.network_uid),
            mtu=nic.mtu,
        )
        for item in self._filters:
            item.attach(nic, link)
        return link

    def _ensure_network(self, netlink: Netlink, uid: str, newest: NicRecord | None = None) -> None:
        records = self._records.nics(uid)
        newest = newest or records[-1]
        # Facts of the NIC at hand win over those an older guest was accepted with.
        nics = [item.nic for item in records] + [newest.nic]
        used = subnets(nics)
        plumbing.ensure_network(
            netlink, newest.nic, gateway_addresses(used), self._settings.physical_networks
        )
        changed = False
        for item in records:
            text = render_host(item.hostname, item.nic)
            changed |= self._records.put_host(uid, item.nic.port_uid, text)
        directory = self._records.directory(uid)
        hosts = {item.address: nic.mac for nic in nics for item in addresses(nic)}
        before = set(dnsmasq.running(directory))
        script = self._settings.state_dir / dhcp_leases.SCRIPT
        config = render_config(directory, newest.nic.mtu, used, script)
        pid = dnsmasq.ensure(netns_name(uid), directory, config, hosts)
        if changed and pid in before:
            dnsmasq.reload(directory)

    def _remove(self, nic: GuestNic) -> bool:
        """True when the Network went with it."""
        uid = nic.network_uid
        with Netlink() as netlink:
            netlink.remove(tap_name(nic.port_uid))
            for item in self._filters:
                item.detach(nic)
            if self._records.put_host(uid, nic.port_uid, ""):
                dnsmasq.reload(self._records.directory(uid))
            dhcp_leases.forget(self._records.directory(uid), nic)
            self._records.forget(uid, nic.port_uid)
            if self._records.nics(uid):
                return False
            self._remove_network(netlink, uid)
            return True

    def _leave(self, uid: str, port_uid: str) -> None:
        """The NIC's tap stays; the Network goes when it was the last NIC."""
        if self._records.put_host(uid, port_uid, ""):
            dnsmasq.reload(self._records.directory(uid))
        self._records.forget(uid, port_uid)
        if not self._records.nics(uid):
            with Netlink() as netlink:
                self._remove_network(netlink, uid)

    def _remove_network(self, netlink: Netlink, uid: str) -> None:
        dnsmasq.stop(self._records.directory(uid))
        plumbing.remove_network(netlink, uid)
        self._records.forget_network(uid)

    def _known_networks(self) -> list[str]:
        """Networks with a directory or a link of ours."""
        with Netlink() as netlink:
            marked = {mark.network_uid for _, mark in plumbing.our_links(netlink).values()}
        return sorted(marked.union(self._records.networks()))

    def _remove_taps_but(self, wanted: set[str]) -> set[str]:
        """Removes idle taps of no wanted port; returns ports of those that are in use."""
        in_use = set()
        with Netlink() as netlink:
            for name, (link, mark) in plumbing.our_links(netlink).items():
                if not name.startswith(TAP_PREFIX) or mark.port_uid in wanted | {None}:
                    continue
                if link.carrier:
                    _LOG.warning("tap of no guest is in use and kept", extra={"tap": name})
                    in_use.add(str(mark.port_uid))
                else:
                    netlink.remove(name)
        return in_use

    def _restore(self, uid: str, wanted: Mapping[str, str], open_taps: set[str]) -> None:
        with Netlink() as netlink:
            here = {m.port_uid for m in self._marks(netlink) if m.network_uid == uid}
        for item in self._records.nics(uid):
            home = wanted.get(item.nic.port_uid)
            held = open_taps if home is None else here  # one that is to move has not yet
            if home != uid and item.nic.port_uid not in held:
                self._records.put_host(uid, item.nic.port_uid, "")
                dhcp_leases.forget(self._records.directory(uid), item.nic)
                self._records.forget(uid, item.nic.port_uid)
        with Netlink() as netlink:
            if self._records.nics(uid):
                self._ensure_network(netlink, uid)
                dnsmasq.reload(self._records.directory(uid))
            elif not self._has_taps(netlink, uid):
                self._remove_network(netlink, uid)

    def _has_taps(self, netlink: Netlink, uid: str) -> bool:
        return any(mark.network_uid == uid and mark.port_uid for mark in self._marks(netlink))

    @staticmethod
    def _marks(netlink: Netlink) -> list[Mark]:
        return [mark for _, mark in plumbing.our_links(netlink).values()]

    def _present(self) -> frozenset[str]:
        with Netlink() as netlink:
            ports = {mark.port_uid for mark in self._marks(netlink) if mark.port_uid}
        for uid in self._records.networks():
            ports.update(item.nic.port_uid for item in self._records.nics(uid))
        return frozenset(ports)
