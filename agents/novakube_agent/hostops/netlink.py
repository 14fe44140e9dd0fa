"""Links, addresses and sysctls over netlink, as idempotent steps.

One ``Netlink`` speaks to the network namespace of the thread that opened it. Blocking: called
from worker threads only. errnos become ``novakube_kit.errors`` here and nowhere else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from novakube_kit.errors import HostBusy, HostFailure
from novakube_kit.failpoints import failpoint

# Source: linux/if_tun.h.
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_TRANSIENT = {errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.EINTR}
_SYSCTL = Path("/proc/sys/net")
_SCOPE_LINK = 253  # Source: linux/rtnetlink.h, RT_SCOPE_LINK
_Message: TypeAlias = Any  # pyroute2 carries no types
Attribute: TypeAlias = str | int | dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Link:
    """One link as the kernel has it."""

    index: int
    name: str
    alias: str | None
    kind: str | None
    mac: str | None
    mtu: int
    up: bool
    carrier: bool
    """For a tap: a process holds it open."""
    master: int | None


def _link(message: _Message) -> Link:
    info = message.get("linkinfo")
    return Link(
        index=message["index"],
        name=message.get("ifname"),
        alias=message.get("ifalias"),
        kind=info.get("kind") if info is not None else None,
        mac=message.get("address"),
        mtu=message.get("mtu"),
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        master=message.get("master"),
    )


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise _error(what, error.code or 0, str(error)) from error
    except OSError as error:
        raise _error(what, error.errno or 0, str(error)) from error


def _error(what: str, code: int, text: str) -> HostFailure | HostBusy:
    message = f"{what}: {os.strerror(code) if code else text}"
    if code in _TRANSIENT:
        return HostBusy(message)
    if code in (errno.EPERM, errno.EACCES):
        return HostFailure(f"{message}; the agent needs CAP_NET_ADMIN", reason="NotPermitted")
    if code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        return HostFailure(f"{message}; this kernel lacks it", reason="KernelUnsupported")
    return HostFailure(message)


class Netlink:
    """A netlink socket and the steps taken over it."""

    def __init__(self) -> None:
        with _translated("netlink socket"):
            self._route = IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._route.close()

    def links(self) -> list[Link]:
        """All links of the namespace."""
        with _translated("list of links"):
            return [_link(message) for message in self._route.get_links()]

    def find(self, name: str) -> Link | None:
        """The link of that name; None without one."""
        try:
            with _translated(f"link {name}"):
                return _link(next(iter(self._route.link("get", ifname=name))))
        except HostFailure as error:
            cause = error.__cause__
            if isinstance(cause, NetlinkError) and cause.code == errno.ENODEV:
                return None
            raise

    def get(self, name: str) -> Link:
        """The link of that name.

        Raises:
            HostBusy: it is not there (any more): the next attempt makes it again.
        """
        link = self.find(name)
        if link is None:
            raise HostBusy(f"link {name} vanished")
        return link

    def add(self, name: str, kind: str, **attributes: Attribute) -> None:
        """Makes a link; EEXIST is success (the caller looked before and holds the lock)."""
        with failpoint(f"host.link.add.{kind}"), _translated(f"{kind} {name} cannot be made"):
            try:
                self._route.link("add", ifname=name, kind=kind, **attributes)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise

    def add_tap(self, name: str) -> None:
        """Makes a persistent tap that QEMU opens later (single queue, with vnet header)."""
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        with failpoint("host.link.add.tap"), _translated(f"tap {name} cannot be made"):
            handle = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, _TUNSETIFF, request)
                fcntl.ioctl(handle, _TUNSETPERSIST, 1)
            finally:
                os.close(handle)

    def change(self, link: Link, **attributes: Attribute) -> None:
        """Changes attributes (``mtu``, ``master``, ``ifalias``, ``state``, ...)."""
        with failpoint("host.link.set"), _translated(f"link {link.name} cannot be changed"):
            self._route.link("set", index=link.index, **attributes)

    def isolate_port(self, link: Link) -> None:
        """Marks a bridge port as isolated: isolated ports never forward to one another."""
        what = f"bridge port {link.name} cannot be isolated"
        with failpoint("host.link.isolate"), _translated(what):
            self._route.brport("set", index=link.index, isolated=1)

    def remove(self, name: str) -> None:
        """Removes the link; tolerant of absence."""
        link = self.find(name)
        if link is None:
            return
        with failpoint("host.link.remove"), _translated(f"link {name} cannot be removed"):
            try:
                self._route.link("del", index=link.index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise

    def addresses(self, link: Link) -> set[str]:
        """The link's addresses as ``address/prefix``, but those of the link itself (fe80::)."""
        with _translated(f"addresses of {link.name}"):
            found = self._route.get_addr(index=link.index)
            return {
                f"{item.get('address')}/{item['prefixlen']}"
                for item in found
                if item["family"] != socket.AF_INET6 or item["scope"] != _SCOPE_LINK
            }

    def ensure_addresses(self, link: Link, wanted: list[str]) -> None:
        """Exactly these addresses on the link."""
        present = self.addresses(link)
        for action, changed in (("del", present - set(wanted)), ("add", set(wanted) - present)):
            for text in sorted(changed):
                address, _, prefix = text.partition("/")
                what = f"address {text} on {link.name} ({action})"
                with failpoint("host.address"), _translated(what):
                    self._route.addr(
                        action, index=link.index, address=address, prefixlen=int(prefix)
                    )


def sysctl(name: str) -> str | None:
    """A value below net/ of this thread's namespace; None where the kernel has no such key."""
    try:
        return (_SYSCTL / name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def set_sysctl(name: str, value: str) -> None:
    """Sets a value; a key the kernel does not have (IPv6 not built in) needs no setting.

    Raises:
        HostFailure: refused (a read-only /proc/sys).
    """
    if sysctl(name) in (None, value):
        return
    with failpoint("host.sysctl"), _translated(f"sysctl net/{name}={value}"):
        (_SYSCTL / name).write_text(value, encoding="ascii")
