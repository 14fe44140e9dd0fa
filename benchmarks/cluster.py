"""The chart on a kubelet: from helm install to a running guest, memory of the pods at rest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.results import Figure, Result
from novakube_local import binaries, members
from novakube_local.chart import CHART, HELM_S
from novakube_local.cluster import ClusterUp
from novakube_local.down import down
from novakube_local.kubectl import run_kubectl
from novakube_local.layout import Layout
from novakube_local.services import SYSTEM

COMPONENTS = ("operator", "api", "agent")
EXAMPLE = binaries.ROOT / "examples" / "first-instance.yaml"
RUNNING_S = 300.0
REST_S = 60.0
POLL_S = 0.2
MIB = 1 << 20


def run(say: Callable[[str], None]) -> Result:
    """On a cluster made for it, as ``make cluster`` makes one; ends it."""
    layout = Layout()
    with layout.lock():
        down(layout)
        try:
            ClusterUp(layout, 1).run()
            return _result(*_measure(layout, say))
        finally:
            down(layout)


def _measure(layout: Layout, say: Callable[[str], None]) -> tuple[float, dict[str, dict[str, int]]]:
    """Seconds until the guest ran; memory of the components' processes at rest."""
    began = time.monotonic()
    _helm(layout, "install", "novakube", str(CHART), "--create-namespace")
    _kubectl(layout, "apply", "-f", str(EXAMPLE))
    while _state(layout) != "Running":
        if time.monotonic() - began > RUNNING_S:
            raise RuntimeError(f"no guest runs after {RUNNING_S:g} s: {_state(layout)}")
        time.sleep(POLL_S)
    running_s = time.monotonic() - began
    say(f"a guest runs after {running_s:.1f} s; at rest for {REST_S:g} s")
    time.sleep(REST_S)
    return running_s, {name: memory(layout, name) for name in COMPONENTS}


def _helm(layout: Layout, *argv: str) -> None:
    address = members.link_addresses(layout.load())[1]
    env = {**os.environ, "KUBECONFIG": str(layout.kubeconfig),
           "NO_PROXY": address, "no_proxy": address}  # fmt: skip
    helm = [str(binaries.require("helm")), "--namespace", SYSTEM, *argv]
    subprocess.run(helm, check=True, env=env, timeout=HELM_S, stdout=subprocess.DEVNULL)


def _kubectl(layout: Layout, *argv: str) -> str:
    return run_kubectl(binaries.require("kubectl"), layout.kubeconfig, argv)


def _state(layout: Layout) -> str:
    path = "jsonpath={.status.state}"
    return _kubectl(layout, "get", "instance", "web", "--namespace", "demo", "-o", path)


def _processes(layout: Layout, component: str) -> Iterator[Path]:
    """Those of the component's pods, in /proc."""
    program = f"/opt/novakube/bin/novakube-{component}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = layout.cgroup in (folder / "cgroup").read_text()
            if ours and program in (folder / "cmdline").read_bytes().split(b"\0")[1:2]:
                yield folder


def memory(layout: Layout, component: str) -> dict[str, int]:
    """Bytes resident, of them anonymous, and the proportional share (PSS)."""
    found = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    for folder in _processes(layout, component):
        for line in (folder / "smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] += int(value.split()[0]) * 1024
    if not found["Rss"]:
        raise RuntimeError(f"no process of {component} runs")
    return found


def _result(running_s: float, seen: dict[str, dict[str, int]]) -> Result:
    result = Result("cluster", {"nodes": 1, "driver": "libvirt", "rest_s": REST_S})
    figures = result.figures
    figures["cluster-install-to-running"] = Figure(
        round(running_s, 1), "s", "<= 120 s",
        "helm install and the README's Instance, images on the node", most=120,
    )  # fmt: skip
    for name, bytes_ in seen.items():
        asked = ("<= 100 MiB", 100) if name == "agent" else ("", None)
        figures[f"cluster-{name}-memory"] = Figure(
            round(bytes_["Pss"] / MIB, 1), "MiB", asked[0],
            f"proportional share (PSS); {bytes_['Rss'] / MIB:.1f} MiB resident, "
            f"{bytes_['Anonymous'] / MIB:.1f} of them its own data", most=asked[1],
        )  # fmt: skip
    total = sum(bytes_["Rss"] for bytes_ in seen.values()) / MIB
    figures["cluster-pods-memory"] = Figure(
        round(total, 1), "MiB", "<= 450 MiB", "resident, all three pods, one guest", most=450
    )
    return result
