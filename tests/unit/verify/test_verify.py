"""scripts/verify.py on small repositories: each way a promise can be without its check."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "verify.py"
IDS = {"tests/test_a.py::test_one", "tests/test_a.py::test_two[x]", "tests/test_a.py::test_two[y]"}
ALL_PASSED = dict.fromkeys(IDS, "passed")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("novakube_verify", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


verify = load()


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one commit and empty folders."""
    git(tmp_path, "init", "-q")
    for folder in ("docs", "tests/records", "benchmarks/results", "operator", "agents"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "docs" / "not-yet.md").write_text("`Router`, `spec.source.upload`\n")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    return tmp_path


def promise(root: Path, *rows: str) -> None:
    table = ["| promise | proof | figure | commit |", "|---|---|---|---|", *rows]
    (root / "docs" / "guarantees.md").write_text("# Guarantees\n\n" + "\n".join(table) + "\n")


def record(root: Path, cases: dict[str, str], commit: str | None = None, name: str = "x") -> Path:
    path = root / "tests" / "records" / f"{name}.json"
    path.write_text(
        json.dumps({"commit": commit or git(root, "rev-parse", "HEAD"), "cases": cases})
    )
    return path


def problems(root: Path, ran: Path | None = None) -> list[str]:
    verification = verify.Verification(root, IDS, ran)
    verification.check_rows()
    found: list[str] = verification.problems
    return found


@pytest.mark.parametrize(
    "proof",
    [
        "`tests/test_a.py::test_one`",
        "`test:tests/test_a.py::test_one`",
        "`tests/test_a.py::test_two`",
        "`tests/test_a.py::test_two[x]` and `tests/test_a.py::test_one`",
    ],
)
def test_proof_that_exists(root: Path, proof: str) -> None:
    promise(root, f"| it holds | {proof} | | |")
    assert problems(root) == []
    assert problems(root, record(root, ALL_PASSED)) == []


@pytest.mark.parametrize(
    ("row", "want"),
    [
        ("| it | | | |", "guarantee without a proof: it"),
        ("| it | see the tests | | |", "guarantee without a proof: it"),
        ("| it | `tests/a.py::gone` | | |", "it: no such test: tests/a.py::gone"),
        ("| it | `tests/test_a.py::test_two[z]` | | |", "no such test"),
        ("| it | `bench:boot` | | |", "it: no figure boot in benchmarks/results"),
        ("| it | `fresh:readme` | | |", "fresh.json: no record; run its lane"),
        ("| it | `tests/test_a.py::test_one` | |", "a row has 3 cells"),
        (
            "| it | `tests/test_a.py::test_one` | | 0123456 |",
            "it: commit 0123456 is no ancestor of HEAD",
        ),
    ],
)
def test_proof_that_lacks(root: Path, row: str, want: str) -> None:
    promise(root, row)
    assert any(want in problem for problem in problems(root)), problems(root)


def test_empty_table_is_a_problem(root: Path) -> None:
    promise(root)
    assert problems(root) == ["docs/guarantees.md: no guarantee"]


def test_commit_of_a_row_may_be_short(root: Path) -> None:
    promise(root, f"| it | `tests/test_a.py::test_one` | | `{git(root, 'rev-parse', '--short', 'HEAD')}` |")  # fmt: skip # noqa: E501
    assert problems(root) == []


def test_figure_of_a_bench(root: Path) -> None:
    promise(root, "| fast | `bench:boot` | 1.2 | |")
    result = root / "benchmarks" / "results" / "vm.json"
    result.write_text('{"figures": {"boot": {"value": 1, "most": 2}}}')
    assert problems(root) == []


def test_missed_figure_proves_nothing(root: Path) -> None:
    promise(root, "| fast | `bench:boot` | | |")
    result = root / "benchmarks" / "results" / "vm.json"
    result.write_text('{"figures": {"boot": {"value": 1.3, "most": 1.3}}}')
    assert problems(root) == []
    result.write_text('{"figures": {"boot": {"value": 1.31, "most": 1.3}}}')
    assert problems(root) == ["fast: the figure boot is 1.31, above 1.3"]
    result.write_text('{"figures": {"boot": {"value": 14.9, "least": 15}}}')
    assert problems(root) == ["fast: the figure boot is 14.9, below 15"]
    result.write_text('{"figures": {"boot": {"value": 1.3}}}')
    assert problems(root) == ["fast: the figure boot has no bound: it cannot be missed"]


def test_record_of_a_lane(root: Path) -> None:
    promise(root, "| fresh | `fresh:readme` | | |")
    record(root, {"readme": "passed"}, name="fresh")
    assert problems(root) == []
    record(root, {"other": "passed"}, name="fresh")
    assert problems(root) == ["fresh: fresh has not passed readme"]
    record(root, {"readme": "failed"}, name="fresh")
    assert problems(root) == ["fresh.json: readme failed", "fresh: fresh has not passed readme"]


