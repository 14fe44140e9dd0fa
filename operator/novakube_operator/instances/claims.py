"""Addresses and Ports: claimed by name before the Guest is made, released after it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from novakube_crds.base import API_VERSION, FINALIZER
from novakube_crds.v1alpha1.hypervisorreport import OrphanDomain, OrphanNic
from novakube_crds.v1alpha1.instance import NETWORK_READY
from novakube_crds.v1alpha1.port import ADDRESS_IN_USE
from novakube_kit.errors import AlreadyExists, InvalidSpec, NotFound
from novakube_kit.objects import Object
from novakube_operator.core import ipam
from novakube_operator.core.accept import NicRequest, NotAcceptable
from novakube_operator.core.adoption import addresses_of
from novakube_operator.core.guest_spec import ClaimedNic, mac_of
from novakube_operator.core.naming import port_name
from novakube_operator.core.nodes import node_of_namespace
from novakube_operator.instances.context import RESOURCES, Context

AnyObject = Object[Any, Any]
Held = tuple[str, AnyObject]
"""(address, Subnet)."""


@dataclass(frozen=True, slots=True)
class _Seeker:
    """The NIC that an address is for, and who will hold the claim."""

    index: int
    request: NicRequest
    kind: Literal["Instance", "Port"]
    holder: AnyObject
    mac: str
    had: tuple[str, ...] = ()
    """Addresses of the NIC of a machine that is taken over: wanted before any other."""


def _version(subnet: AnyObject) -> int:
    return 6 if ":" in subnet.spec.cidr else 4


class Claims:
    """Claims for the NICs of one Instance."""

    def __init__(self, context: Context, obj: AnyObject, machine: Sequence[OrphanNic] = ()) -> None:
        """Args: machine: NICs, in order, of the machine that the Instance takes over."""
        self._context = context
        self._obj = obj
        self._machine = machine

    async def nic(self, index: int, request: NicRequest) -> ClaimedNic:
        """Addresses, then the Port; what an earlier pass claimed is found again.

        Raises:
            NotAcceptable: no free address, or the wanted one cannot be had.
        """
        if request.port is not None:
            return await self._own_port(index, request, request.port)
        made = self._context.get("ports", self._obj.namespace, port_name(self._obj.uid, index))
        old = self._machines(index, request)
        mac = old.mac if old is not None else mac_of(self._obj.uid, index)
        if made is not None and made.spec.mac is not None:
            mac = made.spec.mac
        had = tuple(old.addresses) if old is not None else ()
        seeker = _Seeker(index, request, "Instance", self._obj, mac, had)
        held = await self._addresses(seeker, request.address)
        port = await self._operator_port(index, request, held, mac)
        return ClaimedNic(port.uid, port.name, mac, request.network, tuple(held), request.tag)

    def _machines(self, index: int, request: NicRequest) -> OrphanNic | None:
        """The NIC of the machine that is taken over in this place, if it is of that Network.

        By name: a Network that was restored from a manifest has another UID.
        """
        if index >= len(self._machine):
            return None
        nic, network = self._machine[index], request.network
        return nic if (nic.network_namespace, nic.network_name) == network.key else None

    async def _own_port(self, index: int, request: NicRequest, port: AnyObject) -> ClaimedNic:
        """A user's Port: claimed in its status, its spec untouched.

        Claimed before its addresses are: a Port without a claim may vanish with what it holds.
        """
        port = await self._claimed(index, port)
        old = self._machines(index, request)
        machines = old.mac if old is not None else mac_of(port.uid, 0)
        mac = port.spec.mac or port.status.mac or machines
        had = tuple(old.addresses) if old is not None else ()
        seeker = _Seeker(index, request, "Port", port, mac, had)
        held: list[Held] = []
        for item in port.spec.fixed_ips:
            held.append(await self._address(seeker, item.address, request.subnets, held))
        if not held:
            held = await self._addresses(seeker, None)
        status = {
            "id": port.spec.id or port.uid,
            "mac": mac,
            "networkUID": request.network.uid,
            "addresses": [
                {"address": address, "subnet": subnet.name, "subnetUID": subnet.uid}
                for address, subnet in held
            ],
        }
        if any(port.status.wire().get(name) != value for name, value in status.items()):
            port = await self._context.patch(port, {"status": status}, "status")
        return ClaimedNic(port.uid, port.name, mac, request.network, tuple(held), request.tag)

    async def _claimed(self, index: int, port: AnyObject) -> AnyObject:
        if port.status.claim is not None:
            return port
        claim = {"instanceName": self._obj.name, "instanceUID": self._obj.uid, "nic": index}
        port = await self._context.finalize(port)
        return await self._context.patch(port, {"status": {"claim": claim}}, "status")

    async def _operator_port(
        self, index: int, request: NicRequest, held: Sequence[Held], mac: str
    ) -> AnyObject:
        name = port_name(self._obj.uid, index)
        found = self._context.get("ports", self._obj.namespace, name)
        if found is not None:
            return found
        network = request.network
        body = {
            "apiVersion": API_VERSION,
            "kind": "Port",
            "metadata": {
                "name": name,
                "finalizers": [FINALIZER],
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": "Instance",
                        "name": self._obj.name,
                        "uid": self._obj.uid,
                        "controller": True,
                    }
                ],
            },
            "spec": {
                "network": {"name": network.name, "namespace": network.namespace},
                "fixedIPs": [
                    {"subnet": {"name": subnet.name}, "address": address}
                    for address, subnet in held
                ],
                "mac": mac,
                "deviceID": self._obj.spec.id or self._obj.uid,
                "deviceOwner": "compute:nova",
            },
        }
        try:
            return await self._context.create("ports", body, self._obj.namespace)
        except AlreadyExists:
            return await self._known(name)

    async def _known(self, name: str) -> AnyObject:
        """A Port of that name that the store had not seen: ours by its owner, or a clash."""
        raw = await self._context.kube.get(RESOURCES["ports"], name, self._obj.namespace)
        port = self._context.stores.of("ports").observe(raw)
        if port is None or self._obj.uid not in port.owner_uids:
            message = f"port {self._obj.namespace}/{name} exists and is not this instance's"
            raise NotAcceptable(NETWORK_READY, "NameTaken", message)
        return port

    async def _addresses(self, seeker: _Seeker, explicit: str | None) -> list[Held]:
        """The wanted address alone; without one, an address of each family the network has."""
        subnets = seeker.request.subnets
        if explicit is not None:
            return [await self._address(seeker, explicit, subnets)]
        families = [[s for s in subnets if _version(s) == version] for version in (4, 6)]
        return [await self._address(seeker, None, family) for family in families if family]

    async def _address(
        self,
        seeker: _Seeker,
        explicit: str | None,
        subnets: Sequence[AnyObject],
        held: Sequence[Held] = (),
    ) -> Held:
        """An address for a NIC: the one claimed before, the wanted one, or the next free one.

        ``held``: what its other fixed IPs have already.
        """
        found = self._claimed_before(seeker, explicit, subnets, held)
        if found is not None:
            return found
        if explicit is not None:
            return await self._explicit(seeker, explicit, subnets)
        for subnet in subnets:
            address = await self._had(seeker, subnet) or await self._free(seeker, subnet)
            if address is not None:
                return address, subnet
        error = ipam.full(seeker.request.network.name, len(subnets))
        raise NotAcceptable(NETWORK_READY, error.reason, error.message, pending=True)

    def _claimed_before(
        self,
        seeker: _Seeker,
        explicit: str | None,
        subnets: Sequence[AnyObject],
        held: Sequence[Held],
    ) -> Held | None:
        others = {address for address, _ in held}
        versions = {_version(subnet) for subnet in subnets}
        for claim in self._context.by("ipaddresses", "claim", seeker.holder.uid):
            same = claim.spec.claim.nic == seeker.index or seeker.kind == "Port"
            same = same and claim.spec.address not in others
            same = same and explicit in (None, claim.spec.address)
            same = same and claim.spec.network_uid == seeker.request.network.uid
            subnet = self._context.get("subnets", claim.namespace, claim.spec.subnet.name)
            if same and subnet is not None and _version(subnet) in versions:
                return claim.spec.address, subnet
        return None

    async def _had(self, seeker: _Seeker, subnet: AnyObject) -> str | None:
        """An address that the machine has already, if it can be claimed."""
        for address in seeker.had:
            try:
                ipam.check_explicit(address, subnet.spec, subnet.name, seeker.mac)
            except InvalidSpec:
                continue
            if await self._claim(seeker, subnet, address):
                return address
        return None

    def _machine_of_another(self, seeker: _Seeker, address: str) -> str | None:
        """The node with a domain without a Guest that has the address and is another's.

        Claims may be lost with a restored etcd; the machine goes on with its address.
        """
        uid, id = seeker.request.network.uid, self._obj.spec.id or self._obj.uid
        for report in self._context.by("hypervisorreports", "orphanAddress", (uid, address)):
            for domain in report.status.orphans:
                other = (domain.instance_id, domain.instance_namespace) != (id, self._obj.namespace)
                if other and (uid, address) in addresses_of(domain):
                    return str(node_of_namespace(report.namespace))
        return None

    async def _explicit(self, seeker: _Seeker, explicit: str, subnets: Sequence[AnyObject]) -> Held:
        network, problem = seeker.request.network, None
        for subnet in subnets:
            try:
                address = ipam.check_explicit(explicit, subnet.spec, subnet.name, seeker.mac)
            except (InvalidSpec, ValueError) as error:
                problem = error if isinstance(error, InvalidSpec) else InvalidSpec(str(error))
                continue
            node = self._machine_of_another(seeker, address)
            if node is None and await self._claim(seeker, subnet, address):
                return address, subnet
            by = f" by a domain on {node} that belongs to no Instance" if node is not None else ""
            message = f"address {address} of network {network.name} is in use{by}"
            raise NotAcceptable(NETWORK_READY, ADDRESS_IN_USE, message, pending=True)
        reason = problem.reason if problem else "InvalidSpec"
        message = problem.message if problem else f"address {explicit} fits no subnet"
        raise NotAcceptable(NETWORK_READY, reason, f"spec.networks[{seeker.index}]: {message}")

    async def _free(self, seeker: _Seeker, subnet: AnyObject) -> str | None:
        store, uid = self._context.stores.of("ipaddresses"), seeker.request.network.uid
        last, lost = self._context.addresses_given, set[str]()

        def taken(address: str) -> bool:
            if address in lost or store.count("address", (uid, address)) > 0:
                return True
            return self._machine_of_another(seeker, address) is not None

        while True:
            address = ipam.next_free(subnet.spec, taken, seeker.mac, last.get(subnet.uid))
            if address is None:
                return None
            last[subnet.uid] = address
            if await self._claim(seeker, subnet, address):
                return address
            lost.add(address)

    async def _claim(self, seeker: _Seeker, subnet: AnyObject, address: str) -> bool:
        network, holder = seeker.request.network, seeker.holder
        name = ipam.claim_name(network.uid, address)
        body = {
            "apiVersion": API_VERSION,
            "kind": "IPAddress",
            "metadata": {"name": name, "finalizers": [FINALIZER]},
            "spec": {
                "network": {"name": network.name},
                "networkUID": network.uid,
                "subnet": {"name": subnet.name},
                "address": address,
                "claim": {
                    "kind": seeker.kind,
                    "namespace": holder.namespace,
                    "name": holder.name,
                    "uid": holder.uid,
                    "nic": seeker.index,
                },
            },
        }
        try:
            await self._context.create("ipaddresses", body, network.namespace)
        except AlreadyExists:
            try:
                raw = await self._context.kube.get(
                    RESOURCES["ipaddresses"], name, network.namespace
                )
            except NotFound:
                return False
            self._context.stores.of("ipaddresses").observe(raw)
            return bool(raw["spec"]["claim"]["uid"] == holder.uid)
        return True

    def _made(self) -> list[AnyObject]:
        """The Ports made for this Instance, also those whose owner reference was stripped."""
        owned = {port.uid: port for port in self._context.by("ports", "owner", self._obj.uid)}
        id = self._obj.spec.id or self._obj.uid
        for index in range(max(1, len(self._obj.spec.networks))):
            name = port_name(self._obj.uid, index)
            port = self._context.get("ports", self._obj.namespace, name)
            if port is not None and port.spec.device_id == id and port.status.claim is None:
                owned[port.uid] = port
        return list(owned.values())

    async def release(self) -> None:
        """After the last Guest is gone.

        Operator-made Ports and addresses end; users' Ports are free again and keep theirs.
        """
        for port in self._made():
            await self._context.remove(port)
        await release(self._context, self._obj.uid)


async def release(context: Context, instance_uid: str) -> None:
    """Ports and addresses of an Instance are free; users' Ports are kept, with theirs."""
    for port in context.by("ports", "owner", instance_uid):
        await context.remove(port)
    for port in context.by("ports", "claim", instance_uid):
        cleared = {"claim": None, "node": None, "state": "Down"}
        await context.patch(port, {"status": cleared}, "status")
    for claim in context.by("ipaddresses", "claim", instance_uid):
        await context.remove(claim)


async def release_vanished(context: Context, domain: OrphanDomain) -> None:
    """What the Instance of a domain held that vanished without a deletion of ours, if it did.

    Nothing when it is there or has a Guest: a fresh read decides, the stores may be late.
    """
    uid, name, namespace = domain.instance_uid, domain.instance_name, domain.instance_namespace
    if not uid or not name or context.by("guests", "instance", uid):
        return
    try:
        found = await context.kube.get(RESOURCES["instances"], name, namespace)
    except NotFound:
        found = None
    if found is None or found["metadata"]["uid"] != uid:
        await release(context, uid)
