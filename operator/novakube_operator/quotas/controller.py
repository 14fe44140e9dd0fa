"""Keeps each Quota's status, and judges the Ports that users made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from novakube_crds.v1alpha1.quota import QUOTA_EXCEEDED
from novakube_kit.clock import Clock
from novakube_kit.events import EventRecorder, Regarding
from novakube_kit.kube import KubePort
from novakube_kit.objects import Key, Object
from novakube_kit.resources import resource_of
from novakube_operator.controllers import Controller
from novakube_operator.core.merge import replacing
from novakube_operator.core.projects import PROJECT_TAKEN
from novakube_operator.core.quota import FOREIGN_ENTRY_S
from novakube_operator.core.quota_usage import RANKED, made_for
from novakube_operator.core.resources.verdict import NOT_FOUND, Verdict, accepted
from novakube_operator.quotas.admission import Admission
from novakube_operator.quotas.ledger import Ledger
from novakube_operator.stores import Stores

AnyObject = Object[Any, Any]
ROLLUP_S = 5.0
"""A Quota's use is written at most this often, batches of creates excepted."""


class QuotaController:
    """One pass over one namespace's Quota; a key is the namespace."""

    def __init__(self, admission: Admission, stores: Stores, events: EventRecorder) -> None:
        self._admission = admission
        self._stores = stores
        self._events = events

    async def reconcile(self, namespace: str) -> float | None:
        """One pass: the Quota of a bound namespace is there, its status is true.

        While entries are left it looks again: one whose leader is gone ends by time.
        """
        known = self._stores.namespaces.get(namespace)
        if known is None or self._stores.terminating(namespace):
            return None
        ledger = self._admission.ledger
        refusal = ledger.refusal(namespace)
        if refusal is not None:
            about = Regarding("v1", "Namespace", "", namespace, known["metadata"]["uid"])
            message = f"{refusal}: no instance is made here"
            self._events.record(about, "Warning", PROJECT_TAKEN, message)
        if not ledger.metered(namespace):
            return None
        return FOREIGN_ENTRY_S if await self._admission.settle(namespace) else None

    def keys(self) -> list[str]:
        """All namespaces that limits hold for."""
        ledger = self._admission.ledger
        return [name for name in self._stores.namespaces if ledger.metered(name)]

    def wakes(
        self, plural: str, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[str, float]]:
        """Namespaces whose use or limits a change touches."""
        obj = new or old
        if obj is None:
            return
        if plural == "quotaclasses":
            for quota in self._stores.of("quotas"):
                yield quota.namespace, 0.0
        elif plural == "quotas":
            if old is None or new is None or old.spec != new.spec:
                yield obj.namespace, 0.0
        elif _counts(plural, old, new):
            namespace = obj.spec.instance.namespace if plural == "guests" else obj.namespace
            yield namespace, ROLLUP_S


def _counts(plural: str, old: AnyObject | None, new: AnyObject | None) -> bool:
    """Whether a change alters a project's use, or ends what was written ahead."""
    if plural == "instances":
        return new is None
    if plural == "securitygroups" and old is not None and new is not None:
        return bool(old.spec.rules != new.spec.rules)
    counted = plural == "guests" or (plural in RANKED and plural != "keypairs")
    return counted and (old is None or new is None)


class UserPortController:
    """One pass over one Port that a user made: whether it is accepted.

    Ports that the operator made are their Instance's affair, and cost no write more.
    """

    def __init__(self, ledger: Ledger, stores: Stores, kube: KubePort, clock: Clock) -> None:
        self._ledger = ledger
        self._stores = stores
        self._kube = kube
        self._clock = clock

    async def reconcile(self, key: Key) -> float | None:
        """One pass; nothing is written when nothing changed."""
        port = self._stores.of("ports").get(*key)
        if port is None or port.deleting or made_for(port) is not None:
            return None
        now, old = self._clock.now(), port.status
        conditions = self._verdict(port).conditions(old.conditions, port.generation, now)
        fields = {
            "id": port.spec.id or port.uid,
            "conditions": conditions,
            "observed_generation": port.generation,
        }
        new = old.model_copy(update=fields)
        if new == old:
            return None
        patch = {
            "metadata": {"resourceVersion": port.resource_version},
            "status": replacing(old.wire(), new.wire()),
        }
        written = await self._kube.patch(
            resource_of(port.kind), port.name, patch, port.namespace, sub="status"
        )
        self._stores.of("ports").observe(written)
        return None

    def _verdict(self, port: AnyObject) -> Verdict:
        over = self._ledger.verdict(port)
        # One that an Instance has was within the quota when it was claimed, and stays its.
        if over is not None and port.status.claim is None:
            return Verdict(False, QUOTA_EXCEEDED, over)
        network = port.spec.network
        namespace = network.namespace or port.namespace
        if self._stores.of("networks").get(namespace, network.name) is None:
            return Verdict(False, NOT_FOUND, f"network {namespace}/{network.name} does not exist")
        return accepted()

    def keys(self) -> list[Key]:
        """All Ports that users made."""
        return [port.key for port in self._stores.of("ports") if made_for(port) is None]

    def wakes(
        self, plural: str, old: AnyObject | None, new: AnyObject | None
    ) -> Iterator[tuple[Key, float]]:
        """Ports whose place, limit or Network changed."""
        if plural == "ports" and new is not None and made_for(new) is None:
            yield new.key, 0.0
        network = (new or old) if plural == "networks" and (old is None or new is None) else None
        if network is not None:
            for port in self._stores.of("ports").by("network", network.key):
                if made_for(port) is None:
                    yield port.key, 0.0
        for _, key in self._ledger.judged("ports", plural, old, new):
            yield key, 0.0


def quota_controllers(
    admission: Admission, stores: Stores, kube: KubePort, clock: Clock, events: EventRecorder
) -> Iterator[Controller]:
    """Both, ready for ``Controllers.add``."""
    quotas = QuotaController(admission, stores, events)
    yield Controller("Quota", quotas.reconcile, quotas.wakes, quotas.keys, 4)
    ports = UserPortController(admission.ledger, stores, kube, clock)
    yield Controller("UserPort", ports.reconcile, ports.wakes, ports.keys, 2)
