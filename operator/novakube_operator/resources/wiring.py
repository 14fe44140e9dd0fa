"""The controllers of what Instances refer to, ready for ``Controllers.add``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from novakube_kit.clock import Clock
from novakube_kit.kube import KubePort
from novakube_kit.objects import Key
from novakube_kit.store import AnyObject
from novakube_operator.controllers import Controller
from novakube_operator.quotas.ledger import Ledger
from novakube_operator.resources.controller import ResourceController
from novakube_operator.resources.judges import World, judges
from novakube_operator.resources.wakes import wakes
from novakube_operator.stores import Stores

WORKERS = 2


def resource_controllers(
    stores: Stores, kube: KubePort, clock: Clock, ledger: Ledger
) -> Iterator[Controller]:
    """One controller per judged kind."""
    world = World(stores.by_plural, ledger.verdict)
    kinds = {plural: store.kind for plural, store in stores.by_plural.items()}
    for judge in judges(kinds):
        plural = judge.kind.plural
        yield Controller(
            name=judge.kind.kind,
            reconcile=ResourceController(judge, world, kube, clock).reconcile,
            wakes=partial(_wakes, world, ledger, plural),
            keys=partial(_keys, stores, plural),
            workers=WORKERS,
        )


def _keys(stores: Stores, plural: str) -> list[Key]:
    return [obj.key for obj in stores.of(plural)]


def _wakes(
    world: World,
    ledger: Ledger,
    mine: str,
    plural: str,
    old: AnyObject | None,
    new: AnyObject | None,
) -> Iterator[tuple[Key, float]]:
    if plural == mine and new is not None:
        yield new.key, 0.0
    for other, key, delay_s in wakes(world, plural, old, new):
        if other == mine:
            yield key, delay_s
    for other, key in ledger.judged(mine, plural, old, new):
        if other == mine:
            yield key, 0.0
