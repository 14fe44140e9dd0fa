"""Addresses and Ports: claimed by name before the Guest is made, released after it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from novakube_crds.base import API_VERSION, FINALIZER
from novakube_crds.v1alpha1.instance import NETWORK_READY
from novakube_crds.v1alpha1.port import ADDRESS_IN_USE
from novakube_kit.errors import AlreadyExists, InvalidSpec, NotFound
from novakube_kit.objects import Object
from novakube_operator.core import ipam
from novakube_operator.core.accept import NicRequest, NotAcceptable
from novakube_operator.core.guest_spec import ClaimedNic, mac_of
from novakube_operator.core.naming import port_name
from novakube_operator.instances.context import RESOURCES, Context

AnyObject = Object[Any, Any]


class Claims:
    """Claims for the NICs of one Instance."""

    def __init__(self, context: Context, obj: AnyObject) -> None:
        self._context = context
        self._obj = obj

    async def nic(self, index: int, request: NicRequest) -> ClaimedNic:
        """Addresses, then the Port; what an earlier pass claimed is found again.

        Raises:
            NotAcceptable: no free address, or the wanted one cannot be had.
        """
        if request.port is not None:
            return await self._own_port(index, request, request.port)
        address, subnet = await self._address(
            index, request, request.address, "Instance", self._obj
        )
        mac = mac_of(self._obj.uid, index)
        port = await self._operator_port(index, request, address, subnet, mac)
        return ClaimedNic(
            port.uid, port.name, mac, request.network, ((address, subnet),), request.tag
        )

    async def _own_port(self, index: int, request: NicRequest, port: AnyObject) -> ClaimedNic:
        """A user's Port: claimed in its status, its spec untouched.

        Claimed before its addresses are: a Port without a claim may vanish with what it holds.
        """
        port = await self._claimed(index, port)
        wanted = port.spec.fixed_ips or [None]
        held: list[tuple[str, AnyObject]] = []
        for item in wanted:
            explicit = item.address if item is not None else None
            held.append(await self._address(index, request, explicit, "Port", port, held))
        mac = port.spec.mac or port.status.mac or mac_of(port.uid, 0)
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
        self, index: int, request: NicRequest, address: str, subnet: AnyObject, mac: str
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
                "fixedIPs": [{"subnet": {"name": subnet.name}, "address": address}],
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

    async def _address(
        self,
        index: int,
        request: NicRequest,
        explicit: str | None,
        kind: str,
        holder: AnyObject,
        held: Sequence[tuple[str, AnyObject]] = (),
    ) -> tuple[str, AnyObject]:
        """An address for a NIC: the one claimed before, the wanted one, or the next free one.

        ``held``: what its other fixed IPs have already.
        """
        others = {address for address, _ in held}
        for claim in self._context.by("ipaddresses", "claim", holder.uid):
            same = claim.spec.claim.nic == index or kind == "Port"
            same = same and claim.spec.address not in others
            same = same and explicit in (None, claim.spec.address)
            subnet = self._context.get("subnets", claim.namespace, claim.spec.subnet.name)
            if same and claim.spec.network_uid == request.network.uid and subnet is not None:
                return claim.spec.address, subnet
        if explicit is not None:
            return await self._explicit(index, request, explicit, kind, holder)
        for subnet in request.subnets:
            address = await self._free(index, request, subnet, kind, holder)
            if address is not None:
                return address, subnet
        error = ipam.full(request.network.name, len(request.subnets))
        raise NotAcceptable(NETWORK_READY, error.reason, error.message, pending=True)

    async def _explicit(
        self, index: int, request: NicRequest, explicit: str, kind: str, holder: AnyObject
    ) -> tuple[str, AnyObject]:
        problem: InvalidSpec | None = None
        for subnet in request.subnets:
            try:
                address = ipam.check_explicit(explicit, subnet.spec, subnet.name)
            except (InvalidSpec, ValueError) as error:
                problem = error if isinstance(error, InvalidSpec) else InvalidSpec(str(error))
                continue
            if await self._claim(index, request, subnet, address, kind, holder):
                return address, subnet
            message = f"address {address} of network {request.network.name} is in use"
            raise NotAcceptable(NETWORK_READY, ADDRESS_IN_USE, message, pending=True)
        reason = problem.reason if problem else "InvalidSpec"
        message = problem.message if problem else f"address {explicit} fits no subnet"
        raise NotAcceptable(NETWORK_READY, reason, f"spec.networks[{index}]: {message}")

    async def _free(
        self, index: int, request: NicRequest, subnet: AnyObject, kind: str, holder: AnyObject
    ) -> str | None:
        store, uid = self._context.stores.of("ipaddresses"), request.network.uid
        lost: set[str] = set()

        def taken(address: str) -> bool:
            return address in lost or store.count("address", (uid, address)) > 0

        while True:
            address = ipam.next_free(subnet.spec, taken)
            if address is None:
                return None
            if await self._claim(index, request, subnet, address, kind, holder):
                return address
            lost.add(address)

    async def _claim(
        self,
        index: int,
        request: NicRequest,
        subnet: AnyObject,
        address: str,
        kind: str,
        holder: AnyObject,
    ) -> bool:
        network = request.network
        body = {
            "apiVersion": API_VERSION,
            "kind": "IPAddress",
            "metadata": {
                "name": ipam.claim_name(network.uid, address),
                "finalizers": [FINALIZER],
            },
            "spec": {
                "network": {"name": network.name},
                "networkUID": network.uid,
                "subnet": {"name": subnet.name},
                "address": address,
                "claim": {
                    "kind": kind,
                    "namespace": holder.namespace,
                    "name": holder.name,
                    "uid": holder.uid,
                    "nic": index,
                },
            },
        }
        try:
            await self._context.create("ipaddresses", body, network.namespace)
        except AlreadyExists:
            name = ipam.claim_name(network.uid, address)
            try:
                raw = await self._context.kube.get(
                    RESOURCES["ipaddresses"], name, network.namespace
                )
            except NotFound:
                return False
            self._context.stores.of("ipaddresses").observe(raw)
            return bool(raw["spec"]["claim"]["uid"] == holder.uid)
        return True

    async def release(self) -> None:
        """After the last Guest is gone.

        Operator-made Ports and addresses end; users' Ports are free again and keep theirs.
        """
        for port in self._context.by("ports", "owner", self._obj.uid):
            await self._context.remove(port)
        for port in self._context.by("ports", "claim", self._obj.uid):
            cleared = {"claim": None, "node": None, "state": "Down"}
            await self._context.patch(port, {"status": cleared}, "status")
        for claim in self._context.by("ipaddresses", "claim", self._obj.uid):
            await self._context.remove(claim)
