"""novakube-manage against a real API server, with a kubeconfig, as an administrator uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from novakube_kit.kube import Json
from novakube_local.kubehttp import KubeHttp
from novakube_operator import manage
from tests.deadlines import EVENT_S
from tests.integration.apiserver import ADMIN_TOKEN, ApiServer
from tests.waiting import wait_until_sync

GROUP = "/apis/novakube.dev/v1alpha1"
MERGE = "application/merge-patch+json"
FLAVOR = {"vcpus": 2, "memoryMiB": 512, "rootGiB": 10, "extraSpecs": {"hw:a": "b"}}
NAMES = ("m1", "m2")


class Manage:
    """Runs a verb and reads what it printed."""

    def __init__(self, kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._kubeconfig = str(kubeconfig)
        self._capsys = capsys

    def says(self, *verb: str) -> str:
        manage.main([*verb, "--kubeconfig", self._kubeconfig])
        return self._capsys.readouterr().out

    def rows(self, *verb: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.says(*verb, "--json"))
        return found

    def fails(self, *verb: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            self.says(*verb)
        return int(str(caught.value.code)), self._capsys.readouterr().err


@pytest.fixture(scope="module")
def admin(apiserver: ApiServer, installed_crds: list[str]) -> KubeHttp:
    client = KubeHttp(apiserver.url, apiserver.ca_file, token=ADMIN_TOKEN)

    def served() -> bool:
        found = client.call("GET", GROUP)["resources"]
        return {f"{r['name']}.novakube.dev" for r in found} >= set(installed_crds)

    wait_until_sync(served, "CRDs are served", EVENT_S)
    return client


def make(
    admin: KubeHttp, kind: str, name: str, spec: Json, namespace: str = "", **more: Any
) -> None:
    path = f"{GROUP}/namespaces/{namespace}" if namespace else GROUP
    body = {"apiVersion": "novakube.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
            "spec": spec}  # fmt: skip
    admin.call("POST", f"{path}/{kind.lower()}s", body)
    if more:
        admin.call("PATCH", f"{path}/{kind.lower()}s/{name}/status", {"status": more}, MERGE)


@pytest.fixture(scope="module")
def cloud(admin: KubeHttp) -> Iterator[KubeHttp]:
    """Two hosts, a flavor, two instances in the namespace of a project."""
    for name, alive in zip(NAMES, ("True", "False"), strict=True):
        condition = {"type": "AgentAlive", "status": alive, "reason": "Heartbeat", "message": "",
                     "lastTransitionTime": "2026-01-02T03:04:05Z"}  # fmt: skip
        make(admin, "Hypervisor", name, {}, availabilityZone=f"zone-{name}", running=1,
             capacity={"vcpus": 8, "memoryMiB": 4096, "diskGiB": 100, "diskFreeGiB": 90},
             allocated={"vcpus": 2, "memoryMiB": 512, "diskGiB": 10},
             conditions=[condition])  # fmt: skip
    label = {"novakube.dev/project-id": "p1"}
    admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": "tenant-m", "labels": label}})
    make(admin, "Flavor", "m1.tiny", FLAVOR)
    for name, node in zip(("one", "two"), NAMES, strict=True):
        spec = {"flavor": {"name": "m1.tiny"}, "image": {"name": "i"}, "networks": []}
        make(admin, "Instance", name, spec, "tenant-m", state="Running", node=node,
             addresses=[{"network": "net", "address": "10.0.0.2", "mac": "02:00:00:00:00:01",
                         "version": 4}])  # fmt: skip
    yield admin
    for name in NAMES:
        admin.call("DELETE", f"{GROUP}/hypervisors/{name}")


def kubeconfig(apiserver: ApiServer, tmp_path: Path) -> Path:
    """An administrator's."""
    server = {"server": apiserver.url, "certificate-authority": str(apiserver.ca_file)}
    config = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"token": ADMIN_TOKEN}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def run(
    cloud: KubeHttp, apiserver: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Manage:
    return Manage(kubeconfig(apiserver, tmp_path), capsys)


def test_service_list(run: Manage) -> None:
    lines = run.says("service", "list").splitlines()
    assert lines[0].split() == ["BINARY", "HOST", "ZONE", "STATUS", "STATE", "UPDATED", "AT",
                                "DISABLED", "REASON"]  # fmt: skip
    rows = {line.split()[1]: line.split() for line in lines[1:]}
    assert rows["m1"][2:5] == ["zone-m1", "enabled", "up"]
    assert rows["m2"][2:5] == ["zone-m2", "enabled", "down"]
    column = lines[0].index("STATUS")
    assert {line[column:].split()[0] for line in lines[1:]} == {"enabled"}  # aligned


def test_service_disable_describe_enable(run: Manage, cloud: KubeHttp) -> None:
    assert run.says("service", "disable", "m1", "--reason", "new memory") == "m1 disabled\n"
    spec = cloud.call("GET", f"{GROUP}/hypervisors/m1")["spec"]
    assert (spec["enabled"], spec["disabledReason"]) == (False, "new memory")
    (row,) = run.rows("service", "list", "--host", "m1")
    assert (row["status"], row["disabledReason"]) == ("disabled", "new memory")
    told = run.says("service", "describe", "m1")
    assert "disabledReason  new memory" in told
    assert json.loads(run.says("service", "describe_resource", "m1", "--json"))["vcpus"] == "2 of 8"
    again = run.says("service", "disable", "m1", "--reason", "new memory")
    assert again == "m1 is disabled already\n"
    assert run.says("service", "enable", "m1") == "m1 enabled\n"
    spec = cloud.call("GET", f"{GROUP}/hypervisors/m1")["spec"]
    assert spec["enabled"]
    assert "disabledReason" not in spec


def test_an_unknown_host_is_one_clear_line(run: Manage) -> None:
    for verb in ("enable", "disable", "describe"):
        code, message = run.fails("service", verb, "m9")
        assert (code, message) == (1, "novakube-manage: no host is named m9; there are: m1, m2\n")


def test_host_list(run: Manage) -> None:
    hosts = {row["host"]: row for row in run.rows("host", "list")}
    assert set(hosts) == set(NAMES)
    assert hosts["m1"]["vcpus"] == 8
    assert hosts["m1"]["memoryMibUsed"] == 512
    assert [row["host"] for row in run.rows("host", "list", "zone-m2")] == ["m2"]
    assert run.fails("host", "list", "nowhere") == (
        1, "novakube-manage: no host is in zone nowhere\n"
    )  # fmt: skip


def test_vm_list(run: Manage) -> None:
    def names(*options: str) -> list[str]:
        return [row["name"] for row in run.rows("vm", "list", *options)]

    assert names("-n", "tenant-m") == ["one", "two"]
    assert names("--project", "p1", "--host", "m2") == ["two"]
    assert names("--project", "nobody") == []
    row = run.rows("vm", "list", "--project", "p1", "--host", "m1")[0]
    assert (row["project"], row["host"], row["flavor"]) == ("p1", "m1", "m1.tiny")
    assert row["addresses"] == ["10.0.0.2"]
    assert "10.0.0.2" in run.says("vm", "list")


def test_flavors(run: Manage) -> None:
    row = next(row for row in run.rows("flavor", "list") if row["name"] == "m1.tiny")
    assert (row["vcpus"], row["memoryMib"], row["rootGib"]) == (2, 512, 10)
    assert "hw:a=b" in run.says("flavor", "show", "m1.tiny")
    code, message = run.fails("flavor", "show", "nonsense")
    assert code == 1
    assert "nonsense" in message


def test_without_rights_or_server_it_says_so(run: Manage, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["users"][0]["user"]["token"] = "nobody"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    code, message = run.fails("service", "list")
    assert code == 1
    assert message.startswith("novakube-manage: ")
    assert message.count("\n") == 1


def test_a_wrong_command_line_ends_with_2(run: Manage) -> None:
    for verb in (("service", "list", "--nonsense"), ("nonsense",), ("service", "enable")):
        assert run.fails(*verb)[0] == 2
