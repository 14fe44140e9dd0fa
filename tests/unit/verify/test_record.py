"""Which cases of a lane run: shards together run each once, and what passed is left out."""

from __future__ import annotations

import pytest

from tests.record import chosen, still_counts

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
