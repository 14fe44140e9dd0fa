"""What of a machine the local cloud could change, as text that compares line by line.

``python -m tests.machine_state.record > before.json``. Counters, times and what other programs
of the machine change by themselves are left out.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

FOLDERS = ("/run", "/var/lib", "/etc")
FOREIGN = re.compile(r"^/(var/lib/(apt|dpkg)/lists|run/(log|systemd|user|udev|lock/lvm)|etc/mtab)")
SYSCTLS = Path("/proc/sys")
MOVING = re.compile(
    r"(random/|file-nr|inode-nr|inode-state|dentry-state|aio-nr|nf_conntrack_count|ns_last_pid"
    r"|/nr_|lockdep|sched_domain|conf/|neigh/|gc_stamp|/fs/epoll|pty/nr|fs/quota/)"
)
OURS = re.compile(
    r"novakube|kube-apiserver|kube-controller|kube-scheduler|kube-proxy|kubelet|containerd|/pause"
    r"|\betcd\b|libvirtd|qemu-system|dnsmasq"
)
COMMAND_S = 20


def output(*argv: str) -> list[str]:
    """Lines of a command; a missing program or no rules are said as such."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except FileNotFoundError:
        return [f"{argv[0]} is not installed"]
    return done.stdout.splitlines() or [f"exit code {done.returncode}"]


def without_counters(lines: list[str]) -> list[str]:
    """Rules without packet counters, times and the dates of dumps."""
    plain = [re.sub(r"\[\d+:\d+\]|packets \d+ bytes \d+|-c \d+ \d+", "", line) for line in lines]
    return [line.rstrip() for line in plain if not line.startswith("#")]


def processes() -> list[str]:
    """Command lines of programs the cloud runs, whoever started them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
        if OURS.search(command):
            found.append(f"{folder.name} {command.strip()}")
    return sorted(found)


def namespaces() -> list[str]:
    """Namespaces any process is in; an ended one that its parent has not collected is in none."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found |= {str(link.readlink()) for link in (folder / "ns").iterdir()}
        except OSError:
            continue
    return sorted(found)


def links() -> list[str]:
    """Links by name, kind and address."""
    listed = json.loads("\n".join(output("ip", "-json", "-details", "address", "show")))
    return sorted(
        f"{link['ifname']} {link['link_type']} {link.get('master', '')} "
        + " ".join(sorted(one["local"] for one in link["addr_info"]))
        for link in listed
    )


def cgroups() -> list[str]:
    """Control groups that are the cloud's by name; others come and go by themselves."""
    found = Path("/sys/fs/cgroup").rglob("novakube-*")
    return sorted(str(path) for path in found if path.is_dir())


def sysctls() -> list[str]:
    """Settings of the kernel that do not move by themselves."""
    found = []
    for path in sorted(SYSCTLS.rglob("*")):
        if not path.is_file() or MOVING.search(str(path)):
            continue
        try:
            found.append(f"{path.relative_to(SYSCTLS)} = {path.read_text().strip()}")
        except (OSError, UnicodeDecodeError):
            continue
    return found


def files() -> list[str]:
    """Names, kinds and modes in folders of the system."""
    found = []
    for folder in FOLDERS:
        for path in sorted(Path(folder).rglob("*")):
            if FOREIGN.match(str(path)):
                continue
            try:
                found.append(f"{path} {path.lstat().st_mode:o}")
            except FileNotFoundError:
                continue
    return found


def record() -> dict[str, list[str]]:
    """Everything, by name of the view."""
    return {
        "processes": processes(),
        "mounts": sorted(
            re.sub(r"^\d+ \d+ ", "", line)
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ),
        "namespaces": namespaces(),
        "links": links(),
        "routes": output("ip", "route", "show", "table", "all"),
        "rules": output("ip", "rule", "show"),
        "iptables": without_counters(output("iptables-save")),
        "nft": without_counters(output("nft", "list", "ruleset")),
        "ipset": output("ipset", "save"),
        "cgroups": cgroups(),
        "sysctls": sysctls(),
        "files": files(),
    }


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """One line per difference, naming the view."""
    found = []
    for view, lines in before.items():
        old, new = set(lines), set(after[view])
        found += [f"{view}: - {line}" for line in sorted(old - new)]
        found += [f"{view}: + {line}" for line in sorted(new - old)]
    return found


if __name__ == "__main__":
    print(json.dumps(record(), indent=1))
