"""The Guest of an accepted Instance. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from novakube_crds.v1alpha1.guest import (
    GuestAddress,
    GuestDisk,
    GuestImage,
    GuestNic,
    GuestRoute,
    GuestServerGroup,
    GuestSpec,
    GuestSubnet,
    InstanceIdentity,
)
from novakube_crds.v1alpha1.instance import AcceptedImage
from novakube_kit.ids import mac_address
from novakube_kit.objects import Object
from novakube_operator.core.accept import Accepted, stop_timeout_s
from novakube_operator.core.naming import hostname
from novakube_operator.core.power import first_wish
from novakube_operator.core.scheduling.hosts import Amounts

GIB = 1 << 30
MIB = 1 << 20
AnyObject = Object[Any, Any]


@dataclass(frozen=True, slots=True)
class ClaimedNic:
    """A NIC with its Port and the addresses that were claimed for it."""

    port_uid: str
    port_name: str
    mac: str
    network: AnyObject
    addresses: tuple[tuple[str, AnyObject], ...]
    """(address, Subnet)."""
    tag: str | None = None


def amounts(accepted: Accepted) -> Amounts:
    """What the guest takes from its node."""
    flavor = accepted.flavor
    extra = sum(disk.size_bytes for disk in accepted.disks)
    disk = extra + (flavor.root_gib + flavor.ephemeral_gib) * GIB + flavor.swap_mib * MIB
    return Amounts(flavor.vcpus, flavor.memory_mib, disk)


def used_by(spec: GuestSpec) -> Amounts:
    """What a Guest takes from its node."""
    return Amounts(spec.vcpus, spec.memory_mib, sum(disk.size_bytes for disk in spec.disks))


def mac_of(instance_uid: str, nic: int) -> str:
    """The MAC of an operator-made Port: the same however often it is computed."""
    return mac_address(hashlib.sha256(f"{instance_uid}/{nic}".encode()).digest()[:3])


def guest_image(image: AcceptedImage) -> GuestImage:
    """An image as the agent fetches it."""
    return GuestImage.model_validate(
        {
            "url": image.url,
            "sha256": image.sha256,
            "diskFormat": image.disk_format,
            "name": image.name,
        }
    )


def _disks(accepted: Accepted) -> list[GuestDisk]:
    flavor = accepted.flavor
    letters = iter(ascii_lowercase)
    disks = [
        GuestDisk(
            role="root",
            device=f"vd{next(letters)}",
            size_bytes=flavor.root_gib * GIB,
            image=guest_image(accepted.image),
        )
    ]
    if flavor.ephemeral_gib:
        size = flavor.ephemeral_gib * GIB
        disks.append(GuestDisk(role="ephemeral", device=f"vd{next(letters)}", size_bytes=size))
    if flavor.swap_mib:
        size = flavor.swap_mib * MIB
        disks.append(GuestDisk(role="swap", device=f"vd{next(letters)}", size_bytes=size))
    disks += [
        GuestDisk(
            role="swap" if extra.swap else "ephemeral",
            device=f"vd{next(letters)}",
            size_bytes=extra.size_bytes,
            image=guest_image(extra.image) if extra.image else None,
            bus=extra.bus,
            boot_index=extra.boot_index,
        )
        for extra in accepted.disks
    ]
    return disks


def _part(url: str | None, sha256: str | None, name: str) -> GuestImage | None:
    if url is None:
        return None
    return GuestImage(url=url, sha256=sha256, disk_format="raw", name=name)


def _nic(nic: ClaimedNic) -> GuestNic:
    segment = nic.network.status.segment
    return GuestNic(
        port_uid=nic.port_uid,
        port_name=nic.port_name,
        mac=nic.mac,
        network_namespace=nic.network.namespace,
        network_name=nic.network.name,
        network_uid=nic.network.uid,
        segment_type=segment.type,
        segment_id=segment.id,
        physical_network=segment.physical_network,
        mtu=nic.network.status.mtu or 1450,
        addresses=[
            GuestAddress(address=address, subnet=guest_subnet(subnet))
            for address, subnet in nic.addresses
        ],
        port_security=nic.network.spec.port_security,
        tag=nic.tag,
    )


def guest_subnet(subnet: AnyObject) -> GuestSubnet:
    """What a node hands out for a Subnet."""
    return GuestSubnet(
        uid=subnet.uid,
        cidr=subnet.spec.cidr,
        gateway=subnet.status.gateway,
        dns=subnet.spec.dns,
        routes=[
            GuestRoute(destination=route.destination, next_hop=route.next_hop)
            for route in subnet.spec.routes
        ],
        dhcp=subnet.spec.dhcp,
        ipv6_address_mode=subnet.spec.ipv6_address_mode,
        ipv6_ra_mode=subnet.spec.ipv6_ra_mode,
    )


def identity(obj: AnyObject) -> InstanceIdentity:
    """Who the guest is."""
    return InstanceIdentity(
        namespace=obj.namespace,
        name=obj.name,
        uid=obj.uid,
        id=obj.spec.id or obj.uid,
        display_name=obj.spec.display_name or obj.name,
        user_id=obj.spec.user_id,
    )


def guest_spec(
    obj: AnyObject,
    accepted: Accepted,
    nics: Sequence[ClaimedNic],
    *,
    node: str,
    zone: str,
    incarnation: int,
    user_data: str | None,
    epoch: int,
    server_group: GuestServerGroup | None = None,
) -> GuestSpec:
    """The whole spec, ready to be created in the node's namespace."""
    image = accepted.image
    name = obj.spec.display_name or obj.name
    return GuestSpec(
        instance=identity(obj),
        incarnation=incarnation,
        hypervisor=node,
        hostname=obj.spec.hostname or hostname(name, f"server-{obj.uid}"),
        vcpus=accepted.flavor.vcpus,
        memory_mib=accepted.flavor.memory_mib,
        flavor_name=accepted.flavor.display_name or accepted.flavor.name,
        availability_zone=zone,
        server_group=server_group,
        disks=_disks(accepted),
        kernel=_part(image.kernel_url, image.kernel_sha256, f"{image.name} kernel"),
        ramdisk=_part(image.ramdisk_url, image.ramdisk_sha256, f"{image.name} ramdisk"),
        kernel_args=image.properties.get("os_command_line", ""),
        image_properties=image.properties,
        nics=[_nic(nic) for nic in nics],
        keys=list(accepted.keys),
        user_data=user_data,
        metadata=obj.spec.metadata,
        power_state=first_wish(obj.spec.power_state),
        stop_timeout_s=stop_timeout_s(image),
        epoch=epoch,
    )
