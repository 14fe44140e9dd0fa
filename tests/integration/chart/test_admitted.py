"""Every manifest of the chart, as helm renders it, passes a real API server's validation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from novakube_local.chart import render_chart
from novakube_local.controlplane import ControlPlane
from novakube_local.errors import LocalCloudError

SYSTEM = "novakube-system"
DRY_RUN = ("apply", "--server-side", "--dry-run=server", "-f", "-")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("chart")) as plane:
        plane.admin().ensure("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        # A pod is admitted with its account only, and a dry run makes none.
        account = {"metadata": {"name": "novakube-test"}}
        plane.admin().ensure(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", account)
        yield plane


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("operator.database.secretName=db",),
        ("agent.driver=fake", "operator.persistence.enabled=false"),
        ("api.service.type=NodePort", "agent.priorityClassName=system-node-critical"),
        ("networkPolicies=true",),
        ("workloads=false",),
        ("monitoring.dashboards.enabled=true", "agent.http.onNodeAddress=true"),
    ],
    ids=lambda settings: ",".join(settings) or "defaults",
)
def test_the_api_server_admits_every_manifest(
    plane: ControlPlane, settings: tuple[str, ...]
) -> None:
    rendered = render_chart(*settings)
    said = plane.kubectl(*DRY_RUN, stdin=rendered).splitlines()
    assert len(said) == len([obj for obj in yaml.safe_load_all(rendered) if obj])


def test_the_api_server_refuses_what_kubernetes_does_not_allow(plane: ControlPlane) -> None:
    """The dry run validates: mounts that reach the node need a privileged container."""
    rendered = render_chart()
    assert rendered.count("privileged: true") == 1
    with pytest.raises(LocalCloudError, match="Bidirectional mount propagation is available only"):
        plane.kubectl(*DRY_RUN, stdin=rendered.replace("privileged: true", "privileged: false"))


def test_crds_are_beside_the_templates() -> None:
    """helm installs ``crds/`` first and never deletes it: an uninstall ends no guest."""
    assert "CustomResourceDefinition" not in render_chart()
    assert any(Path(__file__).parents[3].joinpath("charts/novakube/crds").glob("*.yaml"))
