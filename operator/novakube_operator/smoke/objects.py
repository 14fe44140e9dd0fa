"""The objects of a trial. Their names are fixed, so that a role can name them."""

from __future__ import annotations

from dataclasses import dataclass

from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.image import IMAGE
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.network import NETWORK
from novakube_crds.v1alpha1.subnet import SUBNET
from novakube_kit.kube import Json

NAME = "novakube-smoke"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What kind of guest."""

    flavor: str
    """Empty: one is made for the trial."""
    image: Json
    """``spec`` of its Image."""
    cidr: str
    """Of the network that is made for its NIC; empty: it has none."""


def objects(wanted: Wanted) -> list[tuple[Kind, Json]]:
    """Everything to create, in the order of creation; they are deleted in the reverse one."""
    made: list[tuple[Kind, Json]] = []
    if not wanted.flavor:
        made.append((FLAVOR, {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1}))
    made.append((IMAGE, wanted.image))
    if wanted.cidr:
        made.append((NETWORK, {}))
        made.append((SUBNET, {"network": {"name": NAME}, "cidr": wanted.cidr}))
    instance = {
        "flavor": {"name": wanted.flavor or NAME},
        "image": {"name": NAME},
        "networks": [{"network": {"name": NAME}}] if wanted.cidr else [],
    }
    return [*made, (INSTANCE, instance)]


def manifest(kind: Kind, spec: Json) -> Json:
    """The body of its creation."""
    api = f"{kind.group}/{kind.version}"
    return {"apiVersion": api, "kind": kind.kind, "metadata": {"name": NAME}, "spec": spec}
