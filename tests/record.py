"""pytest plugin: writes what ran into a record that `make verify` reads.

Loaded with ``-p tests.record --record FILE``. The record holds the commit, the ids of every
case, what passed, failed or was skipped, and the seconds. A run that skipped, xfailed or
reran anything not listed in ``tests/unavailable.txt`` ends with exit code 1: a missing
program is a failure.

``--resume`` leaves out what the record of the same commit says passed; ``--shard i/n`` runs
every nth case from the ith on. Lanes that take hours are run so.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNAVAILABLE = Path(__file__).with_name("unavailable.txt")


def unavailable_ids() -> set[str]:
    """Ids that this kernel cannot run, each line ``id  # the probe that fails``."""
    if not UNAVAILABLE.exists():
        return set()
    lines = UNAVAILABLE.read_text().splitlines()
    ids = {line.split("#")[0].strip() for line in lines}
    return ids - {""}


def commit() -> str:
    """HEAD, with ``+dirty`` when the tree differs from it."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return head + ("+dirty" if dirty else "")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", help="file to write the record of this run to (merged)")
    parser.addoption("--resume", action="store_true", help="leave out what is recorded as passed")
    parser.addoption("--shard", help="i/n: every nth case from the ith (1..n) on")


def chosen(ids: list[str], recorded: Mapping[str, str], shard: str | None) -> set[str]:
    """The ids to run.

    Args:
        ids: every case, in order.
        recorded: outcomes of the same commit.
        shard: ``i/n``, or None for all.
    """
    first, count = (int(part) for part in (shard or "1/1").split("/"))
    if not 1 <= first <= count:
        raise pytest.UsageError(f"--shard {shard}: i/n with 1 <= i <= n is allowed")
    return {node for node in ids[first - 1 :: count] if recorded.get(node) != "passed"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    target, shard = config.getoption("--record"), config.getoption("--shard")
    resume = config.getoption("--resume")
    if not target or not (resume or shard):
        return
    path, recorded = ROOT / target, {}
    if resume and path.exists():
        content = json.loads(path.read_text())
        recorded = content["cases"] if content["commit"] == commit() else {}
    wanted = chosen([item.nodeid for item in items], recorded, shard)
    print(f"\n{len(items)} cases, {len(wanted)} to run")
    items[:] = [item for item in items if item.nodeid in wanted]


class Recorder:
    """Collects outcomes by id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, str] = {}
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        worst = self.outcomes.get(report.nodeid)
        if report.failed:
            self.outcomes[report.nodeid] = "failed"
        elif report.skipped and worst != "failed":
            self.outcomes[report.nodeid] = "skipped"
        elif report.when == "call" and worst is None:
            self.outcomes[report.nodeid] = "passed"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        skipped = {i for i, what in self.outcomes.items() if what == "skipped"}
        unexpected = sorted(skipped - unavailable_ids())
        if unexpected and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            for node in unexpected:
                print(f"\nskipped without a line in tests/unavailable.txt: {node}")
        self._write()

    def _write(self) -> None:
        record: dict[str, Any] = {"commit": commit(), "seconds": 0, "cases": {}}
        if self.path.exists():
            old = json.loads(self.path.read_text())
            if old["commit"] == record["commit"]:
                record = old
        record["seconds"] = round(record["seconds"] + time.monotonic() - self.began, 1)
        record["cases"].update(self.outcomes)
        record["cases"] = dict(sorted(record["cases"].items()))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--record")
    if target:
        config.pluginmanager.register(Recorder(ROOT / target), "novakube-recorder")
