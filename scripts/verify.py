#!/usr/bin/env python3
"""make verify: fails when the repository promises what nothing checks.

Reads docs/guarantees.md, the records of test lanes, the bench results and the generated
files; runs no test. With ``--ran FILE`` the record of the run that just ended counts as the
lane ``test``; without it, ids of that lane need only exist.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "tests" / "records"
ROW = re.compile(
    r"^\|(?P<sentence>[^|]+)\|(?P<proof>[^|]+)\|(?P<figure>[^|]*)\|(?P<commit>[^|]*)\|$"
)
LANE = re.compile(r"^(test|fresh|bench|crash|reach|kubelet|tempest|soak|sabotage):(.+)$")


def rows() -> list[tuple[str, list[str]]]:
    """Sentence and proofs of each guarantee."""
    found = []
    for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines():
        match = ROW.match(line.strip())
        if match is None or set(match["sentence"].strip()) <= {"-", " ", ":"}:
            continue
        proofs = re.findall(r"`([^`]+)`", match["proof"])
        if match["sentence"].strip() != "promise":
            found.append((match["sentence"].strip(), proofs))
    return found


def collected() -> set[str]:
    """Ids pytest collects now, without parameters too."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        sys.exit(f"verify: tests cannot be collected:\n{run.stdout[-3000:]}{run.stderr[-2000:]}")
    ids = {line.strip() for line in run.stdout.splitlines() if "::" in line}
    return ids | {node.split("[")[0] for node in ids}


def record_of(path: Path, problems: list[str]) -> dict[str, str]:
    """Cases of a record; complains of failures, skips and foreign commits."""
    if not path.exists():
        problems.append(f"{path.relative_to(ROOT)}: no record; run its lane")
        return {}
    record = json.loads(path.read_text())
    commit = str(record["commit"]).removesuffix("+dirty")
    ancestor = subprocess.run(
        ["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=ROOT, check=False
    )
    if ancestor.returncode != 0:
        problems.append(f"{path.name}: its commit {commit[:12]} is no ancestor of HEAD")
    cases: dict[str, str] = record["cases"]
    bad = [node for node, what in cases.items() if what != "passed"]
    known = unavailable()
    problems += [f"{path.name}: {node} {cases[node]}" for node in bad if node not in known]
    return cases


def unavailable() -> set[str]:
    """Ids listed in tests/unavailable.txt."""
    path = ROOT / "tests" / "unavailable.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    ids = {line.split("#")[0].strip() for line in lines} - {""}
    if len(ids) > 5:
        sys.exit(f"verify: {len(ids)} ids in tests/unavailable.txt, 5 are allowed")
    return ids


def passed(cases: dict[str, str], node: str) -> bool:
    """Whether the id, or every parameter of it, passed."""
    hits = [what for case, what in cases.items() if case == node or case.startswith(node + "[")]
    return bool(hits) and all(what == "passed" for what in hits)


def bench_keys() -> set[str]:
    """Keys of every figure under benchmarks/results."""
    keys: set[str] = set()
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        keys |= set(json.loads(path.read_text()).get("figures", {}))
    return keys


def check_rows(ran: Path | None, problems: list[str]) -> int:
    """Each guarantee against its proofs; the number of rows."""
    ids, lanes = collected(), {}
    if ran is not None:
        lanes["test"] = record_of(ran, problems)
    table = rows()
    for sentence, proofs in table:
        if not proofs:
            problems.append(f"guarantee without a proof: {sentence}")
        for proof in proofs:
            match = LANE.match(proof)
            lane, node = (match[1], match[2]) if match else ("test", proof)
            if lane == "bench":
                if node not in bench_keys():
                    problems.append(f"{sentence}: no figure {node} under benchmarks/results")
                continue
            if lane == "test":
                if node not in ids:
                    problems.append(f"{sentence}: no such test: {node}")
                elif ran is not None and not passed(lanes["test"], node):
                    problems.append(f"{sentence}: did not run and pass: {node}")
                continue
            if lane not in lanes:
                lanes[lane] = record_of(RECORDS / f"{lane}.json", problems)
            if not passed(lanes[lane], node):
                problems.append(f"{sentence}: {lane} has not passed {node}")
    return len(table)


def check_generated(problems: list[str]) -> None:
    """Generated files against their sources."""
    for command in (
        ["novakube_crds", "generate", "--check"],
        ["benchmarks.table", "--check"],
    ):
        run = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            problems.append(f"{' '.join(command)}: {(run.stdout + run.stderr).strip()[-2000:]}")


def check_not_yet(problems: list[str]) -> None:
    """NotSupportedYet is answered only for what docs/not-yet.md names."""
    named = set(re.findall(r"`([^`]+)`", (ROOT / "docs" / "not-yet.md").read_text()))
    pattern = re.compile(r"not_supported_yet\(\s*\"([^\"]+)\"")
    for path in (ROOT / "operator").rglob("*.py"):
        for what in pattern.findall(path.read_text()):
            if what not in named:
                problems.append(f"{path.relative_to(ROOT)}: {what} is not in docs/not-yet.md")


def main() -> None:
    """Runs every check; prints each problem; exits 1 when there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ran", type=Path, help="record of the run that just ended")
    ran = parser.parse_args().ran
    problems: list[str] = []
    count = check_rows(ran.resolve() if ran else None, problems)
    check_generated(problems)
    check_not_yet(problems)
    for problem in problems:
        print(f"verify: {problem}")
    if problems:
        sys.exit(1)
    print(f"verify: {count} guarantees hold their proofs")


if __name__ == "__main__":
    main()
