"""The Instance that is to take over a domain which belongs to none. Pure.

What the node tells of the domain decides; what it does not tell has to be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from novakube_crds.base import API_VERSION
from novakube_crds.v1alpha1.flavor import FlavorSpec
from novakube_crds.v1alpha1.hypervisorreport import OrphanDomain
from novakube_kit.errors import InvalidSpec
from novakube_kit.kube import Json
from novakube_kit.objects import Object
from novakube_operator.core.guest_spec import GIB, MIB

AnyObject = Object[Any, Any]
POWER_STATES = {"Shutoff": "Stopped", "Crashed": "Stopped", "Paused": "Paused",
                "Saved": "Suspended"}  # fmt: skip
"""What the Instance wishes, so that taking over changes nothing; absent: Running."""
NO_NETWORKS = "none"


def disk_bytes(flavor: FlavorSpec) -> int:
    """Sum of the disks that a flavor gives."""
    return (flavor.root_gib + flavor.ephemeral_gib) * GIB + flavor.swap_mib * MIB


def sizes(domain: OrphanDomain) -> str:
    """``1 vCPUs, 128 MiB memory, 1 GiB disks``, as far as it is known."""
    known = [f"{domain.vcpus} vCPUs", f"{domain.memory_mib} MiB memory"]
    if domain.disk_bytes:
        known.append(f"{domain.disk_bytes / GIB:g} GiB disks")
    return ", ".join(known)


def flavor_for(
    domain: OrphanDomain, flavors: Iterable[AnyObject], wanted: str | None, project: str | None
) -> str:
    """The one flavor of the domain's sizes that the project may use: another would resize it.

    Args:
        domain: as its node reports it.
        flavors: all there are.
        wanted: its name, to choose among several.
        project: of the namespace; None: it belongs to none.

    Raises:
        InvalidSpec: none or several fit, or the wanted one does not.
    """
    fit = [
        flavor.name
        for flavor in flavors
        if (flavor.spec.public or project in flavor.spec.projects)
        and (flavor.spec.vcpus, flavor.spec.memory_mib) == (domain.vcpus, domain.memory_mib)
        and domain.disk_bytes in (0, disk_bytes(flavor.spec))
    ]
    if wanted is not None:
        if wanted in fit:
            return wanted
        raise InvalidSpec(f"flavor {wanted} is not that of the domain: {sizes(domain)}")
    return _only(fit, f"flavor of {sizes(domain)}", "--flavor")


def image_for(
    domain: OrphanDomain, images: Iterable[AnyObject], namespace: str, wanted: str | None
) -> Json:
    """A reference to the image that the root disk was made from.

    Args:
        domain: as its node reports it.
        images: all there are.
        namespace: of the Instance.
        wanted: ``NAME`` or ``NAMESPACE/NAME``, to choose among several, or where the node does
            not remember.

    Raises:
        InvalidSpec: none or several fit, or the wanted one does not.
    """
    seen = {image.key: image for image in images if _visible(image, namespace)}
    known = bool(domain.image_url or domain.image_sha256)
    fit = [key for key, image in seen.items() if not known or _made_from(domain, image)]
    what = f"image {domain.image_url or 'sha256:' + domain.image_sha256}"
    if wanted is not None:
        key = _key(wanted, namespace)
        if key not in seen:
            raise InvalidSpec(f"namespace {namespace} sees no image {wanted}")
        if key not in fit:
            raise InvalidSpec(f"image {wanted} is not that of the domain: {what}")
        return _reference(key, namespace)
    if not known:
        raise InvalidSpec("the node does not remember the image of this domain: give --image")
    own = [key for key in fit if key[0] == namespace] or fit
    names = {"/".join(key): key for key in own}
    return _reference(names[_only(list(names), what, "--image")], namespace)


def _visible(image: AnyObject, namespace: str) -> bool:
    spec = image.spec
    shared = spec.visibility == "shared" and namespace in spec.shared_with
    return image.namespace == namespace or spec.visibility in ("public", "community") or shared


def _made_from(domain: OrphanDomain, image: AnyObject) -> bool:
    if domain.image_sha256 and image.status.sha256:
        return bool(domain.image_sha256 == image.status.sha256)
    source = image.spec.source
    return bool(source is not None and domain.image_url and source.url == domain.image_url)


def networks_for(
    domain: OrphanDomain, namespace: str, wanted: Sequence[str]
) -> list[tuple[str, str]]:
    """(namespace, name) of the Networks of its NICs, in order.

    Args:
        domain: as its node reports it.
        namespace: of the Instance.
        wanted: ``NAME`` or ``NAMESPACE/NAME`` each, or ``none``, where the node does not
            remember.

    Raises:
        InvalidSpec: they are not known, or known and given all the same.
    """
    if domain.nics_known:
        if wanted:
            raise InvalidSpec("the node knows the networks of this domain: leave out --network")
        return [(nic.network_namespace, nic.network_name) for nic in domain.nics]
    if not wanted:
        raise InvalidSpec(
            "the node does not remember the NICs of this domain: give --network for each, in "
            "order, or --network none; they get new addresses"
        )
    return [_key(name, namespace) for name in wanted if name != NO_NETWORKS]


def instance_for(
    domain: OrphanDomain, name: str, flavor: str, image: Json, networks: Iterable[tuple[str, str]]
) -> Json:
    """The Instance, with the domain's id and the power state that it has."""
    namespace = domain.instance_namespace
    spec: Json = {
        "id": domain.instance_id,
        "flavor": {"name": flavor},
        "image": image,
        "networks": [{"network": _reference(key, namespace)} for key in networks],
    }
    if domain.state in POWER_STATES:
        spec["powerState"] = POWER_STATES[domain.state]
    return {
        "apiVersion": API_VERSION,
        "kind": "Instance",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _key(name: str, namespace: str) -> tuple[str, str]:
    where, _, rest = name.rpartition("/")
    return where or namespace, rest


def _reference(key: tuple[str, str], namespace: str) -> Json:
    return {"name": key[1]} if key[0] == namespace else {"namespace": key[0], "name": key[1]}


def _only(fit: Sequence[str], what: str, option: str) -> str:
    if len(fit) == 1:
        return fit[0]
    if not fit:
        raise InvalidSpec(f"there is no {what}: make one first")
    raise InvalidSpec(f"several fit {what}: {', '.join(sorted(fit))}; choose by {option}")
