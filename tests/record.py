"""pytest plugin: writes what ran into a record that `make verify` reads.

Loaded with ``-p tests.record --record FILE``. The record holds the commit, the ids of every
case, what passed, failed or was skipped, and the seconds. A run that skipped, xfailed or
reran anything not listed in ``tests/unavailable.txt`` ends with exit code 1: a missing
program is a failure.

``--resume`` leaves out what the record says passed, ``--times n`` what passed n times in a
row; ``--shard i/n`` runs every nth case from the ith on. Lanes that take hours are run so. What
is recorded counts as long as nothing that a lane runs has changed since (``SUBJECT``).
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
SUBJECT = (
    "agents", "api", "charts", "crds", "local", "operator", "requirements.lock",
    "tests/deadlines.py", "tests/deep", "tests/waiting.py",
)  # fmt: skip
"""What the recorded lanes run: the product, and the lanes themselves."""
FLUSH_AFTER = 20
"""Cases between two writes of the record."""
UNAVAILABLE = Path(__file__).with_name("unavailable.txt")


def unavailable_ids() -> set[str]:
    """Ids that this kernel cannot run, each line ``id  # the probe that fails``."""
    if not UNAVAILABLE.exists():
        return set()
    lines = UNAVAILABLE.read_text().splitlines()
    ids = {line.split("#")[0].strip() for line in lines}
    return ids - {""}


def commit() -> str:
    """HEAD, with ``+dirty`` when the tree, but for the records, differs from it."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/records"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return head + ("+dirty" if dirty else "")


def still_counts(recorded: str, now: str) -> bool:
    """Whether what passed at one commit would be run unchanged at another."""
    if recorded == now:
        return True
    if any(name.endswith("+dirty") for name in (recorded, now)):
        return False
    same = ["git", "diff", "--quiet", recorded, now, "--", *SUBJECT]
    return subprocess.run(same, cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode == 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", help="file to write the record of this run to (merged)")
    parser.addoption("--resume", action="store_true", help="leave out what is recorded as passed")
    parser.addoption("--times", type=int, default=1, help="passes in a row that are wanted")
    parser.addoption("--shard", help="i/n: every nth case from the ith (1..n) on")


def chosen(
    ids: list[str], passes: Mapping[str, int], shard: str | None, wanted: int = 1
) -> set[str]:
    """The ids to run.

    Args:
        ids: every case, in order.
        passes: how often in a row each passed.
        shard: ``i/n``, or None for all.
        wanted: so many passes in a row are enough.
    """
    first, count = (int(part) for part in (shard or "1/1").split("/"))
    if not 1 <= first <= count:
        raise pytest.UsageError(f"--shard {shard}: i/n with 1 <= i <= n is allowed")
    return {node for node in ids[first - 1 :: count] if passes.get(node, 0) < wanted}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    target, shard = config.getoption("--record"), config.getoption("--shard")
    resume = config.getoption("--resume")
    if not target or not (resume or shard):
        return
    path, passes = ROOT / target, {}
    if resume and path.exists():
        content = json.loads(path.read_text())
        passes = content.get("passes", {}) if still_counts(content["commit"], commit()) else {}
    ids = [item.nodeid for item in items]
    wanted = chosen(ids, passes, shard, config.getoption("--times"))
    print(f"\n{len(items)} cases, {len(wanted)} to run")
    items[:] = [item for item in items if item.nodeid in wanted]


class Recorder:
    """Collects outcomes by id."""

    def __init__(self, path: Path, *, resumes: bool) -> None:
        self.path = path
        self.resumes = resumes
        self.outcomes: dict[str, str] = {}
        self.skipped: set[str] = set()
        self.began = time.monotonic()
        self.counts = self._counts()  # asked once: a test may touch the tree

    def _counts(self) -> bool:
        """Whether what is recorded so far still counts."""
        old = json.loads(self.path.read_text()) if self.path.exists() else {}
        return "passes" in old and still_counts(old["commit"], commit())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        worst = self.outcomes.get(report.nodeid)
        if report.failed:
            self.outcomes[report.nodeid] = "failed"
        elif report.skipped and worst != "failed":
            self.outcomes[report.nodeid] = "skipped"
            self.skipped.add(report.nodeid)
        elif report.when == "call" and worst is None:
            self.outcomes[report.nodeid] = "passed"

    def pytest_runtest_logfinish(self) -> None:
        """What ran is kept, should this process be ended."""
        if len(self.outcomes) >= FLUSH_AFTER:
            self._write()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.resumes:
            session.exitstatus = pytest.ExitCode.OK  # all of it is recorded
        unexpected = sorted(self.skipped - unavailable_ids())
        if unexpected and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            for node in unexpected:
                print(f"\nskipped without a line in tests/unavailable.txt: {node}")
        self._write()

    def _write(self) -> None:
        record: dict[str, Any] = {"commit": "", "seconds": 0, "cases": {}, "passes": {}}
        if self.counts:
            record = json.loads(self.path.read_text())
        record["commit"], now_s = commit(), time.monotonic()
        record["seconds"] = round(record["seconds"] + now_s - self.began, 1)
        self.began = now_s
        record["cases"] = dict(sorted((record["cases"] | self.outcomes).items()))
        before = record["passes"]
        now = {
            node: before.get(node, 0) + 1 if what == "passed" else 0
            for node, what in self.outcomes.items()
        }
        record["passes"] = dict(sorted((before | now).items()))
        self.outcomes, self.counts = {}, True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--record")
    if target:
        recorder = Recorder(ROOT / target, resumes=config.getoption("--resume"))
        config.pluginmanager.register(recorder, "novakube-recorder")
