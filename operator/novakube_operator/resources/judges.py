"""One judge per kind: from an object and what the stores hold to the status it should have.

A judge reads stores and writes nothing. ``holders`` says what keeps a deleted object alive;
kinds without it go at once (Flavor, Image: accepted copies stay with the Instances).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from novakube_crds.base import ApiModel
from novakube_crds.conditions import is_true
from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.network import EXTERNAL_NETWORK_READY
from novakube_crds.v1alpha1.quota import QUOTA_EXCEEDED
from novakube_crds.v1alpha1.servergroup import ServerGroupMember
from novakube_kit.errors import InvalidSpec
from novakube_kit.objects import Object
from novakube_kit.store import Store
from novakube_operator.core.resources import images, keys, networks
from novakube_operator.core.resources.verdict import (
    NOT_FOUND,
    Verdict,
    accepted,
    id_taken,
    not_supported_yet,
)

MEMBERS_MAX = 1024
"""The schema's bound of a ServerGroup's ``status.members``."""
AnyObject = Object[Any, Any]
AnyStore = Store[Any, Any]


@dataclass(frozen=True, slots=True)
class World:
    """Stores by plural name, with the indices named in ``INDICES``."""

    stores: dict[str, AnyStore]
    over_quota: Callable[[AnyObject], str | None] = lambda _: None
    """Why an object is beyond a limit of its project or user."""

    def of(self, plural: str) -> AnyStore:
        """The store of a kind."""
        return self.stores[plural]


def _network_key(obj: AnyObject) -> list[tuple[str, str]]:
    reference = obj.spec.network
    namespace = getattr(reference, "namespace", None) or obj.namespace
    return [(namespace, reference.name)]


def _segment_key(obj: AnyObject) -> list[tuple[str, int]]:
    segment = obj.status.segment
    return [(segment.type, segment.id)] if segment and segment.id is not None else []


def _id_key(obj: AnyObject) -> list[str]:
    wanted = getattr(obj.spec, "id", None)
    return [wanted] if wanted else []


INDICES: dict[str, dict[str, Callable[[AnyObject], list[Any]]]] = {
    "flavors": {"id": _id_key},
    "images": {"id": _id_key},
    "keypairs": {},
    "networks": {"id": _id_key, "segment": _segment_key},
    "subnets": {"id": _id_key, "network": _network_key},
    "ports": {"id": _id_key, "network": _network_key},
    "ipaddresses": {
        "networkUID": lambda obj: [obj.spec.network_uid],
        "subnet": lambda obj: [(obj.namespace, obj.spec.subnet.name)],
    },
    "securitygroups": {"id": _id_key},
    "servergroups": {"id": _id_key},
    "routers": {"id": _id_key},
    "floatingips": {"id": _id_key},
    "aggregates": {"id": _id_key, "host": lambda obj: list(obj.spec.hosts)},
    "hypervisors": {},
    "guests": {
        "group": lambda obj: [obj.spec.server_group.uid] if obj.spec.server_group else [],
    },
}
"""Indices that the stores need for the judges."""


@dataclass(frozen=True, slots=True)
class Judge:
    """How a kind is judged.

    ``judge`` returns the verdict and the status fields it decides; ``holders`` the reason a
    deleted object has to wait, or None.
    """

    kind: Kind
    judge: Callable[[World, AnyObject], tuple[Verdict, dict[str, Any]]]
    holders: Callable[[World, AnyObject], str | None] | None = None

    def status(self, world: World, obj: AnyObject, now: datetime) -> ApiModel:
        """The status the object should have."""
        verdict, fields = self.judge(world, obj)
        taken = _older_with_same_id(world, obj)
        if taken is not None:
            verdict, fields = id_taken(obj.spec.id, taken), {}
        over = world.over_quota(obj) if taken is None else None
        if over is not None:
            verdict = Verdict(False, QUOTA_EXCEEDED, over)
        held = self.holders(world, obj) if obj.deleting and self.holders else None
        if held is not None:
            verdict = Verdict(False, "InUse", held)
        extra = fields.pop("conditions", None)
        conditions = verdict.conditions(obj.status.conditions, obj.generation, now)
        if extra is not None:
            conditions = extra(conditions, obj.generation, now)
        update = {"conditions": conditions, "observed_generation": obj.generation, **fields}
        if "id" in type(obj.status).model_fields:
            update["id"] = getattr(obj.spec, "id", None) or obj.uid
        status: ApiModel = obj.status.model_copy(update=update)
        return status


def _older(one: AnyObject, other: AnyObject) -> bool:
    """Whether one came first. Timestamps have whole seconds: within one, who is Ready stays."""

    def age(obj: AnyObject) -> tuple[datetime, bool, str]:
        return obj.created_at, not is_true(obj.status.conditions, "Ready"), obj.uid

    return age(one) < age(other)


def _older_with_same_id(world: World, obj: AnyObject) -> str | None:
    wanted = getattr(obj.spec, "id", None)
    if not wanted:
        return None
    for other in world.of(obj.kind.plural).by("id", wanted):
        if other.uid != obj.uid and _older(other, obj):
            return f"{other.namespace}/{other.name}".lstrip("/")
    return None


def _flavor(_: World, __: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    return accepted(), {}


def _image(_: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    verdict, state = images.judge(obj.spec)
    declared = obj.spec.source.sha256 if obj.spec.source else None
    # A digest pinned by the first verified download stays while none is declared.
    return verdict, {"state": state, "sha256": declared or obj.status.sha256}


def _keypair(_: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    try:
        return accepted(), {"fingerprint": keys.fingerprint(obj.spec.type, obj.spec.public_key)}
    except InvalidSpec as error:
        return Verdict(False, error.reason, error.message, stalled=True), {"fingerprint": ""}


def _network(world: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    def taken(type: str, id: int) -> bool:
        others = world.of("networks").by("segment", (type, id))
        physical = obj.spec.segment.physical_network if obj.spec.segment else None
        return any(
            o.uid != obj.uid and o.status.segment.physical_network == physical for o in others
        )

    if obj.spec.external:
        return not_supported_yet("spec.external"), {}
    try:
        segment = obj.status.segment or networks.pick_segment(obj.uid, obj.spec, taken)
    except InvalidSpec as error:
        return Verdict(False, error.reason, error.message, stalled=True), {}
    used = world.of("ipaddresses").count("networkUID", obj.uid)
    subnets = world.of("subnets").by("network", (obj.namespace, obj.name))
    room = min(sum(networks.capacity(s.spec) for s in subnets), networks.COUNT_MAX)
    fields: dict[str, Any] = {
        "segment": segment,
        "mtu": networks.mtu(obj.spec, segment),
        "used_addresses": used,
        "free_addresses": max(0, room - used),
    }
    if obj.spec.external_network is not None:
        missing = not_supported_yet("spec.externalNetwork")
        fields["conditions"] = lambda old, generation, now: missing.conditions(
            old, generation, now, EXTERNAL_NETWORK_READY
        )
    return accepted(), fields


def _network_holders(world: World, obj: AnyObject) -> str | None:
    ports = world.of("ports").by("network", obj.key)
    if ports:
        names = ", ".join(f"{port.namespace}/{port.name}" for port in ports[:3])
        return f"{len(ports)} ports are on it ({names}{', ...' if len(ports) > 3 else ''})"
    used = world.of("ipaddresses").count("networkUID", obj.uid)
    return f"{used} addresses of it are claimed" if used else None


def _subnet(world: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    network = world.of("networks").get(obj.namespace, obj.spec.network.name)
    if network is None:
        message = f"network {obj.namespace}/{obj.spec.network.name} does not exist"
        return Verdict(False, NOT_FOUND, message), {"gateway": None}
    siblings = [
        (other.name, other.spec)
        for other in world.of("subnets").by("network", network.key)
        if _older(other, obj)
    ]
    try:
        networks.check_subnet(obj.spec, siblings)
    except InvalidSpec as error:
        return Verdict(False, error.reason, error.message, stalled=True), {"gateway": None}
    way = networks.gateway(obj.spec)
    verdict = accepted()
    if ipaddress.ip_network(obj.spec.cidr).version == 6 and obj.spec.dhcp and obj.spec.routes:
        verdict = not_supported_yet("spec.routes of an IPv6 subnet")
    return verdict, {"gateway": str(way) if way else None}


def _subnet_holders(world: World, obj: AnyObject) -> str | None:
    used = world.of("ipaddresses").count("subnet", obj.key)
    return f"{used} addresses of it are claimed" if used else None


def _securitygroup(_: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    if obj.spec.rules:
        return not_supported_yet("SecurityGroup rules"), {}
    return accepted(), {}


def _router(_: World, __: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    return not_supported_yet("Router"), {}


def _floatingip(_: World, __: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    return not_supported_yet("FloatingIP"), {}


def _aggregate(world: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    missing = [host for host in obj.spec.hosts if world.of("hypervisors").get(None, host) is None]
    fields = {"host_count": len(obj.spec.hosts) - len(missing)}
    for host in obj.spec.hosts:
        for other in world.of("aggregates").by("host", host):
            zone = other.spec.availability_zone
            wanted = obj.spec.availability_zone
            if zone and wanted and zone != wanted and _older(other, obj):
                message = f"host {host} is in zone {zone} by aggregate {other.name}, which is older"
                return Verdict(False, "ZoneConflict", message, stalled=True), fields
    if missing:
        message = f"no hypervisor named {', '.join(missing[:10])}"
        return Verdict(False, "HostNotFound", message), fields
    return accepted(), fields


def _servergroup(world: World, obj: AnyObject) -> tuple[Verdict, dict[str, Any]]:
    guests = sorted(
        (g for g in world.of("guests").by("group", obj.uid) if g.status.phase != "Gone"),
        key=lambda guest: (guest.created_at, guest.name),
    )
    # The newest incarnation speaks for its Instance.
    members = {guest.spec.instance.uid: guest for guest in guests}
    nodes = sorted({guest.spec.hypervisor for guest in members.values()})
    return accepted(), {
        "member_count": len(members),
        "members": [_member(guest) for guest in list(members.values())[:MEMBERS_MAX]],
        "pinned_hosts": nodes if obj.spec.policy == "affinity" else [],
    }


def _member(guest: AnyObject) -> ServerGroupMember:
    identity = guest.spec.instance
    return ServerGroupMember(
        name=identity.name, uid=identity.uid, id=identity.id, node=guest.spec.hypervisor
    )


def judges(kinds: dict[str, Kind]) -> tuple[Judge, ...]:
    """All judges, by the plural names of the kinds."""
    return (
        Judge(kinds["flavors"], _flavor),
        Judge(kinds["images"], _image),
        Judge(kinds["keypairs"], _keypair),
        Judge(kinds["networks"], _network, _network_holders),
        Judge(kinds["subnets"], _subnet, _subnet_holders),
        Judge(kinds["securitygroups"], _securitygroup),
        Judge(kinds["routers"], _router),
        Judge(kinds["floatingips"], _floatingip),
        Judge(kinds["aggregates"], _aggregate),
        Judge(kinds["servergroups"], _servergroup),
    )
