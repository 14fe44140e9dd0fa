"""What happens to a cloud besides kill -9, each while an operation is under way.

Every disturbance is a context: on entry the operation has just been ordered; inside, it lasts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from novakube_local import members
from novakube_local.layout import CLOUD, NODE_STATE
from tests.deadlines import EVENT_S, READY_S
from tests.deep.crash.cloud import ROOT, SOURCES, CrashCloud
from tests.waiting import wait_until_sync

GONE_S = 60.0
"""How long the API server is away."""
PAUSED_S = 60.0
"""How long a process stands still: longer than a leader's Lease and a node's heartbeat."""
TWO_S = 30.0
"""How long two operators believe that they lead."""
JUMP_S = 3600.0
"""By how much the wall clock jumps."""
Disturbance = Callable[[CrashCloud], AbstractContextManager[None]]


def _last(seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + seconds

    def over() -> bool:
        meanwhile()
        return time.monotonic() >= end

    wait_until_sync(over, "the disturbance's time", seconds + READY_S)


@contextmanager
def api_server_gone(cloud: CrashCloud) -> Iterator[None]:
    """Killed as often as its supervisor starts it."""

    def again() -> None:
        pid = cloud.pid("kube-apiserver")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    _last(GONE_S, again)
    cloud.until("the API server knows its rights", cloud.serves, READY_S)
    yield


def paused(victim: str) -> Disturbance:
    """SIGSTOP, and long after SIGCONT: what it does then was decided long ago."""

    @contextmanager
    def disturbance(cloud: CrashCloud) -> Iterator[None]:
        pid = cloud.until(f"{victim} runs", lambda: cloud.pid(victim), READY_S)
        os.kill(pid, signal.SIGSTOP)
        try:
            _last(PAUSED_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        yield

    return disturbance


@contextmanager
def paused_while_another_leads(cloud: CrashCloud) -> Iterator[None]:
    """The leader stands still, a second operator takes over, the first one wakes up."""
    pid = cloud.until("operator runs", lambda: cloud.pid("operator"), READY_S)
    os.kill(pid, signal.SIGSTOP)
    try:
        with second_operator(cloud, "novakube_operator.main"):
            _last(PAUSED_S)
            os.kill(pid, signal.SIGCONT)
            _last(EVENT_S)
    finally:
        # It ends by itself when it wakes up and sees that another leads.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    yield


@contextmanager
def two_leaders(cloud: CrashCloud) -> Iterator[None]:
    """A second operator that never looks at the Lease."""
    with second_operator(cloud, "tests.integration.operator.usurper"):
        _last(TWO_S)
    yield


@contextmanager
def second_operator(cloud: CrashCloud, module: str) -> Iterator[None]:
    """A process with the operator's settings, beside it in the cloud's namespaces."""
    pid = cloud.until("operator runs", lambda: cloud.pid("operator"), READY_S)
    settings = dict(
        item.split("=", 1) for item in Path(f"/proc/{pid}/environ").read_text().split("\0") if item
    )
    settings |= {"NOVAKUBE_HTTP": "127.0.0.1:8090", "NOVAKUBE_POD_UID": "second"}
    folders = [str(cloud.root / name) for name in SOURCES if name != "charts"]
    settings["PYTHONPATH"] = ":".join([*folders, str(ROOT)])
    first = members.alive(cloud.layout.load(), CLOUD)
    log = (cloud.layout.logs / "second-operator.log").open("ab")
    process = subprocess.Popen(
        ["nsenter", f"--target={first}", "--mount", "--net", "--pid", "--", sys.executable,
         "-m", module],
        env=settings, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        yield
        assert process.poll() is None, Path(log.name).read_text()[-3000:]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(EVENT_S)
        log.close()


def full(folder: str) -> Disturbance:
    """No room in a folder of the agent's state; what was written before stays."""
    over, real = f"/run/full-{folder}", f"{NODE_STATE}/{folder}"
    fill = (
        f"set -e; mkdir -p {over} {real}; mount -t tmpfs -o size=512k tmpfs {over}; "
        f"cp -a {real}/. {over}/; dd if=/dev/zero of={over}/.filler bs=4k || true; "
        f"mount --bind {over} {real}; echo full"
    )
    undo = (
        f"set -e; rm {over}/.filler; umount {real}; rm -rf {real}/*; cp -a {over}/. {real}/; "
        f"umount {over}; echo undone"
    )

    @contextmanager
    def disturbance(cloud: CrashCloud) -> Iterator[None]:
        assert cloud.inside("sh", "-c", fill).strip() == "full"
        try:
            _last(GONE_S)
        finally:
            assert cloud.inside("sh", "-c", undo).strip() == "undone"
        yield

    return disturbance


def clock_jumps(seconds: float) -> Disturbance:
    """The wall clock of operator and agent jumps, and later back."""

    @contextmanager
    def disturbance(cloud: CrashCloud) -> Iterator[None]:
        offset = cloud.points / "clock"
        offset.write_text(str(seconds))
        try:
            _last(TWO_S)
        finally:
            offset.unlink()
        yield

    return disturbance


DISTURBANCES: dict[str, Disturbance] = {
    "api-server-gone": api_server_gone,
    "agent-paused": paused("agent"),
    "operator-paused": paused("operator"),
    "operator-paused-while-another-leads": paused_while_another_leads,
    "libvirtd-paused": paused("libvirtd"),
    "two-leaders": two_leaders,
    "journal-full": full("journal"),
    "disks-full": full("guests"),
    "clock-forward": clock_jumps(JUMP_S),
    "clock-back": clock_jumps(-JUMP_S),
}
