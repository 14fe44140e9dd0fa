"""What every node has promised, kept up to date by changes of Guests: no sums in a reconcile.

A choice holds its room until its Guest is counted, so that parallel creates see one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.hypervisor import SCHEDULABLE
from novakube_kit.objects import Object
from novakube_operator.core.guest_spec import used_by
from novakube_operator.core.scheduling.hosts import Amounts, Host

AnyObject = Object[Any, Any]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room of a create under way."""

    node: str
    amounts: Amounts
    networks: frozenset[str]
    """UIDs of its Networks, which are bound to that node by it."""


class Capacity:
    """Amounts in use by node."""

    def __init__(self) -> None:
        self._used: dict[str, Amounts] = {}
        self._reserved: dict[str, Reservation] = {}

    def reserve(self, instance_uid: str, reservation: Reservation) -> None:
        """Holds room for an Instance until ``release``."""
        self.release(instance_uid)
        self._reserved[instance_uid] = reservation
        node = reservation.node
        self._used[node] = self.used(node).plus(reservation.amounts)

    def release(self, instance_uid: str) -> None:
        """Ends a reservation, if there is one: the Guest is counted, or the create failed."""
        held = self._reserved.pop(instance_uid, None)
        if held is not None:
            self._used[held.node] = self.used(held.node).minus(held.amounts)

    def node_of_network(self, network_uid: str) -> str | None:
        """The node that a create under way has chosen for a guest of the Network."""
        held = (item for item in self._reserved.values() if network_uid in item.networks)
        return next((item.node for item in held), None)

    def changed(self, old: AnyObject | None, new: AnyObject | None) -> None:
        """Takes a change of a Guest; its sizes never change."""
        if old is None and new is not None:
            node = new.spec.hypervisor
            self._used[node] = self.used(node).plus(used_by(new.spec))
        elif new is None and old is not None:
            node = old.spec.hypervisor
            self._used[node] = self.used(node).minus(used_by(old.spec))

    def used(self, node: str) -> Amounts:
        """What the node has promised."""
        return self._used.get(node, Amounts())

    def host(self, hypervisor: AnyObject) -> Host:
        """The node as the scheduler sees it."""
        schedulable = get_condition(hypervisor.status.conditions, SCHEDULABLE)
        why: str | None = "has not reported yet"
        if schedulable is not None:
            why = None if schedulable.status == "True" else schedulable.message
        if hypervisor.deleting:
            why = "is being removed"
        return Host(
            hypervisor.name,
            hypervisor.spec,
            hypervisor.status.capacity,
            hypervisor.status.availability_zone,
            why,
            self.used(hypervisor.name),
        )
