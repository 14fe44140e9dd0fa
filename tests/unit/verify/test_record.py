"""Which cases of a lane run: shards together run each once, and what passed is left out."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.record import FLUSH_AFTER, Recorder, chosen, still_counts

IDS = [f"t::{number}" for number in range(7)]


def test_shards_share_the_cases() -> None:
    shards = [chosen(IDS, {}, f"{number}/3") for number in (1, 2, 3)]
    assert sorted(node for shard in shards for node in shard) == IDS


def test_what_passed_is_left_out_and_what_failed_is_not() -> None:
    assert chosen(IDS, {IDS[0]: 1, IDS[1]: 0}, None) == set(IDS[1:])


def test_three_passes_in_a_row() -> None:
    assert chosen(IDS, {IDS[0]: 3, IDS[1]: 2}, None, 3) == set(IDS[1:])


def test_what_ran_counts_while_the_product_is_the_same() -> None:
    assert still_counts("a" * 40, "a" * 40)
    assert not still_counts("HEAD+dirty", "HEAD")
    assert not still_counts("0" * 40, "HEAD")  # no such commit


@pytest.mark.parametrize("shard", ["0/3", "4/3"])
def test_a_shard_that_is_none(shard: str) -> None:
    with pytest.raises(pytest.UsageError, match="1 <= i <= n"):
        chosen(IDS, {}, shard)


def _passed(recorder: Recorder, node: str) -> None:
    recorder.pytest_runtest_logreport(
        pytest.TestReport(node, ("t", 1, node), {}, "passed", None, "call")
    )
    recorder.pytest_runtest_logfinish()


def test_a_tree_that_a_test_touches_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = itertools.chain(["a" * 40] * 2, itertools.repeat("a" * 40 + "+dirty"))
    monkeypatch.setattr("tests.record.commit", lambda: next(heads))
    recorder = Recorder(tmp_path / "x.json", resumes=False)
    ids = [f"t::{number}" for number in range(FLUSH_AFTER * 3)]
    for node in ids:
        _passed(recorder, node)
    record = json.loads((tmp_path / "x.json").read_text())
    assert set(record["cases"]) == set(ids)
    assert record["commit"].endswith("+dirty")


def test_shards_in_one_clone_share_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.record.commit", lambda: "a" * 40)
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"commit": "b" * 40, "seconds": 1, "cases": {"old": "passed"}}))
    shards = [Recorder(path, resumes=True)]
    for number in range(FLUSH_AFTER):
        _passed(shards[0], f"t::{number}")
    shards.append(Recorder(path, resumes=True))
    for number in range(FLUSH_AFTER):
        for shard in range(2):
            _passed(shards[shard], f"t::{shard}-{number}")
    assert len(json.loads(path.read_text())["cases"]) == FLUSH_AFTER * 3
