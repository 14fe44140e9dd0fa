"""What `helm test` runs, with its account's own token and rights, against operator and agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from novakube_kit.kube import Json
from novakube_local.chart import render_chart
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_operator.manage import main as manage
from novakube_operator.smoke.objects import NAME
from tests.integration.api.cloud import SYSTEM
from tests.integration.operator.cloud import Cloud

OWN = ("instances", "subnets", "networks", "images", "flavors")


@pytest.fixture(scope="module")
def hooks() -> list[Json]:
    """What helm makes for the test."""
    rendered = [one for one in yaml.safe_load_all(render_chart()) if one]
    return [
        one for one in rendered
        if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"
    ]  # fmt: skip


@pytest.fixture
def pod(cloud: Cloud, hooks: list[Json], monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path) -> Iterator[list[str]]:  # fmt: skip
    """Its arguments, in its environment but for the address: its account exists meanwhile."""
    plane = cloud.plane
    (pod,) = [one for one in hooks if one["kind"] == "Pod"]
    rights = yaml.safe_dump_all([one for one in hooks if one["kind"] != "Pod"])
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=rights)
    token = tmp_path / "token"
    token.write_text(plane.token(SYSTEM, pod["spec"]["serviceAccountName"]))
    monkeypatch.setenv("NOVAKUBE_API_SERVER", plane.server)
    monkeypatch.setenv("NOVAKUBE_CA_FILE", str(plane.ca_file))
    monkeypatch.setenv("NOVAKUBE_TOKEN_FILE", str(token))
    (container,) = pod["spec"]["containers"]
    yield [*container["args"], "--namespace", SYSTEM, "--serve-at", "127.0.0.1"]
    plane.kubectl("delete", "-f", "-", stdin=rights)


def test_a_guest_is_made_and_deleted_with_the_rights_of_the_test(
    cloud: Cloud, pod: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    manage(pod)
    said = capsys.readouterr()
    assert said.out.startswith("a guest ran on n1 after ")
    assert "Running on n1" in said.err
    for plural in OWN:
        where = "" if plural == "flavors" else SYSTEM
        assert cloud.get(plural, NAME, where) is None, plural


def test_what_no_host_takes_is_explained_and_deleted(
    cloud: Cloud, pod: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    huge = {"vcpus": 1, "memoryMiB": 16 * 1024 * 1024, "rootGiB": 1}
    cloud.make("Flavor", "smoke-huge", huge)
    with pytest.raises(SystemExit) as caught:
        manage([*pod, "--flavor", "smoke-huge", "--timeout", "3"])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert "Instance: Ready=False" in said
    assert "Event: " in said
    assert cloud.get("instances", NAME, SYSTEM) is None
    cloud.delete("flavors", "smoke-huge")


def test_its_account_touches_no_other_object(cloud: Cloud, pod: list[str]) -> None:
    plane = cloud.plane
    caller = KubeHttp(plane.server, plane.ca_file, token=plane.token(SYSTEM, "novakube-test"))
    cloud.make("Network", "others", {}, SYSTEM)
    mine = cloud.path("networks", "", SYSTEM)
    body = {"apiVersion": "novakube.dev/v1alpha1", "kind": "Network",
            "metadata": {"name": NAME}, "spec": {}}  # fmt: skip
    caller.call("POST", mine, body)
    for verb in ("GET", "DELETE"):
        with pytest.raises(ApiError, match="cannot") as refused:
            caller.call(verb, f"{mine}/others")
        assert refused.value.code == 403
        caller.call(verb, f"{mine}/{NAME}")
    cloud.gone("networks", NAME, SYSTEM)
    cloud.delete("networks", "others", SYSTEM)
