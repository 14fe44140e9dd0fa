from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from novakube_crds.__main__ import differing, generated, main, write
from novakube_crds.base import ApiModel, Rule, immutable, rules, wire_name
from novakube_crds.kind import Column, Kind
from novakube_crds.manifest import manifest, object_schema
from novakube_crds.structural import NotStructural, structural, violations
from novakube_crds.v1alpha1.flavor import FlavorSpec
from novakube_crds.v1alpha1.guest import GuestSpec
from novakube_crds.v1alpha1.instance import InstanceStatus
from novakube_crds.v1alpha1.kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/crds/widgets.yaml"


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("memory_mib", "memoryMiB"),
        ("root_gib", "rootGiB"),
        ("user_id", "userID"),
        ("instance_uid", "instanceUID"),
        ("used_by_user", "usedByUser"),
        ("fixed_ips", "fixedIPs"),
        ("floating_ips", "floatingIPs"),
        ("enable_snat", "enableSNAT"),
        ("extra_dhcp_options", "extraDHCPOptions"),
        ("kernel_url", "kernelURL"),
        ("ipv6_ra_mode", "ipv6RAMode"),
        ("reserved_vcpus", "reservedVCPUs"),
        ("vcpus", "vcpus"),
        ("id", "id"),
        ("vm_state", "vmState"),
        ("s3_manifest", "s3Manifest"),
    ],
)
def test_wire_name(name: str, want: str) -> None:
    assert wire_name(name) == want


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_schemas_are_structural_and_bounded(kind: Kind) -> None:
    parts = object_schema(kind)["properties"]
    for part in ("spec", "status"):
        if part in parts:
            assert list(violations(parts[part], part)) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_columns_and_selectable_fields_exist(kind: Kind) -> None:
    for path in [*kind.selectable, *(column.path for column in kind.columns)]:
        schema = object_schema(kind)
        if path == ".metadata.creationTimestamp":
            continue
        for token in path.split("[", 1)[0].removeprefix(".").split("."):
            schema = schema["properties"][token]


def test_no_status_is_immutable() -> None:
    """A status is the operator's to change; a copied type must not bring its rules along."""

    def changes(schema: dict, at: str) -> list[str]:
        found = [at for r in schema.get("x-kubernetes-validations", []) if "oldSelf" in r["rule"]]
        for name, child in schema.get("properties", {}).items():
            found += changes(child, f"{at}.{name}")
        for key in ("items", "additionalProperties"):
            found += changes(schema[key], at + "[]") if key in schema else []
        return found

    for kind in KINDS:
        if kind.status is not None:
            assert changes(structural(kind.status, defaults=False), kind.kind) == []


class Part(ApiModel):
    """A part."""

    size_gib: Annotated[int, Field(gt=0, le=10)]
    """Size in GiB."""


class WidgetSpec(ApiModel):
    """What is wanted."""

    model_config = rules(Rule("has(self.part)", "spec.part is needed"))

    part: Annotated[Part, immutable("spec.part")] | None = None
    color: Annotated[str, Field(max_length=8)] | None = None
    parts: Annotated[list[Part], Field(max_length=4)] = Field(default_factory=list)
    labels: Annotated[dict[str, Annotated[str, Field(max_length=3)]], Field(max_length=2)] = Field(
        default_factory=dict
    )
    ready: bool = True


WIDGET = Kind(
    kind="Widget",
    plural="widgets",
    spec=WidgetSpec,
    status=None,
    description="A widget.",
    short_names=("wd",),
    columns=(Column("Color", ".spec.color", priority=1),),
    selectable=(".spec.color",),
    rules=(("self.metadata.name != 'x'", "x is taken"),),
)


def test_golden_manifest() -> None:
    assert manifest(WIDGET) == GOLDEN.read_text()


def test_a_union_is_refused() -> None:
    class Either(ApiModel):
        value: int | str

    with pytest.raises(NotStructural, match=r"Either\.value: a union of 2 types"):
        structural(Either, defaults=True)


class Tree(ApiModel):
    child: Tree | None = None


def test_a_recursive_type_is_refused() -> None:
    with pytest.raises(NotStructural, match="Tree contains itself"):
        structural(Tree, defaults=True)


@pytest.mark.parametrize(
    ("schema", "want"),
    [
        ({"type": "string"}, "x: a string without maxLength"),
        ({"type": "array", "items": {"type": "boolean"}}, "x: a list without maxItems"),
        ({"type": "object"}, "x: an object of unknown fields"),
        ({"$ref": "#/a", "type": "boolean"}, "x: has $ref"),
        ({}, "x: has no type"),
        ({"type": "boolean", "default": None}, "x: default is null"),
        (
            {"type": "object", "additionalProperties": {"type": "boolean"}},
            "x: a map without maxProperties",
        ),
    ],
)
def test_the_checker_sees(schema: dict, want: str) -> None:
    assert want in list(violations(schema, "x"))


def test_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--check"]) == 0, capsys.readouterr().out


def test_generation_is_deterministic() -> None:
    """Another process with another seed of hashes writes the same text."""
    code = "from novakube_crds.__main__ import generated; print(*generated().values())"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "4242"},
    )
    assert other.stdout == " ".join(generated().values()) + "\n"


def test_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, generated())
    assert differing(tmp_path, generated()) == []
    (tmp_path / "crds/flavors.yaml").write_text("other")
    (tmp_path / "charts/novakube/crds/olds.yaml").write_text("stray")
    (tmp_path / "docs/api-reference.md").unlink()
    assert main(["generate", "--check", "--root", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    for name in ("crds/flavors.yaml", "charts/novakube/crds/olds.yaml", "docs/api-reference.md"):
        assert f"{name} differs" in told
    assert main(["generate", "--root", str(tmp_path)]) == 0
    assert differing(tmp_path, generated()) == []


@pytest.mark.parametrize("root", ["crds", "operator", "agents", "api", "local"])
def test_source_roots_are_no_packages(root: str) -> None:
    """``operator/__init__.py`` would hide Python's own operator module."""
    assert not (ROOT / root / "__init__.py").exists()


def test_models_read_old_and_new_objects() -> None:
    spec = FlavorSpec.model_validate({"vcpus": 1, "memoryMiB": 64, "unknown": 1})
    assert spec.wire() == {
        "vcpus": 1,
        "memoryMiB": 64,
        "rootGiB": 0,
        "ephemeralGiB": 0,
        "swapMiB": 0,
        "rxtxFactor": 1.0,
        "extraSpecs": {},
        "public": True,
        "projects": [],
    }
    assert InstanceStatus().state == "Scheduling"
    assert "teardown" in GuestSpec.model_fields
