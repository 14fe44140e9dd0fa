"""What container images are made of, and what the agent's entry point leaves it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from novakube_local.images import COMPONENTS, pip_settings, reference, version

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "images"
LOCK = (ROOT / "requirements.lock").read_text()


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, IMAGES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages(component: str) -> set[str]:
    return set((IMAGES / component / "packages.txt").read_text().split())


def test_an_entry_comes_with_all_its_hashes() -> None:
    chosen = script("locked").select(["psycopg-binary", "idna"], LOCK)
    lines = chosen.splitlines()
    assert [line.split("==")[0] for line in lines if "==" in line] == ["psycopg-binary", "idna"]
    expected = sum(
        block.count("--hash=")
        for block in re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)
        if block.startswith(("psycopg-binary==", "idna=="))
    )
    assert chosen.count("--hash=") == expected > 2
    assert not chosen.rstrip().endswith("\\")


def test_a_package_that_is_not_locked_ends_the_build(tmp_path: Path) -> None:
    names = tmp_path / "packages.txt"
    names.write_text("nova\n")
    done = subprocess.run(
        [sys.executable, str(IMAGES / "locked.py"), str(names), str(ROOT / "requirements.lock")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "'nova' is not in" in done.stderr


def test_lists_are_what_the_project_asks_for() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.image_packages", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("component", "absent"),
    [
        ("agent", {"sqlalchemy", "alembic", "psycopg", "psycopg-binary", "pymysql", "kopf"}),
        ("api", {"libvirt-python", "sqlalchemy", "psycopg", "pyroute2", "kopf"}),
        ("operator", {"libvirt-python", "pyroute2", "fastapi", "uvicorn"}),
    ],
)
def test_an_image_lacks_what_its_process_must_not_do(component: str, absent: set[str]) -> None:
    assert packages(component)
    assert not packages(component) & absent
    assert not packages(component) & {"pytest", "ruff", "mypy", "hatchling"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_last_stage_has_no_compiler_and_says_what_it_is(component: str) -> None:
    text = (IMAGES / component / "Containerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    assert not re.search(r"gcc|-dev\b|python3-venv|pip", last)
    for label in ("title", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in last
    assert ("USER 65532:65532" in last) == (component != "agent")
    assert 'ENTRYPOINT ["tini", "--",' in last


def test_capabilities_of_the_agent_each_have_their_reason() -> None:
    start = (IMAGES / "agent" / "start.sh").read_text()
    kept = re.search(r"^kept=(.*)$", start, flags=re.MULTILINE)
    assert kept is not None
    documented = re.findall(
        r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "security.md").read_text(), flags=re.MULTILINE
    )
    assert [name.upper() for name in kept[1].split(",")] == documented


def test_the_chart_asks_for_the_images_that_are_built() -> None:
    chart = (ROOT / "charts" / "novakube" / "Chart.yaml").read_text()
    assert f'appVersion: "{version()}"' in chart
    assert reference("agent") == f"docker.io/novakube/agent:{version()}"
    values = (ROOT / "charts" / "novakube" / "values.yaml").read_text()
    assert "repository: docker.io/novakube\n" in values


def test_only_the_way_to_an_index_reaches_a_build() -> None:
    told = (
        "global.index-url='https://mirror.example/simple'\n"
        "global.cert='/etc/ssl/ca.crt'\n"
        ":env:.default-timeout='180'\n"
        ":env:.find-links='/opt/wheels'\n"
        "install.user='true'\n"
    )
    assert pip_settings(told) == (
        "[global]\nindex-url = https://mirror.example/simple\ntimeout = 180\n"
    )
