"""Every file of examples/gitops is admitted by a real API server, and points at what is there.

Argo CD's and Flux's own CRDs are not here, so their kinds are served without a schema: what
their fields mean is checked below as far as this repository knows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.kube import Json
from tests.integration.gitops.tree import GITOPS, TREE, Tenant
from tests.integration.operator.cloud import Cloud

ROOT = GITOPS.parents[1]
FILES = sorted(
    path.relative_to(GITOPS).as_posix()
    for path in GITOPS.rglob("*.yaml")
    if path.name != "kustomization.yaml"
)
FOREIGN = {
    "applications.argoproj.io": ("Application", "v1alpha1"),
    "gitrepositories.source.toolkit.fluxcd.io": ("GitRepository", "v1"),
    "helmreleases.helm.toolkit.fluxcd.io": ("HelmRelease", "v2"),
    "kustomizations.kustomize.toolkit.fluxcd.io": ("Kustomization", "v1"),
}


def documents(path: Path) -> list[Json]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def served(name: str, kind: str, version: str) -> Json:
    """A CRD that takes anything."""
    plural, _, group = name.partition(".")
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    one = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": [one],
            "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def tools(cloud: Cloud, blue: Tenant) -> Cloud:
    """A cluster in which Argo CD's and Flux's kinds are known and the tree has been applied."""
    crds = yaml.safe_dump_all([served(name, *of) for name, of in FOREIGN.items()])
    cloud.kubectl("apply", "--server-side", "-f", "-", stdin=crds)
    names = [f"crd/{name}" for name in FOREIGN]
    cloud.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    for name in ("argocd", "flux-system"):
        cloud.kubectl("create", "namespace", name)
    return cloud


@pytest.mark.parametrize("file", FILES)
def test_a_dry_run_admits_it(tools: Cloud, file: str) -> None:
    path = GITOPS / file
    dry = ("apply", "--server-side", "--dry-run=server", "--field-manager=gitops", "-o", "name")
    admitted = tools.kubectl(*dry, "-f", str(path)).split()
    assert len(admitted) == len(documents(path))


def test_every_file_is_in_a_kustomization(tools: Cloud) -> None:
    for folder in ("tenant", "argocd", "flux"):
        built = list(yaml.safe_load_all(tools.kubectl("kustomize", str(GITOPS / folder))))
        files = [name for name in FILES if name.startswith(folder)]
        listed = [one for name in files for one in documents(GITOPS / name)]
        assert len(built) == len(listed) > 0


def test_argo_cds_and_fluxs_files_are_applied(tools: Cloud) -> None:
    for folder in ("argocd", "flux"):
        tools.kubectl("apply", "--server-side", "-k", str(GITOPS / folder))


def of_kind(kind: str) -> list[Json]:
    """The examples' objects of a tool's kind, not kustomize's own files."""
    found = (one for name in FILES for one in documents(GITOPS / name))
    return [one for one in found if one["kind"] == kind]


def test_paths_lead_to_what_is_there() -> None:
    paths = [one["spec"]["source"]["path"] for one in of_kind("Application")]
    paths += [one["spec"]["path"] for one in of_kind("Kustomization")]
    paths += [one["spec"]["chart"]["spec"]["chart"] for one in of_kind("HelmRelease")]
    assert len(paths) == 4
    for path in paths:
        folder = ROOT / path
        assert (folder / "Chart.yaml").exists() or folder == TREE, path


def test_values_are_those_of_the_chart() -> None:
    values: Json = yaml.safe_load((ROOT / "charts" / "novakube" / "values.yaml").read_text())
    given = [of_kind("HelmRelease")[0]["spec"]["values"]]
    given += [
        one["spec"]["source"]["helm"]["valuesObject"]
        for one in of_kind("Application")
        if "helm" in one["spec"]["source"]
    ]
    assert len(given) == 2
    for one in given:
        assert unknown(one, values) == []


def unknown(given: dict[str, Any], known: dict[str, Any]) -> list[str]:
    found = [name for name in given if name not in known]
    for name, below in given.items():
        if isinstance(below, dict) and isinstance(known.get(name), dict):
            found += unknown(below, known[name])
    return found


def test_the_tree_holds_every_kind_that_a_tenant_starts_with() -> None:
    kinds = {one["kind"] for path in TREE.glob("*.yaml") for one in documents(path)}
    assert kinds - {"Kustomization"} == {
        "Namespace", "Quota", "Flavor", "Image", "Network", "Subnet", "Port", "SecurityGroup",
        "KeyPair", "Instance",
    }  # fmt: skip
    assert kinds - {"Kustomization", "Namespace"} <= {kind.kind for kind in KINDS}
