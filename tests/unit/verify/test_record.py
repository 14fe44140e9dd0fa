"""Which cases of a lane run: shards together run each once, and what passed is left out."""

from __future__ import annotations

import pytest

from tests.record import chosen

IDS = [f"t::{number}" for number in range(7)]


def test_shards_share_the_cases() -> None:
    shards = [chosen(IDS, {}, f"{number}/3") for number in (1, 2, 3)]
    assert sorted(node for shard in shards for node in shard) == IDS


def test_what_passed_is_left_out_and_what_failed_is_not() -> None:
    recorded = {IDS[0]: "passed", IDS[1]: "failed"}
    assert chosen(IDS, recorded, None) == set(IDS[1:])


@pytest.mark.parametrize("shard", ["0/3", "4/3"])
def test_a_shard_that_is_none(shard: str) -> None:
    with pytest.raises(pytest.UsageError, match="1 <= i <= n"):
        chosen(IDS, {}, shard)
