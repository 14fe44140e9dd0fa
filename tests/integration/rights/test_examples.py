"""The examples are accepted by the API server, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.rights.conftest import API, Caller, Cloud

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def objects() -> list[tuple[str, Any]]:
    return [
        (f"{path.stem}-{obj['kind']}", obj)
        for path in EXAMPLES
        for obj in yaml.safe_load_all(path.read_text())
    ]


@pytest.fixture(scope="session")
def applied(cloud: Cloud) -> Cloud:
    for path in EXAMPLES:
        verb = "create" if "generateName" in path.read_text() else "apply"
        cloud.plane.kubectl("-n", "demo", verb, "-f", str(path))
    return cloud


def test_every_example_is_accepted_and_applied_again_without_a_change(applied: Cloud) -> None:
    for path in EXAMPLES:
        if "generateName" not in path.read_text():
            assert applied.plane.kubectl("diff", "-f", str(path)) == ""


@pytest.mark.parametrize(
    "obj",
    [obj for _, obj in objects() if obj["kind"] not in ("Namespace", "Flavor")],
    ids=[name for name, obj in objects() if obj["kind"] not in ("Namespace", "Flavor")],
)
def test_a_namespace_editor_needs_no_further_right(editor: Caller, obj: Any) -> None:
    kind = f"{obj['kind'].lower()}s"
    mine = {**obj, "metadata": {**obj["metadata"], "namespace": "tenant"}}
    editor.may("POST", f"{API}/namespaces/tenant/{kind}?dryRun=All", mine)
