"""What every pass over an Instance may use, and the writes they share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from novakube_crds.base import FINALIZER
from novakube_crds.v1alpha1.instance import INSTANCE, InstanceStatus
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_kit.clock import Clock
from novakube_kit.errors import NotFound
from novakube_kit.events import EventRecorder, regarding
from novakube_kit.kube import Json, KubePort
from novakube_kit.objects import Object
from novakube_kit.resources import resource_of
from novakube_operator.core.accept import Accepted
from novakube_operator.core.follow import BUILDING_AFTER_S
from novakube_operator.core.merge import replacing
from novakube_operator.core.scheduling.choice import DEFAULT
from novakube_operator.core.scheduling.pipeline import Pipeline
from novakube_operator.instances.capacity import Capacity
from novakube_operator.instances.patience import Patience
from novakube_operator.lifecycle import Lifecycle
from novakube_operator.quotas.admission import Admission
from novakube_operator.sql.history import History
from novakube_operator.stores import Stores

AnyObject = Object[Any, Any]
RESOURCES = {kind.plural: resource_of(kind) for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Context:
    """Ports, stores and settings of the instance controllers."""

    kube: KubePort
    stores: Stores
    capacity: Capacity
    events: EventRecorder
    history: History
    clock: Clock
    epoch: Callable[[], int]
    build_deadline_s: float
    lifecycle: Lifecycle
    quota: Admission
    reclaim_after_s: float
    """How long a soft-deleted Instance is kept; 0: until somebody acts."""
    patience: Patience = field(default_factory=lambda: Patience(BUILDING_AFTER_S))
    pipeline: Pipeline = DEFAULT
    """The scheduler's filters and weighers."""
    accepted: dict[str, Accepted] = field(default_factory=dict)
    """By Instance UID, until its first status says it; lost on restart and resolved again."""
    vanished: dict[str, AnyObject] = field(default_factory=dict)
    """By Instance UID, its Guest as it was when the object went unasked; after a restart the
    node's report tells of it."""
    addresses_given: dict[str, str] = field(default_factory=dict)
    """By Subnet UID, the address given last: the next search begins there."""
    fencing: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """By UID of an Instance being deleted: (node, Guest UID) it waits for."""

    def get(self, plural: str, namespace: str | None, name: str) -> AnyObject | None:
        """An object as this process knows it."""
        return self.stores.of(plural).get(namespace, name)

    def by(self, plural: str, index: str, value: Any) -> tuple[AnyObject, ...]:
        """Objects by an index."""
        return self.stores.of(plural).by(index, value)

    def project(self, namespace: str) -> str | None:
        """The project a namespace belongs to by its label."""
        return self.quota.ledger.project(namespace)

    def event(self, obj: AnyObject, reason: str, message: str, *, warning: bool = False) -> None:
        """An Event on an Instance."""
        about = regarding(INSTANCE, obj.namespace, obj.name, obj.uid)
        self.events.record(about, "Warning" if warning else "Normal", reason, message)

    async def create(self, plural: str, body: Json, namespace: str | None) -> AnyObject:
        """Creates an object of ours, known to the store at once."""
        made = await self.kube.create(RESOURCES[plural], body, namespace)
        store = self.stores.of(plural)
        found = store.observe(made)
        if found is None:
            raise NotFound(f"{plural} {made['metadata']['name']} vanished as it was made")
        return found

    async def patch(self, obj: AnyObject, change: Json, sub: str = "") -> AnyObject:
        """A merge patch on the version that was decided on.

        Raises:
            Conflict: somebody wrote first.
        """
        metadata = {"resourceVersion": obj.resource_version, **change.get("metadata", {})}
        plural = obj.kind.plural
        written = await self.kube.patch(
            RESOURCES[plural],
            obj.name,
            {**change, "metadata": metadata},
            obj.namespace or None,
            sub=sub,
        )
        return self.stores.of(plural).observe(written) or obj

    async def report(self, obj: AnyObject, status: InstanceStatus) -> AnyObject:
        """Writes a status when it differs from the one that stands."""
        if status == obj.status:
            return obj
        fields = replacing(obj.status.wire(), status.wire())
        return await self.patch(obj, {"status": fields}, "status")

    async def finalize(self, obj: AnyObject) -> AnyObject:
        """Puts our finalizer on an object."""
        if FINALIZER in obj.finalizers:
            return obj
        return await self.patch(obj, {"metadata": {"finalizers": [*obj.finalizers, FINALIZER]}})

    async def fence(self, hypervisor: AnyObject, guest_uid: str) -> AnyObject:
        """Orders a node to destroy what it has of a Guest without an object."""
        fenced = hypervisor.status.fenced
        if guest_uid in fenced:
            return hypervisor
        return await self.patch(hypervisor, {"status": {"fenced": [*fenced, guest_uid]}}, "status")

    async def release(self, obj: AnyObject) -> None:
        """Takes our finalizer off and forgets the object when that ends it."""
        rest = [name for name in obj.finalizers if name != FINALIZER]
        if rest != list(obj.finalizers):
            try:
                await self.patch(obj, {"metadata": {"finalizers": rest}})
            except NotFound:
                rest = []
        if obj.deleting and not rest:
            self.stores.of(obj.kind.plural).forget(obj.uid)

    async def remove(self, obj: AnyObject) -> None:
        """Deletes an object of ours for good; tolerant of its absence.

        The finalizer goes first: a crash in between leaves an object that the next pass finds
        and deletes.
        """
        await self.release(obj)
        with contextlib.suppress(NotFound):
            await self.kube.delete(
                RESOURCES[obj.kind.plural], obj.name, obj.namespace or None, uid=obj.uid
            )
        self.stores.of(obj.kind.plural).forget(obj.uid)
