"""The disk that a trial brings, and its server."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from novakube_operator.smoke import disk


def test_it_is_a_boot_sector_that_ends_with_its_mark() -> None:
    content = disk.boot_disk()
    assert len(content) == disk.SIZE
    assert content[disk.SECTOR - 2 : disk.SECTOR] == b"\x55\xaa"
    assert disk.LINE.encode() in content[: disk.SECTOR]


def test_it_is_served_at_its_path_alone() -> None:
    with disk.served("127.0.0.1") as url:
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == disk.boot_disk()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}x")
