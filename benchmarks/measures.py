"""What is read from outside: a process's memory and CPU in /proc, counters in /metrics."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TICKS = os.sysconf("SC_CLK_TCK")
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE", "APPLY"})
ROLLUPS = frozenset(
    {"networks/status", "subnets/status", "hypervisors/status", "hypervisorreports/status",
     "addressslices", "guests/leases"}
)  # fmt: skip
"""One write per object and interval, however many creates: counted apart."""
MEMORY_KIB = 48.8
"""50 KB, what the operator may take for an object."""
QUOTA = "PATCH quotas/status"
GUEST_STATUS = "PATCH guests/status"
GUEST_LEASES = "PATCH guests/leases"
"""No resource: those writes of GUEST_STATUS that told of DHCP leases alone."""
LEASES = "leases"
EVENTS = "events"
REVIEWS = frozenset({"tokenreviews", "subjectaccessreviews", "serviceaccounts/token"})
"""Questions by POST: they write no object."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process at one moment."""

    rss_bytes: int
    cpu_s: float


def usage(pid: int) -> Usage:
    """Resident memory and CPU seconds (user and system) so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage(pages * os.sysconf("SC_PAGE_SIZE"), (int(fields[11]) + int(fields[12])) / _TICKS)


def parse(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Samples of a page in the Prometheus text format."""
    return [
        (name, dict(_LABEL.findall(labels)), float(value))
        for name, labels, value in _SAMPLE.findall(text)
    ]


def api_writes(text: str) -> Counter[str]:
    """The API server's count of mutating requests answered 2xx: ``VERB resource[/sub]``."""
    counted: Counter[str] = Counter()
    for name, labels, value in parse(text):
        if name != "apiserver_request_total" or labels["verb"] not in WRITES:
            continue
        if labels["code"].startswith("2"):
            what = f"{labels['verb']} {labels['resource']}/{labels['subresource']}"
            counted[what.rstrip("/")] += int(value)
    return counted


def leases_apart(counted: Counter[str], agent: str) -> Counter[str]:
    """A count in which Guests' statuses and their leases, a rollup, are two things.

    Args:
        counted: of the API server, which knows requests only.
        agent: metrics of the one agent there is, read after it.
    """
    told = sum(
        int(value) for name, _, value in parse(agent)
        if name == "novakube_guest_lease_writes_total"
    )  # fmt: skip
    return counted + Counter({GUEST_LEASES: told}) - Counter({GUEST_STATUS: told})


@dataclass(frozen=True, slots=True)
class Ledger:
    """Writes of a run by what the design counts together."""

    objects: dict[str, int]
    rollups: dict[str, int]
    events: int
    leases: int


def ledger(before: Counter[str], after: Counter[str], creates: int | None = None) -> Ledger:
    """What was written between two counts.

    Args:
        before: a count.
        after: a later one.
        creates: how many; a Quota is written ahead at most once for each, and more often only
            to tell its use, which is a rollup. None: all its writes are creates' own.
    """
    made = dict((after - before).items())
    told = 0 if creates is None else max(0, made.get(QUOTA, 0) - creates)
    target = {what: what.partition(" ")[2] for what in made}
    apart = ROLLUPS | REVIEWS | {EVENTS, LEASES}
    objects = Counter({what: n for what, n in made.items() if target[what] not in apart})
    rollups = Counter({what: n for what, n in made.items() if target[what] in ROLLUPS})
    return Ledger(
        objects=dict(objects - Counter({QUOTA: told})),
        rollups=dict(rollups + Counter({QUOTA: told})),
        events=sum(n for what, n in made.items() if target[what] == EVENTS),
        leases=sum(n for what, n in made.items() if target[what] == LEASES),
    )
