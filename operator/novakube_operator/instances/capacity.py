"""What every node has promised, kept up to date by changes of Guests: no sums in a reconcile."""

from __future__ import annotations

from typing import Any

from novakube_crds.conditions import get_condition
from novakube_crds.v1alpha1.hypervisor import SCHEDULABLE
from novakube_kit.objects import Object
from novakube_operator.core.guest_spec import used_by
from novakube_operator.core.scheduling.hosts import Amounts, Host

AnyObject = Object[Any, Any]


class Capacity:
    """Amounts in use by node."""

    def __init__(self) -> None:
        self._used: dict[str, Amounts] = {}

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
