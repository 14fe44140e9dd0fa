"""From the previous release to this one, under a guest that is talked to all the time.

The previous release is built from its own sources (`previous.py`); both are in the same cluster,
so this begins by taking off what the first tests of the lane left. In this order, as there.
"""

from __future__ import annotations

import json

import pytest

from novakube_local import members
from novakube_local.chart import CHART
from novakube_local.cluster import ClusterUp
from tests.deadlines import CLUSTER_S, MACHINE_S
from tests.deep.kubelet import previous
from tests.deep.kubelet.release import RELEASE, ROOT, SYSTEM, Release
from tests.deep.kubelet.traffic import of_guests, unbroken
from tests.e2e.cloud import NODE
from tests.waiting import wait_until_sync

EXAMPLE = str(ROOT / "examples" / "first-instance.yaml")
CRDS = ("apply", "--server-side", "--force-conflicts", "-f")
VOLUME = "/api/v1/persistentvolumes/volume"
MERGE = "application/merge-patch+json"
pytestmark = pytest.mark.timeout(CLUSTER_S)


@pytest.fixture(scope="module")
def old(release: Release) -> previous.Source:
    """The previous release's sources, its images on the node and the volume free and empty."""
    source = previous.sources(release.layout)
    images = [one for one in previous.images(release.layout) if one.component != "pause"]
    pid = members.alive(release.layout.load(), NODE)
    assert pid is not None
    ClusterUp(release.layout, 1).import_images(pid, NODE, images)
    for path in (release.layout.node_dir(NODE) / "novakube" / "volume").iterdir():
        path.unlink()
    release.admin.call("PATCH", VOLUME, {"spec": {"claimRef": None}}, MERGE)
    return source


def revisions(release: Release) -> set[str]:
    """Tags of the images that the release's pods run."""
    return {
        container["image"].rpartition(":")[2]
        for pod in release.pods()
        for container in pod["spec"]["containers"]
    }


def test_the_previous_release_runs_a_guest(release: Release, old: previous.Source) -> None:
    chart = old.root / "charts" / "novakube"
    release.kubectl(*CRDS, str(chart / "crds"))
    tag = f"image.tag={old.tag}"
    release.helm("install", RELEASE, str(chart), "--create-namespace", "--set-string", tag)
    release.ready()
    assert revisions(release) == {old.tag}
    release.kubectl("apply", "-f", EXAMPLE)
    release.booted(release.running("web", "demo"))


def test_an_upgrade_is_not_noticed_by_a_guest(release: Release, old: previous.Source) -> None:
    """CRDs first, as the notes of the chart say; then helm upgrade."""
    web = release.running("web", "demo")
    domain = f"novakube-{web['status']['guest'].rpartition('/')[2]}"
    running = release.node.qemu(domain)
    assert len(running) == 1
    with unbroken(release, web):
        release.kubectl(*CRDS, str(CHART / "crds"))
        release.helm("upgrade", RELEASE, str(CHART), "--reset-values")
        release.ready()
        assert old.tag not in revisions(release)
    assert release.node.qemu(domain) == running
    now = release.read("web", "demo")
    assert now["status"]["state"] == "Running"
    assert now["status"]["guest"] == web["status"]["guest"]


def test_nothing_was_restarted(release: Release) -> None:
    for pod in release.pods():
        counts = {one["restartCount"] for one in pod["status"]["containerStatuses"]}
        assert counts == {0}, pod["metadata"]["name"]


def test_old_and_new_objects_work(release: Release) -> None:
    """Another guest in the network of the old one; then both are deleted."""
    second = json.loads(release.kubectl("get", "instance", "web", "-n", "demo", "-o", "json"))
    spec = {name: second["spec"][name] for name in ("flavor", "image", "networks")}
    release.make("Instance", "second", spec, "demo")
    release.booted(release.running("second", "demo"))
    release.helm("test", RELEASE)
    release.delete("instances", "second", "demo")
    release.kubectl("delete", "-f", EXAMPLE, "--timeout=60s")
    assert of_guests(release) == set()


def test_it_is_uninstalled(release: Release) -> None:
    release.helm("uninstall", RELEASE, "--wait")
    wait_until_sync(lambda: not release.pods(), "no pods", MACHINE_S)
    assert SYSTEM in release.kubectl("get", "namespaces", "-o", "name")