@pytest.mark.parametrize(("passes", "want"), [(3, []), (2, ["it: fresh passed a 2 times, not 3"])])
def test_passes_in_a_row(root: Path, passes: int, want: list[str]) -> None:
    promise(root, "| it | `fresh*3:a` | | |")
    path = record(root, {"a": "passed"}, name="fresh")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"passes": {"a": passes}}))
    assert problems(root) == want


def test_record_of_a_foreign_commit(root: Path) -> None:
    promise(root, "| it | `tests/test_a.py::test_one` | | |")
    foreign = record(root, ALL_PASSED, "f" * 40)
    assert problems(root, foreign) == [f"x.json: its commit {'f' * 12} is no ancestor of HEAD"]
    dirty = record(root, ALL_PASSED, git(root, "rev-parse", "HEAD") + "+dirty")
    assert problems(root, dirty) == []


@pytest.mark.parametrize("what", ["failed", "skipped"])
def test_one_parameter_that_did_not_pass_spoils_the_proof(root: Path, what: str) -> None:
    promise(root, "| it | `tests/test_a.py::test_two` | | |")
    bad = "tests/test_a.py::test_two[y]"
    ran = record(root, {**ALL_PASSED, bad: what})
    assert problems(root, ran) == [
        f"x.json: {bad} {what}",
        "it: did not run and pass: tests/test_a.py::test_two",
    ]


def test_run_must_hold_every_case_and_no_other(root: Path) -> None:
    promise(root, "| it | `tests/test_a.py::test_one` | | |")
    cases = {"tests/test_a.py::test_one": "passed", "tests/test_a.py::test_old": "passed"}
    assert problems(root, record(root, cases)) == [
        "did not run: tests/test_a.py::test_two[x]",
        "did not run: tests/test_a.py::test_two[y]",
        "ran, but is no case: tests/test_a.py::test_old",
    ]


def test_unavailable_cases_are_excused_up_to_five(root: Path) -> None:
    promise(root, "| it | `tests/test_a.py::test_two` | | |")
    listed = root / "tests" / "unavailable.txt"
    listed.write_text("tests/test_a.py::test_one  # no vlan devices\n")
    ran = record(root, {**ALL_PASSED, "tests/test_a.py::test_one": "skipped"})
    assert problems(root, ran) == []
    listed.write_text("".join(f"id{number}\n" for number in range(6)))
    assert "tests/unavailable.txt: 6 ids, 5 are allowed" in problems(root, ran)


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ('not_supported_yet("Router")', None),
        ('verdict.not_supported_yet("Router")', None),
        ('not_supported_yet(f"spec.source.{field}")', None),
        ('NOT_SUPPORTED_YET = "NotSupportedYet"', None),
        ('def not_supported_yet(what):\n    return "NotSupportedYet"', None),
        ('not_supported_yet("Teleport")', "'Teleport' is NotSupportedYet"),
        ('not_supported_yet(f"spec.other.{field}")', "is NotSupportedYet, but not in"),
        ("not_supported_yet(name)", "name is NotSupportedYet, but not in"),
        ('finish(action, "NotSupportedYet")', "past not_supported_yet()"),
        ('def f():\n    return "NotSupportedYet"', "past not_supported_yet()"),
    ],
)
def test_not_yet(source: str, want: str | None) -> None:
    found = list(verify.not_yet(ast.parse(source), {"Router", "spec.source.upload"}))
    assert (want is None) == (found == [])
    if want is not None:
        assert want in found[0][1]


def test_not_yet_names_file_and_line(root: Path) -> None:
    (root / "operator" / "x.py").write_text('\nnot_supported_yet("Teleport")\n')
    verification = verify.Verification(root, IDS)
    verification.check_not_yet()
    (problem,) = verification.problems
    assert problem.startswith("operator/x.py:2: 'Teleport' is NotSupportedYet")


def test_collection_that_breaks_ends_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(SystemExit, match="nothing_of_that_name"):
        verify.collect(tmp_path)


def test_collected_ids(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_one(): pass\n")
    assert verify.collect(tmp_path) == {"tests/test_a.py::test_one"}


def lane(root: Path, cases: dict[str, str]) -> list[str]:
    """Problems of a promise that rests on the lane ``soak``, whose one case is collected."""
    folder = root / "tests" / "deep" / "soak"
    folder.mkdir(parents=True)
    (folder / "test_s.py").write_text("def test_one():\n    assert True\n")
    record(root, cases, name="soak")
    promise(root, "| it lasts | `soak:tests/deep/soak/test_s.py::test_one` | | |")
    return problems(root)


def test_a_lanes_record_holds_the_cases_that_there_are(root: Path) -> None:
    assert lane(root, {"tests/deep/soak/test_s.py::test_one": "passed"}) == []


def test_a_lanes_record_lacks_a_new_case(root: Path) -> None:
    (problem, *_) = lane(root, {"tests/deep/soak/test_s.py::test_old": "passed"})
    assert problem == (
        "soak.json: 1 cases did not run, 1 are no longer there; make deep TARGET=soak"
    )
