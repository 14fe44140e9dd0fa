#!/usr/bin/env python3
"""make verify: fails when the repository promises what nothing checks.

Reads docs/guarantees.md, the records of test lanes, the bench results and the generated
files; runs no test. With ``--ran FILE`` the record of the run that just ended counts as the
lane ``test``; without it, ids of that lane need only exist.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
HEADER = ["promise", "proof", "figure", "commit"]
LANE = re.compile(
    r"^(test|fresh|bench|crash|reach|kubelet|tempest|soak|sabotage)(?:\*(\d+))?:(.+)$"
)
"""``crash*3:id``: it passed three times in a row."""
GENERATED = (
    ["novakube_crds", "generate", "--check"],
    ["benchmarks.table", "--check"],
    ["scripts.pictures", "--check"],
    ["scripts.image_packages", "--check"],
)
UNAVAILABLE_MOST = 5
NOT_YET = "NotSupportedYet"


class Row(NamedTuple):
    """One guarantee."""

    sentence: str
    proofs: list[str]
    commit: str


def collect(root: Path, folder: str = "tests") -> set[str]:
    """Ids that pytest collects now below a folder."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", folder],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        sys.exit(f"verify: tests cannot be collected:\n{run.stdout[-3000:]}{run.stderr[-2000:]}")
    return {line.strip() for line in run.stdout.splitlines() if "::" in line}


def passed(cases: dict[str, str], node: str) -> bool:
    """Whether the id, or every parameter of it, ran and passed."""
    hits = [what for case, what in cases.items() if case == node or case.startswith(node + "[")]
    return bool(hits) and all(what == "passed" for what in hits)


