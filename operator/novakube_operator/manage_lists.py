"""``novakube-manage vm list`` and ``flavor list|show``: what there is, for people."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.kube import KubePort
from novakube_kit.objects import Object, parse
from novakube_kit.resources import NAMESPACES, resource_of
from novakube_operator.core.projects import PROJECT_LABEL
from novakube_operator.manage_verbs import Table, Verb, argument, on_cluster, record

PAGE = 500


async def _projects(kube: KubePort) -> dict[str, str]:
    """Namespace -> project of those that are bound to one."""
    items = (await kube.list(NAMESPACES, label_selector=PROJECT_LABEL, limit=PAGE))["items"]
    return {
        item["metadata"]["name"]: item["metadata"]["labels"][PROJECT_LABEL] for item in items
    }  # fmt: skip


async def _vms(kube: KubePort, args: Namespace) -> Table:
    projects = await _projects(kube)
    namespace = args.namespace
    if args.project:
        bound = [name for name, project in projects.items() if project == args.project]
        if not bound:
            return Table(_VM_COLUMNS, ())
        namespace = bound[0]
    items = (await kube.list(resource_of(INSTANCE), namespace, limit=PAGE))["items"]
    found = [parse(INSTANCE, item) for item in items]
    kept = [
        obj for obj in sorted(found, key=lambda obj: obj.key)
        if not args.host or obj.status.node == args.host
    ]  # fmt: skip
    return Table(_VM_COLUMNS, tuple(_vm(obj, projects) for obj in kept))


_VM_COLUMNS = (
    "NAMESPACE", "NAME", "HOST", "STATE", "FLAVOR", "LAUNCHED AT", "IMAGE", "PROJECT", "USER",
    "ZONE", "ADDRESSES", "ID",
)  # fmt: skip


def _vm(obj: Object[Any, Any], projects: dict[str, str]) -> tuple[Any, ...]:
    spec, status = obj.spec, obj.status
    addresses = [item.address for item in status.addresses]
    return (
        obj.namespace, obj.name, status.node, status.state, spec.flavor.name, status.launched_at,
        spec.image.name, projects.get(obj.namespace), spec.user_id, status.availability_zone,
        addresses, status.id or spec.id or obj.uid,
    )  # fmt: skip


async def _flavors(kube: KubePort, _: Namespace) -> Table:
    items = (await kube.list(resource_of(FLAVOR), limit=PAGE))["items"]
    found = sorted((parse(FLAVOR, item) for item in items), key=lambda obj: obj.name)
    rows = tuple(
        (obj.name, obj.spec.vcpus, obj.spec.memory_mib, obj.spec.root_gib,
         obj.spec.ephemeral_gib, obj.spec.swap_mib, obj.spec.public)
        for obj in found
    )  # fmt: skip
    columns = ("NAME", "VCPUS", "MEMORY MIB", "ROOT GIB", "EPHEMERAL GIB", "SWAP MIB", "PUBLIC")
    return Table(columns, rows)


async def _flavor(kube: KubePort, args: Namespace) -> Table:
    obj = parse(FLAVOR, await kube.get(resource_of(FLAVOR), args.name))
    extra = [f"{key}={value}" for key, value in sorted(obj.spec.extra_specs.items())]
    return record(
        name=obj.name, displayName=obj.spec.display_name, id=obj.spec.id or obj.uid,
        vcpus=obj.spec.vcpus, memoryMiB=obj.spec.memory_mib, rootGiB=obj.spec.root_gib,
        ephemeralGiB=obj.spec.ephemeral_gib, swapMiB=obj.spec.swap_mib, public=obj.spec.public,
        projects=obj.spec.projects, extraSpecs=extra,
    )  # fmt: skip


VERBS = (
    Verb("vm", "list", "instances of the cloud", on_cluster(_vms),
         (argument("--host", help="only those on this node"),
          argument("-n", "--namespace", help="only of this namespace"),
          argument("--project", help="only of this project"))),
    Verb("flavor", "list", "flavors", on_cluster(_flavors)),
    Verb("flavor", "show", "one flavor", on_cluster(_flavor), (argument("name"),)),
)  # fmt: skip
