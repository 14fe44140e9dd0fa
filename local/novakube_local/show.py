"""`novakube-local env|status|logs`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from novakube_local import binaries, members
from novakube_local.errors import LocalCloudError
from novakube_local.layout import Layout


def env(layout: Layout) -> str:
    """Shell text that points kubectl at the cloud.

    Raises:
        LocalCloudError: there is no cloud.
    """
    state = layout.load()
    if not layout.kubeconfig.exists() or not state.link_net:
        raise LocalCloudError("no cloud is up: make up")
    programs = [binaries.require(name) for name in ("kubectl", "helm")]
    folders = [*dict.fromkeys(str(program.parent) for program in programs)]
    folders.append(str(layout.root / "api" / "plugin"))
    address = members.link_addresses(state)[1]
    path = ":".join(shlex.quote(folder) for folder in folders)
    return (
        f"export KUBECONFIG={shlex.quote(str(layout.kubeconfig))}\n"
        f"export PATH={path}:$PATH\n"
        f'export NO_PROXY="{address}${{NO_PROXY:+,$NO_PROXY}}"\n'
        f'export no_proxy="{address}${{no_proxy:+,$no_proxy}}"'
    )


def host_pid(supervisor: int, inner: int) -> int | None:
    """The machine's pid of a process known by its pid inside its supervisor's namespace."""
    namespace = Path(f"/proc/{supervisor}/ns/pid").readlink()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns" / "pid").readlink() != namespace:
                continue
            lines = (folder / "status").read_text().splitlines()
        except OSError:
            continue
        pids = next(line.split()[1:] for line in lines if line.startswith("NSpid:"))
        if int(pids[-1]) == inner:
            return int(folder.name)
    return None


def processes(layout: Layout) -> Iterator[tuple[str, str, str, str]]:
    """Member, process, the machine's pid of it or ``-``, and how it is."""
    state = layout.load()
    for member in state.members:
        supervisor = members.alive(state, member)
        if supervisor is None:
            yield member, "supervisor", "-", "gone: make up starts it"
            continue
        yield member, "supervisor", str(supervisor), "running"
        for name, told in json.loads(layout.status_file(member).read_text()).items():
            pid = host_pid(supervisor, told["pid"]) if told["pid"] else None
            how = "running" if pid else "waiting"
            if told["missing"]:
                how = f"waits for {', '.join(told['missing'])}"
            if told["restarts"]:
                how += f", restarted {told['restarts']} times, last {told['last_exit']}"
            yield member, name, str(pid or "-"), how


def status(layout: Layout) -> str:
    """A table of processes, then nodes and instances as the API tells them."""
    rows = [("MEMBER", "PROCESS", "PID", "STATE"), *processes(layout)]
    if len(rows) == 1:
        return "no cloud is up"
    lines = [f"{a:8}{b:26}{c:>8}  {d}" for a, b, c, d in rows]
    command = [str(binaries.require("kubectl")), f"--kubeconfig={layout.kubeconfig}"]
    for what in ("hypervisors", "instances"):
        done = subprocess.run(
            [*command, "get", what, "--all-namespaces", "--request-timeout=5s"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        lines += ["", (done.stdout or done.stderr).rstrip()]
    return "\n".join(lines)


def logs(layout: Layout, name: str | None, lines: int, follow: bool) -> None:
    """Prints the end of a log and goes on, or lists the logs there are.

    Raises:
        LocalCloudError: no log of that name; lists those there are.
    """
    known = sorted(path.stem for path in layout.logs.glob("*.log"))
    if name is None:
        print("\n".join(known))
        return
    if name not in known:
        raise LocalCloudError(f"no log {name!r}; there are: {', '.join(known) or 'none'}")
    path = layout.logs / f"{name}.log"
    argv = ["tail", f"--lines={lines}", *(["--follow"] if follow else []), str(path)]
    os.execvp(argv[0], argv)  # noqa: S606 - tail takes over this process
