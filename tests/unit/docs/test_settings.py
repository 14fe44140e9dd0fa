"""Every setting that a process reads is in the operations page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
READERS = (
    "agents/novakube_agent/settings.py",
    "api/novakube_api/settings.py",
    "crds/novakube_kit/access.py",
    "operator/novakube_operator/settings.py",
)
NAME = re.compile(r"NOVAKUBE_[A-Z_]*[A-Z]")


@pytest.mark.parametrize("reader", READERS)
def test_every_setting_is_documented(reader: str) -> None:
    read = set(NAME.findall((ROOT / reader).read_text()))
    told = set(NAME.findall((ROOT / "docs" / "operations.md").read_text()))
    assert read
    assert read - told == set()
