"""The scheduler's view of all nodes, kept up to date by changes: no sums in a reconcile.

A change of a Guest, Hypervisor or Aggregate marks its nodes; a decision makes anew the Hosts of
marked nodes only. A choice holds its room until its Guest is counted, so that parallel creates
see one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from novakube_kit.objects import Object
from novakube_operator.core.faults import NOT_THE_NODES_FAULT
from novakube_operator.core.guest_spec import used_by
from novakube_operator.core.scheduling.hosts import Amounts, Host, Load
from novakube_operator.core.scheduling.view import host_of

AnyObject = Object[Any, Any]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room of a create under way."""

    node: str
    amounts: Amounts
    networks: frozenset[str]
    """UIDs of its Networks, which are bound to that node by it."""
    group: str | None = None
    """UID of its server group."""


@dataclass(frozen=True, slots=True)
class _Share:
    """What one Guest, or one create under way, adds to its node."""

    node: str
    amounts: Amounts
    building: bool
    group: str | None


class Capacity:
    """Loads by node, members of server groups by node, and the Hosts made of them."""

    def __init__(self) -> None:
        self._loads: dict[str, Load] = {}
        self._groups: dict[str, Counter[str]] = {}
        self._reserved: dict[str, Reservation] = {}
        self._hypervisors: dict[str, AnyObject] = {}
        self._aggregates: dict[str, dict[str, AnyObject]] = {}
        self._hosts: dict[str, Host] = {}
        self._stale: set[str] = set()
        self.rebuilt = 0
        """Hosts made so far: what a decision costs beyond its filters."""

    def reserve(self, instance_uid: str, reservation: Reservation) -> None:
        """Holds room for an Instance until ``release``."""
        self.release(instance_uid)
        self._reserved[instance_uid] = reservation
        self._add(_share_of_reservation(reservation), 1)

    def release(self, instance_uid: str) -> None:
        """Ends a reservation, if there is one: the Guest is counted, or the create failed."""
        held = self._reserved.pop(instance_uid, None)
        if held is not None:
            self._add(_share_of_reservation(held), -1)

    def node_of_network(self, network_uid: str) -> str | None:
        """The node that a create under way has chosen for a guest of the Network."""
        held = (item for item in self._reserved.values() if network_uid in item.networks)
        return next((item.node for item in held), None)

    def changed(self, plural: str, old: AnyObject | None, new: AnyObject | None) -> None:
        """Takes a change of an object of any kind."""
        match plural:
            case "guests":
                self._guest_changed(old, new)
            case "hypervisors":
                self._hypervisor_changed(old, new)
            case "aggregates":
                self._aggregate_changed(old, new)

    def _guest_changed(self, old: AnyObject | None, new: AnyObject | None) -> None:
        before = _share(old) if old is not None else None
        after = _share(new) if new is not None else None
        if before != after:
            for share, sign in ((before, -1), (after, 1)):
                if share is not None:
                    self._add(share, sign)
        if old is not None and new is not None and old.status.phase != new.status.phase:
            self._build_ended(new)

    def _build_ended(self, guest: AnyObject) -> None:
        node, failures = guest.spec.hypervisor, self.failures(guest.spec.hypervisor)
        if guest.status.phase == "Failed" and guest.status.reason not in NOT_THE_NODES_FAULT:
            self._set_failures(node, failures + 1)
        elif guest.status.phase == "Ready":
            self._set_failures(node, 0)

    def _hypervisor_changed(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is None:
            if old is not None:
                self._hypervisors.pop(old.name, None)
                self._hosts.pop(old.name, None)
            return
        if new.name not in self._hypervisors:
            self._set_failures(new.name, new.status.build_failures)
        if not new.spec.enabled:
            # An administrator looks after it: afterwards it begins anew.
            self._set_failures(new.name, 0)
        self._hypervisors[new.name] = new
        self._stale.add(new.name)

    def _aggregate_changed(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if old is not None:
            for host in old.spec.hosts:
                self._aggregates.get(host, {}).pop(old.name, None)
                self._stale.add(host)
        if new is not None:
            for host in new.spec.hosts:
                self._aggregates.setdefault(host, {})[new.name] = new
                self._stale.add(host)

    def _add(self, share: _Share, sign: int) -> None:
        load = self.load(share.node)
        used = load.used.plus(share.amounts) if sign > 0 else load.used.minus(share.amounts)
        self._set(
            share.node,
            replace(
                load,
                used=used,
                instances=load.instances + sign,
                io_ops=load.io_ops + sign * share.building,
            ),
        )
        if share.group is not None:
            members = self._groups.setdefault(share.group, Counter())
            members[share.node] += sign
            if not members[share.node]:
                del members[share.node]
            if not members:
                del self._groups[share.group]

    def _set_failures(self, node: str, failures: int) -> None:
        if failures != self.failures(node):
            self._set(node, replace(self.load(node), build_failures=failures))

    def _set(self, node: str, load: Load) -> None:
        self._loads[node] = load
        self._stale.add(node)

    def load(self, node: str) -> Load:
        """What is placed on the node."""
        return self._loads.get(node) or Load()

    def failures(self, node: str) -> int:
        """Builds that failed there in a row."""
        return self.load(node).build_failures

    def members(self, group_uid: str) -> Mapping[str, int]:
        """Members of a server group by node, creates under way included."""
        return self._groups.get(group_uid, Counter())

    def hosts(self) -> Collection[Host]:
        """All nodes; only those that changed since the last call are made anew."""
        for node in self._stale:
            hypervisor = self._hypervisors.get(node)
            if hypervisor is not None:
                aggregates = self._aggregates.get(node, {}).values()
                self._hosts[node] = host_of(hypervisor, aggregates, self.load(node))
                self.rebuilt += 1
        self._stale.clear()
        return self._hosts.values()


def _share(guest: AnyObject) -> _Share:
    group = guest.spec.server_group
    # A Guest that its node refused keeps room until it is gone, but is no member.
    member = group is not None and guest.status.phase not in ("Rejected", "Gone")
    building = guest.status.phase in ("Pending", "Building") and guest.spec.teardown is None
    return _Share(
        guest.spec.hypervisor, used_by(guest.spec), building, group.uid if member else None
    )


def _share_of_reservation(held: Reservation) -> _Share:
    return _Share(held.node, held.amounts, True, held.group)
