"""The chart as helm renders it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from novakube_local import binaries

CHART = Path(__file__).parents[3] / "charts" / "novakube"
Objects = list[dict[str, Any]]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(binaries.require("helm")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def template(
    *settings: str, namespace: str = "novakube-system"
) -> subprocess.CompletedProcess[str]:
    pairs = [word for setting in settings for word in ("--set", setting)]
    return helm(
        "template", "novakube", str(CHART), "-n", namespace, "--kube-version", "1.34.0", *pairs
    )


def rendered(*settings: str) -> Objects:
    done = template(*settings)
    assert done.returncode == 0, done.stderr
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]


def named(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name}: {len(found)} found"
    return found[0]


@pytest.fixture(scope="session")
def default() -> Objects:
    return rendered()
