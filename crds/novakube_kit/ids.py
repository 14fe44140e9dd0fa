"""Identifiers derived from identifiers. Pure; every process derives the same."""

from __future__ import annotations

import hashlib
import re
import uuid

from novakube_kit.errors import InvalidSpec

_LEGAL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""A DNS subdomain. Source: IsDNS1123Subdomain in k8s.io/apimachinery."""
_NAME_MAX = 253
_HASHED_NAME = re.compile(r"x-[0-9a-f]{40}")

MAC_PREFIX = "fa:16:3e"
"""Source: Neutron's and Nova's default base_mac."""
LINK_HASH_DIGITS = 11
"""With a prefix of three letters a link's name is within IFNAMSIZ (15 characters)."""


def object_name(openstack_id: str) -> str:
    """The object name of an OpenStack id: itself, or ``x-`` and 40 hex digits of its sha256.

    Ids that look like such a hashed name are hashed too, so that no two ids share a name.

    Raises:
        InvalidSpec: the id is empty.
    """
    if not openstack_id:
        raise InvalidSpec("id is empty; it needs at least one character")
    legal = len(openstack_id) <= _NAME_MAX and _LEGAL_NAME.fullmatch(openstack_id)
    if legal and not _HASHED_NAME.fullmatch(openstack_id):
        return openstack_id
    return "x-" + hashlib.sha256(openstack_id.encode()).hexdigest()[:40]


def domain_uuid(instance_id: str) -> str:
    """The libvirt domain's UUID: the Instance's id in canonical form.

    Raises:
        InvalidSpec: the id is no UUID.
    """
    try:
        return str(uuid.UUID(instance_id))
    except ValueError as error:
        raise InvalidSpec(f"instance id {instance_id!r} is no UUID") from error


def ec2_id(instance_id: str) -> str:
    """``i-`` and the first 17 hex digits of the Instance's UUID."""
    return "i-" + domain_uuid(instance_id).replace("-", "")[:17]


def integer_id(openstack_id: str) -> int:
    """31 bits of sha256, for APIs with integer ids; collisions are the caller's to step over."""
    return int.from_bytes(hashlib.sha256(openstack_id.encode()).digest()[:4], "big") >> 1


def mac_address(random_bytes: bytes) -> str:
    """A MAC with Neutron's prefix and three given random bytes.

    Raises:
        ValueError: not exactly three bytes.
    """
    if len(random_bytes) != 3:
        raise ValueError(f"3 random bytes are needed, not {len(random_bytes)}")
    return f"{MAC_PREFIX}:{random_bytes.hex(':')}"


def short_hash(text: str, digits: int = LINK_HASH_DIGITS) -> str:
    """The first hex digits of sha256, e.g. for names of links."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def bridge_name(network_uid: str) -> str:
    """The bridge of a Network on a node."""
    return f"nkb{short_hash(network_uid)}"


def tap_name(port_uid: str) -> str:
    """The tap of a Port on a node."""
    return f"nkt{short_hash(port_uid)}"


def namespace_name(network_uid: str) -> str:
    """The Linux network namespace of a Network on a node."""
    return f"nk-{network_uid.replace('-', '')[:12]}"