@dataclass
class Verification:
    """One repository, and what is wrong with it."""

    root: Path
    ids: set[str]
    ran: Path | None = None
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Reads the record of the run that just ended."""
        self._base = {node.split("[")[0] for node in self.ids}
        self._lanes: dict[str, dict[str, str]] = {}
        if self.ran is not None:
            self._lanes["test"] = self.record(self.ran)
            self._check_complete(self._lanes["test"])

    # -- the table -------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Every guarantee; a row of another shape is a problem, never passed over."""
        found = []
        lines = (self.root / "docs" / "guarantees.md").read_text().splitlines()
        for line in (line.strip() for line in lines if line.startswith("|")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells == HEADER or set("".join(cells)) <= set("-: "):
                continue
            if len(cells) != len(HEADER):
                self.problems.append(f"docs/guarantees.md: a row has {len(cells)} cells: {line}")
                continue
            found.append(Row(cells[0], re.findall(r"`([^`]+)`", cells[1]), cells[3].strip("`")))
        if not found:
            self.problems.append("docs/guarantees.md: no guarantee")
        return found

    def check_rows(self) -> int:
        """Each guarantee against its proofs; the number of rows."""
        table = self.rows()
        for row in table:
            if not row.proofs:
                self.problems.append(f"guarantee without a proof: {row.sentence}")
            if row.commit and not self.ancestor(row.commit):
                self.problems.append(f"{row.sentence}: commit {row.commit} is no ancestor of HEAD")
            for proof in row.proofs:
                why = self._lacking(proof)
                if why:
                    self.problems.append(f"{row.sentence}: {why}")
        return len(table)

    def _lacking(self, proof: str) -> str | None:
        """What a proof lacks, None when it holds."""
        match = LANE.match(proof)
        lane, times, node = (match[1], match[2], match[3]) if match else ("test", None, proof)
        if lane == "bench":
            return self._lacking_figure(node)
        if lane == "test":
            return self._lacking_test(node)
        if lane not in self._lanes:
            self._lanes[lane] = self.record(self.root / "tests" / "records" / f"{lane}.json")
            self._check_lane(lane)
        if not passed(self._lanes[lane], node):
            return f"{lane} has not passed {node}"
        return self._lacking_passes(lane, node, int(times)) if times else None

    def _lacking_passes(self, lane: str, node: str, times: int) -> str | None:
        content = json.loads((self.root / "tests" / "records" / f"{lane}.json").read_text())
        passes = content.get("passes", {})
        cases = [c for c in content["cases"] if c == node or c.startswith(node + "[")]
        fewest = min(passes.get(case, 0) for case in cases)
        return None if fewest >= times else f"{lane} passed {node} {fewest} times, not {times}"

    def _lacking_figure(self, key: str) -> str | None:
        figures = self.figures()
        if key not in figures:
            return f"no figure {key} in benchmarks/results"
        value, most = figures[key].get("value"), figures[key].get("most")
        least = figures[key].get("least")
        if most is None and least is None:
            return f"the figure {key} has no bound: it cannot be missed"
        if most is not None and value > most:
            return f"the figure {key} is {value:g}, above {most:g}"
        if least is not None and value < least:
            return f"the figure {key} is {value:g}, below {least:g}"
        return None

    def _lacking_test(self, node: str) -> str | None:
        if node not in self.ids and node not in self._base:
            return f"no such test: {node}"
        if self.ran is not None and not passed(self._lanes["test"], node):
            return f"did not run and pass: {node}"
        return None

    # -- records ---------------------------------------------------------------------------

    def record(self, path: Path) -> dict[str, str]:
        """Cases of a record; complains of failures, skips and foreign commits."""
        if not path.exists():
            self.problems.append(f"{path.name}: no record; run its lane")
            return {}
        content = json.loads(path.read_text())
        commit = str(content["commit"]).removesuffix("+dirty")
        if not self.ancestor(commit):
            self.problems.append(f"{path.name}: its commit {commit[:12]} is no ancestor of HEAD")
        cases: dict[str, str] = content["cases"]
        known = self.unavailable()
        for node, what in cases.items():
            if what != "passed" and node not in known:
                self.problems.append(f"{path.name}: {node} {what}")
        return cases

    def _check_lane(self, lane: str) -> None:
        """A lane of pytest has run the cases that there are now, and no other."""
        folder = f"tests/deep/{lane}"
        if self._lanes[lane] and (self.root / folder).is_dir():
            ids, ran = collect(self.root, folder), set(self._lanes[lane])
            if ids != ran:
                gone, new = len(ran - ids), len(ids - ran)
                text = f"{lane}.json: {new} cases did not run, {gone} are no longer there"
                self.problems.append(f"{text}; make deep TARGET={lane}")

    def _check_complete(self, cases: dict[str, str]) -> None:
        """A run of the test lane holds every case there is, and no other."""
        self.problems += [f"did not run: {node}" for node in sorted(self.ids - set(cases))]
        self.problems += [f"ran, but is no case: {node}" for node in sorted(set(cases) - self.ids)]

    def unavailable(self) -> set[str]:
        """Ids listed in tests/unavailable.txt."""
        path = self.root / "tests" / "unavailable.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        ids = {line.split("#")[0].strip() for line in lines} - {""}
        if len(ids) > UNAVAILABLE_MOST:
            text = f"tests/unavailable.txt: {len(ids)} ids, {UNAVAILABLE_MOST} are allowed"
            self.problems.append(text)
        return ids

    def figures(self) -> dict[str, dict[str, Any]]:
        """Every figure under benchmarks/results."""
        found: dict[str, dict[str, Any]] = {}
        for path in (self.root / "benchmarks" / "results").glob("*.json"):
            found |= json.loads(path.read_text()).get("figures", {})
        return found

    def ancestor(self, commit: str) -> bool:
        """Whether HEAD comes after the commit, or is it."""
        run = subprocess.run(
            ["git", "merge-base", "--is-ancestor", commit, "HEAD"],
            cwd=self.root,
            capture_output=True,
            check=False,
        )
        return run.returncode == 0

    # -- files against their sources -------------------------------------------------------

    def check_generated(self) -> None:
        """Generated files against what their sources generate."""
        for command in GENERATED:
            run = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=self.root,
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode != 0:
                said = (run.stdout + run.stderr).strip()[-2000:]
                self.problems.append(f"{' '.join(command)}: {said}")

    def check_not_yet(self) -> None:
        """NotSupportedYet is answered only for what docs/not-yet.md names."""
        named = set(re.findall(r"`([^`]+)`", (self.root / "docs" / "not-yet.md").read_text()))
        for folder in ("operator", "agents"):
            for path in sorted((self.root / folder).rglob("*.py")):
                where = path.relative_to(self.root)
                for line, why in not_yet(ast.parse(path.read_text()), named):
                    self.problems.append(f"{where}:{line}: {why}")


def not_yet(tree: ast.Module, named: set[str]) -> Iterator[tuple[int, str]]:
    """Lines of a module that answer NotSupportedYet for what has no name in the list."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "not_supported_yet":
            pattern = _pattern(node.args[0])
            if pattern is None or not any(re.fullmatch(pattern, name) for name in named):
                text = ast.unparse(node.args[0])
                yield node.lineno, f"{text} is {NOT_YET}, but not in docs/not-yet.md"
    for constant in _constants(tree):
        yield constant.lineno, f"answers {NOT_YET} past not_supported_yet(), which is checked"


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _pattern(argument: ast.expr) -> str | None:
    """What a text or an f-string matches; None for what only the running program knows."""
    if isinstance(argument, ast.Constant):
        return re.escape(str(argument.value))
    if isinstance(argument, ast.JoinedStr):
        parts = (
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
            for part in argument.values
        )
        return "".join(parts)
    return None


def _constants(tree: ast.AST) -> Iterator[ast.Constant]:
    """The word itself, but for its definition and the one function that may say it."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef) and child.name == "not_supported_yet":
            continue
        if isinstance(child, ast.Assign) and _name(child.targets[0]) == "NOT_SUPPORTED_YET":
            continue
        if isinstance(child, ast.Constant) and child.value == NOT_YET:
            yield child
        yield from _constants(child)


def main() -> None:
    """Runs every check; prints each problem; exits 1 when there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ran", type=Path, help="record of the run that just ended")
    ran: Path | None = parser.parse_args().ran
    verification = Verification(ROOT, collect(ROOT), ran.resolve() if ran else None)
    count = verification.check_rows()
    checks: tuple[Callable[[], None], ...] = (
        verification.check_generated,
        verification.check_not_yet,
    )
    for check in checks:
        check()
    for problem in verification.problems:
        print(f"verify: {problem}")
    if verification.problems:
        sys.exit(1)
    print(f"verify: {count} guarantees hold their proofs")


if __name__ == "__main__":
    main()
