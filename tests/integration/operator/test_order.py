"""Manifests applied in any order end in the same state."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import uuid
from typing import Any

import pytest

from novakube_kit.kube import Json
from tests.deadlines import READY_S
from tests.integration.operator.cloud import MAILBOX, Cloud
from tests.integration.operator.conftest import FLAVOR, IMAGE

SAMPLE = 12
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSFGr1qIQIBn5MVFlVB5Io6nNJTDmPFsGkcNQzBBzUf me"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MAC = re.compile(r"fa:16:3e:\w\w:\w\w:\w\w")
MOVES_BY_ITSELF = ("resourceVersion", "managedFields", "creationTimestamp", "generation")


def manifests(namespace: str) -> list[tuple[str, str, Json, str]]:
    """Kind, name, spec and namespace of each part; cluster-wide ones are named after it."""
    flavor, key = f"flavor-{namespace}", f"key-{namespace}"
    return [
        ("Flavor", flavor, FLAVOR, ""),
        ("KeyPair", key, {"userID": "me", "publicKey": KEY}, ""),
        ("Image", "guest", IMAGE, namespace),
        ("Network", "net", {}, namespace),
        ("Subnet", "net-v4", {"network": {"name": "net"}, "cidr": "10.20.0.0/24"}, namespace),
        ("Port", "mine", {"network": {"name": "net"}}, namespace),
        ("Instance", "web", {
            "flavor": {"name": flavor}, "image": {"name": "guest"}, "keys": [{"name": key}],
            "networks": [{"port": {"name": "mine"}}],
        }, namespace),
    ]  # fmt: skip


def normalised(cloud: Cloud, namespace: str) -> Json:
    """Everything that came of it, with names in place of UIDs, times and random parts."""
    objects: dict[str, Json] = {}
    for kind, name, _, where in manifests(namespace):
        objects[kind] = cloud.get(f"{kind.lower()}s", name, where) or {}
    for plural in ("ipaddresses", "ports"):
        for number, one in enumerate(cloud.list(plural, namespace)):
            objects[f"{plural} {number}"] = one
    of = [g for g in cloud.list("guests", MAILBOX)
          if g["spec"]["instance"]["namespace"] == namespace]  # fmt: skip
    objects |= {f"guest {number}": guest for number, guest in enumerate(of)}
    text = json.dumps({what: plain(one) for what, one in objects.items()}, sort_keys=True)
    for what, one in objects.items():
        text = text.replace(one["metadata"]["uid"], f"<uid of {what}>")
    text = MAC.sub("<mac>", TIME.sub("<time>", text.replace(namespace, "<namespace>")))
    result: Json = json.loads(text)
    for what in ("Network", "guest 0"):
        forget(result[what], ("id", "segmentID", "usedAddresses", "freeAddresses"))
    return result


def plain(obj: Json) -> Json:
    """Without what the API server counts, and conditions by type."""
    kept = {k: v for k, v in obj["metadata"].items() if k not in MOVES_BY_ITSELF}
    status = dict(obj.get("status", {}))
    listed = status.get("conditions", [])
    status["conditions"] = {one["type"]: [one["status"], one["reason"]] for one in listed}
    return {"metadata": kept, "spec": obj.get("spec"), "status": status}


def forget(value: Any, names: tuple[str, ...]) -> None:
    """Numbers of segments are the next free ones, counts follow within seconds."""
    if isinstance(value, dict):
        for name in names:
            value.pop(name, None)
        for one in value.values():
            forget(one, names)
    elif isinstance(value, list):
        for one in value:
            forget(one, names)


@pytest.mark.timeout(300)
def test_any_order_ends_in_the_same_state(cloud: Cloud) -> None:
    seed = os.environ.get("NOVAKUBE_TEST_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"NOVAKUBE_TEST_SEED={seed}")
    count = len(manifests(""))
    orders = random.Random(seed).sample(list(itertools.permutations(range(count))), SAMPLE)
    orders += [tuple(range(count)), tuple(reversed(range(count)))]
    namespaces = {f"o-{uuid.uuid4().hex[:8]}": order for order in orders}
    for namespace, order in namespaces.items():
        # The Namespace comes first: the API server takes nothing into one that is not there.
        cloud.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        parts = manifests(namespace)
        for index in order:
            cloud.make(*parts[index])
    ends = {}
    for namespace, order in namespaces.items():
        cloud.until("instances", "web", namespace, READY_S, state="Running")
        for plural, name in (("subnets", "net-v4"), ("images", "guest")):
            cloud.until_ready(plural, name, namespace)
        ends[order] = normalised(cloud, namespace)
    first, *others = ends.items()
    for order, end in others:
        assert end == first[1], f"order {order} against {first[0]}"
