"""One result file: what was run, on what, every raw sample, and the figures made of them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with what it is compared to."""

    value: float
    unit: str
    target: str = ""
    """What the design asks for, as text."""
    note: str = ""
    most: float | None = None
    """Above it the figure proves no guarantee; None: it is told, not promised."""
    least: float | None = None
    """Below it the figure proves no guarantee."""


@dataclass(slots=True)
class Result:
    """A benchmark run."""

    benchmark: str
    settings: Mapping[str, Any]
    figures: dict[str, Figure] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)

    def write(self) -> Path:
        """Writes ``results/<benchmark>.json``; quick runs go beside the records, uncommitted."""
        folder = ROOT / ".local" / "bench" if os.environ.get("QUICK") else RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        body = {
            "benchmark": self.benchmark,
            "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **_BEGINNING,
            "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
            "machine": machine(),
            "settings": dict(self.settings),
            "figures": {key: asdict(figure) for key, figure in self.figures.items()},
            "samples": {key: [round(v, 5) for v in vs] for key, vs in self.samples.items()},
        }
        path.write_text(json.dumps(body, indent=1) + "\n")
        return path


def _git(*args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def _load() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


_BEGINNING = {
    "commit": _git("rev-parse", "HEAD"),
    "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    "loadAverageBefore": _load(),
}
"""Of what runs: the tree may change before the run ends."""


def machine() -> dict[str, Any]:
    """Facts that a reader needs to judge the figures."""
    meminfo = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    cpus = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": cpus[0] if cpus else platform.processor(),
        "cores": os.cpu_count(),
        "memoryMiB": int(meminfo) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "loadAverage": _load(),
        "niceness": os.nice(0),
    }


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of all do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def median(samples: Sequence[float]) -> float:
    """The middle sample."""
    return statistics.median(samples)
