"""A Context over a fake API, for single passes of the controllers."""

from __future__ import annotations

from typing import cast

from novakube_crds.base import FINALIZER
from novakube_kit.events import EventRecorder
from novakube_kit.kube import Json
from novakube_operator.instances.capacity import Capacity
from novakube_operator.instances.context import Context
from novakube_operator.lifecycle import Lifecycle
from novakube_operator.quotas.admission import Admission
from novakube_operator.quotas.ledger import Ledger
from novakube_operator.sql.history import History
from novakube_operator.stores import Stores
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube


def a_context(kube: FakeKube, stores: Stores, clock: ManualClock) -> Context:
    """Leads under epoch 1; its history is nobody's."""
    return Context(
        kube, stores, Capacity(), EventRecorder(kube, "test", clock=clock), cast("History", None),
        clock, lambda: 1, 1800.0, Lifecycle(clock, lambda: True),
        Admission(Ledger(stores), stores, kube, clock, lambda: 1), 0.0,
    )  # fmt: skip


def body(kind: str, name: str, namespace: str, spec: Json, status: Json | None = None) -> Json:
    """An object as it is posted."""
    metadata = {"name": name, "namespace": namespace, "finalizers": [FINALIZER]}
    return {
        "apiVersion": "novakube.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
        "status": status or {},
    }  # fmt: skip
