"""Named network namespaces, and work done inside of them.

A namespace is a bind mount below ``/run/netns``, as iproute2 keeps them, so that ``ip netns``
shows ours. Entering one happens in a thread that ends afterwards: no thread of the agent ever
stays in a foreign namespace. Blocking: called from worker threads only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from novakube_kit.errors import HostBusy, HostFailure, NotFound
from novakube_kit.failpoints import failpoint

DIRECTORY = Path("/run/netns")
_ENTER_DEADLINE_S = 60.0

# Source: linux/sched.h, linux/mount.h.
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 1 << 20
_MNT_DETACH = 2

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _mount(source: str, target: Path, flags: int) -> None:
    args = (source.encode(), str(target).encode(), b"none", flags, None)
    _check(_libc.mount(*args), f"mount {target}")


def _in_fresh_thread(body: Callable[[], T], what: str) -> T:
    """Runs ``body`` in a thread of its own and hands on its result or exception."""
    result: list[T] = []
    errors: list[BaseException] = []

    def main() -> None:
        try:
            result.append(body())
        except BaseException as error:  # handed on to the caller below
            errors.append(error)

    thread = threading.Thread(target=main, name=f"netns {what}", daemon=True)
    thread.start()
    thread.join(_ENTER_DEADLINE_S)
    if thread.is_alive():
        raise HostBusy(f"{what} did not end within {_ENTER_DEADLINE_S:g} s")
    if errors:
        raise errors[0]
    return result[0]


def _share_directory() -> None:
    """Makes /run/netns a shared mount.

    So other mount namespaces see our unmounts and no copy keeps a namespace alive.
    Source: iproute2, ip/ipnetns.c.
    """
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        _mount("", DIRECTORY, _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount(str(DIRECTORY), DIRECTORY, _MS_BIND | _MS_REC)
        _mount("", DIRECTORY, _MS_SHARED | _MS_REC)


def exists(name: str) -> bool:
    """Whether the name holds a living namespace (not just a leftover file)."""
    path = DIRECTORY / name
    try:
        return path.stat().st_dev != DIRECTORY.stat().st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """Makes the namespace; a leftover file of a crash is used.

    Raises:
        HostFailure: the kernel refused.
    """
    if exists(name):
        return

    def unshared() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        _mount("/proc/thread-self/ns/net", DIRECTORY / name, _MS_BIND)

    try:
        with failpoint("host.netns.create"):
            _share_directory()
            (DIRECTORY / name).touch(mode=0o444)
            _in_fresh_thread(unshared, f"creation of {name}")
    except OSError as error:
        raise HostFailure(f"network namespace {name} cannot be made: {error}") from error


def remove(name: str) -> None:
    """Removes the name; the namespace ends with its last process. Tolerant of absence.

    Raises:
        HostFailure: the kernel refused.
    """
    path = DIRECTORY / name
    try:
        with failpoint("host.netns.remove"):
            if exists(name):
                _check(_libc.umount2(str(path).encode(), _MNT_DETACH), f"umount {path}")
            path.unlink(missing_ok=True)
    except OSError as error:
        raise HostFailure(f"network namespace {name} cannot be removed: {error}") from error


def names(prefix: str) -> list[str]:
    """Names that begin so, leftover files included."""
    if not DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in DIRECTORY.iterdir() if path.name.startswith(prefix))


def inside(name: str, body: Callable[[], T]) -> T:
    """Runs ``body`` inside the namespace; sockets it opens and programs it starts stay there.

    Raises:
        NotFound: there is no such namespace.
        Whatever ``body`` raises.
    """

    def entered() -> T:
        try:
            handle = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"there is no network namespace {name}") from error
        try:
            _check(_libc.setns(handle, _CLONE_NEWNET), f"setns {name}")
        finally:
            os.close(handle)
        return body()

    return _in_fresh_thread(entered, f"work in {name}")
