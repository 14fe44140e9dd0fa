#!/usr/bin/env python3
"""make fresh: the README's commands on a bare Debian 12, as on a newcomer's machine.

Makes a minimal root (mmdebstrap's minbase with git and make), enters it in mount and process
namespaces of its own, clones HEAD there, and runs `make up`, every line of the README's block
of use, `make up` again, and the README's last block, with an empty home and no caches. Of this
machine it gets the network and the way to the package registries: resolver, certificate
authorities, and the proxy settings of apt, pip and Go. The outcome is written into
tests/records/fresh.json.

KEEP=1 keeps the root; a run that finds one goes on in it (for debugging) and writes no record.
FRESH_ROOT names the folder, on a file system with 15 GiB free (default: .local/fresh).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.readme import END, FIRST, USE, Shell, block

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "records" / "fresh.json"
SUITE = "bookworm"
WHAT_A_NEWCOMER_HAS = "git,make,ca-certificates"
CLONE = Path("/root/novakube")
"""Where the clone lies inside."""
FIRST_UP_S = 3600.0
LINE_S = 900.0
SYSTEM_S = 900.0
SETTINGS = re.compile(
    r"(https?_proxy|no_proxy|PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)"
    r"|GO(PROXY|NOPROXY|NOSUMDB|SUMDB|PRIVATE|INSECURE)|SSL_CERT_(FILE|DIR))",
    re.IGNORECASE,
)
"""Environment that says how to reach package registries; nothing else is passed on."""
MACHINE_FILES = ("etc/resolv.conf", "etc/pip.conf", "etc/hosts")
MACHINE_PATTERNS = (
    ("etc/apt/apt.conf.d", "*proxy*"),
    ("etc/apt/auth.conf.d", "*.conf"),
    ("usr/local/share/ca-certificates", "*.crt"),
)
ENTER = """set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p run/old run/lock
pivot_root . run/old
umount -l /run/old
: >/run/entered
exec /bin/bash -c 'while :; do sleep 3600 & wait $!; done'
"""
"""The first process inside. The old root goes: a chroot would be left by the first nsenter."""
ENTER_S = 20.0


def run(*command: str, deadline_s: float = SYSTEM_S) -> str:
    """A command's output; its own words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    if done.returncode != 0:
        sys.exit(f"fresh: {' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def make_system(system: Path) -> None:
    """The bare system, with this machine's way to the registries."""
    system.parent.mkdir(parents=True, exist_ok=True)
    unfinished = system.with_name(system.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    include = f"--include={WHAT_A_NEWCOMER_HAS}"
    run("mmdebstrap", "--quiet", "--variant=minbase", include, SUITE, str(unfinished))
    for name in MACHINE_FILES:
        if Path("/", name).is_file():
            (unfinished / name).unlink(missing_ok=True)
            shutil.copy(Path("/", name), unfinished / name)
    for folder, pattern in MACHINE_PATTERNS:
        (unfinished / folder).mkdir(parents=True, exist_ok=True)
        for path in Path("/", folder).glob(pattern):
            shutil.copy(path, unfinished / folder)
    run("chroot", str(unfinished), "update-ca-certificates")
    unfinished.rename(system)


@contextmanager
def entered(system: Path) -> Iterator[list[str]]:
    """The command that leads into the system, whose processes end with the block."""
    started = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
         "bash", "-c", ENTER, "enter", str(system)],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        give_up_at = time.monotonic() + ENTER_S
        while True:
            first = children.read_text().split() if started.poll() is None else []
            if first and Path(f"/proc/{first[0]}/root/run/entered").exists():
                break
            if started.poll() is not None or time.monotonic() > give_up_at:
                sys.exit(f"fresh: the system in {system} cannot be entered")
            time.sleep(0.05)
        yield ["nsenter", f"--target={first[0]}", "--mount", "--pid", "--wd=/"]
    finally:
        started.kill()  # its child, the first process inside, dies with it, and all there
        started.wait()


class Lane:
    """One run: its cases, how they ended, and the seconds each took."""

    def __init__(self) -> None:
        self.cases: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def case(self, name: str, act: Callable[[], object]) -> bool:
        """Runs one case; a failure is printed and remembered."""
        print(f"fresh: {name} ...", flush=True)
        began = time.monotonic()
        try:
            act()
            self.cases[name] = "passed"
        except AssertionError as why:
            self.cases[name] = "failed"
            print(why, flush=True)
        self.seconds[name] = round(time.monotonic() - began, 1)
        print(f"fresh: {name}: {self.cases[name]} in {self.seconds[name]} s", flush=True)
        return self.cases[name] == "passed"


def steps(shell: Shell) -> Iterator[tuple[str, Callable[[], object]]]:
    """Cases in the order of the README; ids are its lines."""
    assert block(FIRST) == ["make up"]
    yield "first make up", lambda: print(shell.run("make up", FIRST_UP_S))
    for line in block(USE):
        yield line, lambda line=line: shell.use(line)
    yield "make up again", lambda: print(shell.run("make up", LINE_S))
    for line in block(END):
        yield line, lambda line=line: shell.run(line, LINE_S)


def clone(system: Path) -> str:
    """HEAD of this repository inside the system; returns its commit."""
    commit = run("git", "-C", str(ROOT), "rev-parse", "HEAD").strip()
    inside = system / CLONE.relative_to("/")
    if not inside.exists():
        run("git", "clone", "--quiet", "--no-local", str(ROOT), str(inside))
    run("git", "-C", str(inside), "fetch", "--quiet", str(ROOT), "HEAD")
    run("git", "-C", str(inside), "reset", "--quiet", "--hard", commit)
    return commit


def environment() -> dict[str, str]:
    """What a login shell of root has, and the way to the registries."""
    settings = {name: text for name, text in os.environ.items() if SETTINGS.fullmatch(name)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"HOME": "/root", "USER": "root", "TERM": "dumb", "PATH": path, **settings}


def main() -> None:
    """Runs the lane; exit code 1 when a case failed."""
    if os.geteuid() != 0:
        sys.exit("fresh: making a root and its namespaces needs root")
    if shutil.which("mmdebstrap") is None:
        sys.exit("fresh: not on PATH: mmdebstrap; apt-get install mmdebstrap")
    system = Path(os.environ.get("FRESH_ROOT") or ROOT / ".local" / "fresh").resolve()
    keep, resumed = os.environ.get("KEEP") == "1", system.exists()
    if resumed:
        print(f"fresh: goes on in {system}; no record will be written", flush=True)
    else:
        make_system(system)
    commit = clone(system)
    began = time.monotonic()
    lane = Lane()
    with entered(system) as enter:
        for name, act in steps(Shell(CLONE, enter, environment())):
            if not lane.case(name, act):
                break
        if "failed" in lane.cases.values():
            with suppress(AssertionError):  # the failure is told already
                Shell(CLONE, enter, environment()).run("make down", LINE_S)
    record = {
        "commit": commit,
        "seconds": round(time.monotonic() - began, 1),
        "cases": lane.cases,
        "seconds_by_case": lane.seconds,
    }
    if not resumed:
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    if not keep:
        shutil.rmtree(system)
    if "failed" in lane.cases.values():
        sys.exit(1)


if __name__ == "__main__":
    main()
