"""Starts, finds and ends members: a supervisor in namespaces of its own, and its network."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from novakube_local.errors import LocalCloudError, log_tail
from novakube_local.layout import (
    API_SERVER_ADDRESS,
    BRIDGE,
    CLOUD,
    IMAGES_ADDRESS,
    MARK,
    PREFIX,
    Layout,
    State,
    node_address,
)

START_S = 10.0
STOP_S = 30.0
POLL_S = 0.05
COMMAND_S = 15
LINKS = ipaddress.IPv4Network("169.254.64.0/18")
"""Link-local addresses (RFC 3927) for the link into the cloud; one /30 of them per clone."""


def run(*argv: str, deadline_s: float = COMMAND_S) -> str:
    """A command's output.

    Raises:
        LocalCloudError: it failed; with its error text.
    """
    done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline_s, check=False)
    if done.returncode != 0:
        raise LocalCloudError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def alive(state: State, member: str) -> int | None:
    """The pid of a member's first process, if that very process still runs."""
    record = state.members.get(member)
    return record[0] if record and start_time(record[0]) == record[1] else None


def start(layout: Layout, state: State, member: str) -> int:
    """The member's pid; starts it when it does not run, and gives it its network."""
    pid = alive(state, member)
    if pid is None:
        pid = _spawn(layout, state, member)
    if member == CLOUD:
        _cloud_network(layout, state, pid)
    else:
        cloud = alive(state, CLOUD)
        if cloud is None:
            raise LocalCloudError("the cloud's first process is gone; run make down, make up")
        _node_network(cloud, pid, member)
    return pid


def _spawn(layout: Layout, state: State, member: str) -> int:
    layout.logs.mkdir(parents=True, exist_ok=True)
    log = layout.logs / f"{member}-supervisor.log"
    layout.status_file(member).unlink(missing_ok=True)
    command = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount",
               "--uts", "--net", "--propagation", "private"]  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "novakube_local.supervisor", member],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, MARK: str(layout.local), "PYTHONSAFEPATH": "1"},
            cwd="/",
            start_new_session=True,
        )
    give_up_at = time.monotonic() + START_S
    while not layout.status_file(member).exists():
        if process.poll() is not None or time.monotonic() > give_up_at:
            process.kill()
            raise LocalCloudError(f"{member} does not start\n{log_tail(log)}")
        time.sleep(POLL_S)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    pid = int(children[0])
    state.members[member] = [pid, start_time(pid) or 0]
    layout.save(state)
    run("nsenter", f"--target={pid}", "--uts", "hostname", member)
    return pid


# -- network -------------------------------------------------------------------------------


def choose_link_net(clone_id: str, used: Iterable[str]) -> str:
    """A /30 that overlaps no network in use, the same for a clone while that holds.

    Raises:
        LocalCloudError: all are in use.
    """
    taken = [ipaddress.IPv4Network(one, strict=False) for one in used]
    nets = list(LINKS.subnets(new_prefix=30))
    first = int(clone_id, 16) % len(nets)
    for net in nets[first:] + nets[:first]:
        if not any(net.overlaps(one) for one in taken):
            return str(net)
    raise LocalCloudError(f"every /30 of {LINKS} overlaps a route of this machine")


def used_networks() -> list[str]:
    """Destinations of the machine's routes, default ones apart."""
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    return [route["dst"] for route in routes if route["dst"] not in ("default", "0.0.0.0/0")]


def link_addresses(state: State) -> tuple[str, str]:
    """The machine's and the cloud's address on the link between them."""
    machine, cloud = ipaddress.IPv4Network(state.link_net).hosts()
    return str(machine), str(cloud)


def _inside(pid: int, *argv: str) -> str:
    return run("nsenter", f"--target={pid}", "--net", *argv)


def _has_link(pid: int, name: str) -> bool:
    links = json.loads(_inside(pid, "ip", "-json", "link", "show"))
    return any(link["ifname"] == name for link in links)


def _cloud_network(layout: Layout, state: State, pid: int) -> None:
    if not state.link_net:
        state.link_net = choose_link_net(layout.id, used_networks())
        layout.save(state)
    machine, cloud = link_addresses(state)
    _inside(pid, "ip", "link", "set", "lo", "up")
    if not _has_link(pid, BRIDGE):
        _inside(pid, "ip", "link", "add", BRIDGE, "type", "bridge")
    if not _has_link(pid, "uplink"):
        delete_link(layout.link)
        run("ip", "link", "add", layout.link, "type", "veth",
            "peer", "name", "uplink", "netns", str(pid))  # fmt: skip
    for address in (API_SERVER_ADDRESS, IMAGES_ADDRESS):
        _inside(pid, "ip", "address", "replace", f"{address}/{PREFIX}", "dev", BRIDGE)
    _inside(pid, "ip", "address", "replace", f"{cloud}/30", "dev", "uplink")
    for name in (BRIDGE, "uplink"):
        _inside(pid, "ip", "link", "set", name, "up")
    run("ip", "address", "replace", f"{machine}/30", "dev", layout.link)
    run("ip", "link", "set", layout.link, "up")


def _node_network(cloud: int, pid: int, node: str) -> None:
    _inside(pid, "ip", "link", "set", "lo", "up")
    if not _has_link(pid, "eth0"):
        _inside(cloud, "ip", "link", "add", node, "type", "veth",
                "peer", "name", "eth0", "netns", str(pid))  # fmt: skip
    _inside(cloud, "ip", "link", "set", node, "master", BRIDGE, "up")
    _inside(pid, "ip", "address", "replace", f"{node_address(node)}/{PREFIX}", "dev", "eth0")
    _inside(pid, "ip", "link", "set", "eth0", "up")


def delete_link(name: str) -> None:
    """Removes a link of the machine if it is there."""
    if Path(f"/sys/class/net/{name}").exists():
        with contextlib.suppress(LocalCloudError):  # its namespace's end may remove it first
            run("ip", "link", "delete", name)
    if Path(f"/sys/class/net/{name}").exists():
        raise LocalCloudError(f"the link {name} cannot be removed")


# -- end -----------------------------------------------------------------------------------


def stop(state: State, members: Iterable[str]) -> None:
    """SIGTERM to the first processes, SIGKILL after the deadline; the kernel ends the rest.

    Raises:
        LocalCloudError: one of them is still there.
    """
    found = {pid: start_time(pid) for one in members if (pid := alive(state, one))}
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        if not _left(found):
            return
    raise LocalCloudError(f"processes {_left(found)} do not end")


def _left(found: dict[int, int | None]) -> list[int]:
    """Those of the processes that are still there after the deadline."""
    give_up_at = time.monotonic() + STOP_S
    while True:
        left = [pid for pid, started in found.items() if started and start_time(pid) == started]
        if not left or time.monotonic() > give_up_at:
            return left
        time.sleep(POLL_S)


def marked(layout: Layout) -> list[int]:
    """Every process of this clone's cloud, found by the mark in its environment."""
    mark = f"{MARK}={layout.local}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return [pid for pid in found if start_time(pid) is not None]


def kill_marked(layout: Layout) -> None:
    """Ends what a killed up left behind.

    Raises:
        LocalCloudError: something is still there after the deadline.
    """
    give_up_at = time.monotonic() + STOP_S
    while left := marked(layout):
        # The mark goes with a dying process's memory; the process itself goes later.
        found = {pid: start_time(pid) for pid in left}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if _left(found) or time.monotonic() > give_up_at:
            raise LocalCloudError(f"processes {left} do not end")
