"""The tenant's tree of examples/gitops: built by kustomize, applied by kubectl, looked at."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

import yaml

from novakube_kit.kube import Json
from novakube_local.kubehttp import ApiError
from tests.argocd import Health, health
from tests.deadlines import READY_S
from tests.integration.operator.cloud import MAILBOX, Cloud
from tests.kstatus import kstatus
from tests.waiting import wait_until_sync

GITOPS = Path(__file__).resolve().parents[3] / "examples" / "gitops"
TREE = GITOPS / "tenant"
PROJECT = "5f0c9f4b1f0e4a5c8a1d3f7f2b6c9e01"
STATES = {"web": "Running", "worker": "Running", "spare": "Stopped"}
MANAGER = "gitops"
GONE: Json = {"metadata": {"deletionTimestamp": ""}}


def yaml_of(objects: Iterable[Json]) -> str:
    return yaml.safe_dump_all(objects, sort_keys=False)


class Tenant:
    """The tree under another tenant's name, so that several are there at a time."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self.cloud = cloud
        self.name = name
        self.namespace = f"team-{name}"
        text = cloud.kubectl("kustomize", str(TREE)).replace("blue", name)
        if name != "blue":
            text = text.replace(PROJECT, uuid.uuid4().hex)
        self.objects: list[Json] = list(yaml.safe_load_all(text))

    def instance(self, role: str) -> str:
        return f"{self.name}-{role}"

    def apply(self, objects: Iterable[Json] | None = None, *options: str) -> str:
        """As a GitOps tool applies it: server-side, under a name of its own, never by force."""
        return self.cloud.kubectl(
            "apply", "--server-side", f"--field-manager={MANAGER}", *options, "-f", "-",
            stdin=yaml_of(self.objects if objects is None else objects),
        )  # fmt: skip

    def path(self, obj: Json) -> str:
        kind, name = obj["kind"], obj["metadata"]["name"]
        if kind == "Namespace":
            return f"/api/v1/namespaces/{name}"
        return self.cloud.path(f"{kind.lower()}s", name, obj["metadata"].get("namespace"))

    def live(self, obj: Json) -> Json | None:
        """The object as the API server has it."""
        try:
            return self.cloud.admin.call("GET", self.path(obj))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def all_live(self) -> dict[str, Json]:
        found = {f"{one['kind']} {one['metadata']['name']}": self.live(one) for one in self.objects}
        assert None not in found.values(), found
        return found  # type: ignore[return-value]

    def health(self) -> dict[str, Health]:
        """Of our kinds, as Argo CD shows it."""
        live = self.all_live().items()
        return {name: health(obj) for name, obj in live if not name.startswith("Namespace ")}

    def until_settled(self) -> None:
        """Waits until every object is there for kstatus."""
        for obj in self.objects:
            wait_until_sync(
                lambda: kstatus(self.live(obj) or GONE) == "Current",  # noqa: B023
                f"{self.name}: {obj['kind']} {obj['metadata']['name']} there", READY_S,
            )  # fmt: skip

    def until_counted(self) -> None:
        """Waits until what follows within seconds is written: use of Quota and Network."""
        last: list[tuple[object, ...]] = []

        def counted() -> bool:
            last[:] = [self._counts(), self._shown()]
            return last[0] == last[1]

        try:
            wait_until_sync(counted, f"{self.name} counted", READY_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from error

    def _counts(self) -> tuple[object, ...]:
        """Guests, Ports, addresses, and creates that are under way: none."""
        kept = [self.cloud.list(plural, self.namespace) for plural in ("ports", "ipaddresses")]
        return len(self.guests()), *map(len, kept), 0

    def _shown(self) -> tuple[object, ...]:
        quota = (self.cloud.get("quotas", "quota", self.namespace) or {}).get("status", {})
        network = self.cloud.get("networks", f"{self.name}-net", self.namespace) or {}
        used, addresses = quota.get("used", {}), network.get("status", {}).get("usedAddresses")
        return used.get("instances"), used.get("ports"), addresses, len(quota.get("pending", []))

    def guests(self) -> list[Json]:
        """Of this tenant's Instances, in the node's mailbox."""
        listed = self.cloud.list("guests", MAILBOX)
        return [one for one in listed if one["spec"]["instance"]["namespace"] == self.namespace]
