"""Reconciles the objects that judges speak of: status, finalizer, end."""

from __future__ import annotations

from novakube_crds.base import FINALIZER
from novakube_kit.clock import Clock
from novakube_kit.errors import NotFound
from novakube_kit.kube import KubePort
from novakube_kit.objects import Key
from novakube_kit.resources import resource_of
from novakube_operator.core.merge import replacing
from novakube_operator.resources.judges import AnyObject, Judge, World


class ResourceController:
    """One kind's controller; a key is (namespace, name)."""

    def __init__(self, judge: Judge, world: World, kube: KubePort, clock: Clock) -> None:
        """``world`` must hold the stores the judge reads."""
        self._judge = judge
        self._world = world
        self._kube = kube
        self._clock = clock
        self._resource = resource_of(judge.kind)
        self.name = judge.kind.plural

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one object; nothing is written when nothing changed."""
        store = self._world.of(self._judge.kind.plural)
        obj = store.get(*key)
        if obj is None:
            return None
        status = self._judge.status(self._world, obj, self._clock.now())
        if status != obj.status:
            fields = replacing(obj.status.wire(), status.wire())
            patch = {"metadata": {"resourceVersion": obj.resource_version}, "status": fields}
            written = await self._kube.patch(
                self._resource, obj.name, patch, obj.namespace or None, sub="status"
            )
            obj = store.observe(written) or obj
        await self._finalize(obj)
        return None

    async def _finalize(self, obj: AnyObject) -> None:
        """Our finalizer is on what must not vanish in use, and goes when nothing holds it."""
        if self._judge.holders is None:
            return
        held = FINALIZER in obj.finalizers
        if not obj.deleting and not held:
            await self._patch_finalizers(obj, [*obj.finalizers, FINALIZER])
        elif obj.deleting and held and self._judge.holders(self._world, obj) is None:
            rest = [name for name in obj.finalizers if name != FINALIZER]
            await self._patch_finalizers(obj, rest)

    async def _patch_finalizers(self, obj: AnyObject, finalizers: list[str]) -> None:
        metadata = {"resourceVersion": obj.resource_version, "finalizers": finalizers}
        store = self._world.of(self._judge.kind.plural)
        try:
            written = await self._kube.patch(
                self._resource, obj.name, {"metadata": metadata}, obj.namespace or None
            )
        except NotFound:
            store.forget(obj.uid)
            return
        if obj.deleting and not finalizers:
            store.forget(obj.uid)
        else:
            store.observe(written)
