"""Our block in a domain's ``<metadata>``: how a domain is known to be ours.

Written by ``render.domain``, read back by the libvirt driver. A domain without it, or with
one that cannot be read, is foreign and is left alone.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from novakube_agent.ports import DomainIdentity, DomainRequest
from novakube_agent.render.xmltext import element, label

NAMESPACE = "https://novakube.dev/xmlns/1"
PREFIX = "novakube"
NAME_PREFIX = "novakube-"
"""Start of the name of every domain of ours."""

ET.register_namespace(PREFIX, NAMESPACE)


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """What the metadata block says."""

    identity: DomainIdentity
    spec_hash: str
    vcpus: int
    memory_mib: int
    disks_bytes: int


def domain_name(guest_name: str) -> str:
    """Name of the domain of a Guest."""
    return NAME_PREFIX + guest_name


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def metadata_element(request: DomainRequest, spec_hash: str) -> ET.Element:
    """The block for ``request``; ``spec_hash`` empty while the hash is being computed."""
    identity, guest = request.identity, request.guest
    root = ET.Element(_tag("domain"))
    element(
        root,
        _tag("instance"),
        id=identity.instance_id,
        uid=identity.instance_uid,
        namespace=label(identity.instance_namespace),
        name=label(identity.instance_name),
    )
    element(
        root,
        _tag("guest"),
        uid=identity.guest_uid,
        name=label(identity.guest_name),
        incarnation=str(identity.incarnation),
    )
    element(
        root,
        _tag("flavor"),
        name=label(guest.flavor_name),
        vcpus=str(guest.vcpus),
        memoryMiB=str(guest.memory_mib),
        disksBytes=str(sum(disk.size_bytes for disk in guest.disks)),
    )
    element(root, _tag("spec"), sha256=spec_hash)
    return root


def parse_metadata(text: str) -> DomainRecord | None:
    """Reads the block back; None when it is not one that we wrote."""
    try:
        root = ET.fromstring(text)  # noqa: S314  the text is libvirt's, and well-formed
        instance, guest = root.find("{*}instance"), root.find("{*}guest")
        flavor, spec = root.find("{*}flavor"), root.find("{*}spec")
        if instance is None or guest is None or flavor is None or spec is None:
            return None
        return DomainRecord(
            identity=DomainIdentity(
                instance_id=instance.attrib["id"],
                instance_uid=instance.attrib["uid"],
                instance_namespace=instance.attrib["namespace"],
                instance_name=instance.attrib["name"],
                guest_uid=guest.attrib["uid"],
                guest_name=guest.attrib["name"],
                incarnation=int(guest.attrib["incarnation"]),
            ),
            spec_hash=spec.attrib["sha256"],
            vcpus=int(flavor.attrib["vcpus"]),
            memory_mib=int(flavor.attrib["memoryMiB"]),
            disks_bytes=int(flavor.attrib["disksBytes"]),
        )
    except (ET.ParseError, KeyError, ValueError):
        return None
