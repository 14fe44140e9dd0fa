"""The release before this one: its chart and its images, made from its own sources."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from novakube_local.images import Image, Images, Source
from novakube_local.layout import Layout
from tests.deadlines import EVENT_S

ROOT = Path(__file__).resolve().parents[3]
LIST = ROOT / "tests" / "e2e" / "previous.txt"
SHOWN = 12
"""Digits of a commit in a tag."""


def commit() -> str:
    """The commit that is upgraded from."""
    (found,) = [line for line in LIST.read_text().splitlines() if not line.startswith("#")]
    return found.strip()


def sources(layout: Layout) -> Source:
    """Its files, beside its images; unpacked once."""
    of = commit()
    folder = layout.container_images / of[:SHOWN] / "source"
    if not folder.exists():
        archive = subprocess.run(
            ["git", "archive", of], cwd=ROOT, capture_output=True, check=True, timeout=EVENT_S
        )
        unpacked = folder.with_suffix(".new")
        unpacked.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(unpacked, filter="data")
        unpacked.rename(folder)
    return Source(folder, of[:SHOWN], of)


def images(layout: Layout) -> list[Image]:
    """Its images under a tag of their own; built once, some minutes."""
    return Images(layout, print, sources(layout)).build()
