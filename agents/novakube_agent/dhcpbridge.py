"""``novakube-dhcpbridge``: what dnsmasq runs when a lease begins, changes or ends.

A lease that is held has one small file, ``<network>/held/<address>``, written by rename and
removed with the lease. Only then the agent is told, by a line into a FIFO. The files are what
counts and the line is a hint, so an agent that is away, is killed or is slow loses nothing: it
reads the files. dnsmasq's own lease file would not do: it knows neither when a lease began nor
the name that the guest gave itself, and it is rewritten in place.

dnsmasq forks this for each event and waits for its end, so nothing in here waits: a FIFO that
nobody reads, or that is full, is passed over. Standard library only, and of that what costs
little (``socket`` or ``json`` would double its CPU time). The agent puts a copy of this file
into its state directory, so that replacing the installed package takes nothing from under a
living dnsmasq.
"""

from __future__ import annotations

import os
import sys
import time

NETWORK = "NOVAKUBE_NETWORK"
"""Environment: the Network's directory on the node, as dnsmasq was started with it."""
HELD = "held"
EVENTS = "dhcp-events"
"""The FIFO, in the state directory."""
NAME_MAX = 255
_ADDRESS = frozenset("0123456789abcdef.:")


def main() -> int:
    """Arguments and environment are dnsmasq's (dnsmasq(8), --dhcp-script); 0 when recorded."""
    try:
        return take(sys.argv[1:], dict(os.environ))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"novakube-dhcpbridge: {error}\n")
        return 1


def take(arguments: list[str], environ: dict[str, str]) -> int:
    """Records one event and tells the agent.

    Raises:
        ValueError: it was not called as dnsmasq calls it.
        OSError: the record cannot be written.
    """
    if arguments[:1] and arguments[0] not in ("add", "old", "del"):
        return 0  # dnsmasq may tell of other things than leases
    if len(arguments) < 3 or not environ.get(NETWORK):
        raise ValueError(f"usage: {NETWORK}=DIRECTORY novakube-dhcpbridge add|old|del MAC ADDRESS")
    action, client, address = arguments[:3]
    if not _ADDRESS.issuperset(address):
        raise ValueError(f"{address!r} is no address")
    # For IPv6 the argument is a DUID; the MAC is in the environment where it is known.
    mac = environ.get("DNSMASQ_MAC", "") if ":" in address else client
    network = environ[NETWORK]
    if action == "del":
        _remove(f"{network}/{HELD}/{address}")
    elif action == "add" or not os.path.exists(f"{network}/{HELD}/{address}"):
        name = environ.get("DNSMASQ_SUPPLIED_HOSTNAME", "")
        _record(f"{network}/{HELD}", address, record_text(mac, int(time.time()), name))
    _tell(network, f"{action} {os.path.basename(network)} {address} {mac or '-'}\n")
    return 0


def record_text(mac: str, started: int, hostname: str = "") -> str:
    """A lease as its file holds it.

    Args:
        mac: of the client; empty when it is not known.
        started: seconds since the epoch.
        hostname: what the guest calls itself: any text, from an untrusted hand.
    """
    name = "".join(letter for letter in hostname if letter.isprintable())[:NAME_MAX]
    return f"mac {mac}\nstarted {started}\nhostname {name}\n"


def _record(folder: str, address: str, text: str) -> None:
    part = f"{folder}/.{address}.part"
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return  # the Network is being removed from the node
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
    os.rename(part, f"{folder}/{address}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _tell(network: str, line: str) -> None:
    state = os.path.dirname(os.path.dirname(network))
    try:
        handle = os.open(f"{state}/{EVENTS}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # no agent: the next one reads the records
    try:
        os.write(handle, line.encode())
    except (BlockingIOError, BrokenPipeError):
        return  # too busy to listen, or it just ended: it reads the records later
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
