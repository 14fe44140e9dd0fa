"""What goes to a guest while its node's agent is replaced: a ping a second and a TCP stream."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.deadlines import STOP_S
from tests.deep.kubelet.release import Release
from tests.e2e.cloud import Json

STREAM = Path(__file__).with_name("stream.py")


def start(release: Release, namespace: str, *argv: str) -> subprocess.Popen[str]:
    """A program in a network namespace of the node."""
    enter = ["nsenter", f"--target={release.node.agent.supervisor()}", "--mount", "--net"]
    return subprocess.Popen(
        [*enter, "ip", "netns", "exec", namespace, *argv], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def of_guests(release: Release) -> set[str]:
    """What is on the node for guests; pods' network namespaces left out."""
    return {one for one in release.node.traces() if not one.startswith("netns cni-")}


@contextlib.contextmanager
def unbroken(release: Release, instance: Json) -> Iterator[None]:
    """Meanwhile the guest answers each ping and each byte, from the same namespace.

    Raises:
        AssertionError: at the end, with what was said.
    """
    traces = of_guests(release)
    (namespace,) = [one.split()[1] for one in traces if one.startswith("netns nk-")]
    address = instance["status"]["addresses"][0]["address"]
    stream = start(release, namespace, sys.executable, str(STREAM), address)
    ping = start(release, namespace, "busybox", "ping", address)
    try:
        assert stream.stdout is not None
        assert stream.stdout.readline() == "open\n"
        yield
    finally:
        subprocess.run(["kill", "-INT", str(ping.pid)], check=True, timeout=STOP_S)
        pings, _ = ping.communicate(timeout=STOP_S)
        bytes_, _ = stream.communicate(timeout=STOP_S)
    assert " 0% packet loss" in pings, pings
    assert bytes_ == "alive\n", bytes_
    assert of_guests(release) ^ traces == set()
