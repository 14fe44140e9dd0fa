"""The node's sign of life: Lease ``heartbeat`` in its namespace, every 10 s."""

from __future__ import annotations

import asyncio
import logging
import random

from novakube_crds.v1alpha1.hypervisorreport import HEARTBEAT_LEASE
from novakube_kit.clock import SystemClock, micro_timestamp
from novakube_kit.errors import NovakubeError
from novakube_kit.kube import KubePort
from novakube_kit.resources import LEASES

_log = logging.getLogger(__name__)
SILENT_AFTER_S = 40
RETRY_S = 2.0


class Heartbeat:
    """Renews until cancelled; a failed renewal is tried again soon."""

    def __init__(self, kube: KubePort, namespace: str, node: str, interval_s: float) -> None:
        self._kube = kube
        self._namespace = namespace
        self._node = node
        self._interval_s = interval_s
        self.failure: str | None = None
        """Why the last renewal failed; None while all is well."""

    async def run(self) -> None:
        """The first one at once, the others spread so that nodes do not beat together."""
        clock = SystemClock()
        while True:
            spec = {
                "holderIdentity": self._node,
                "leaseDurationSeconds": SILENT_AFTER_S,
                "renewTime": micro_timestamp(clock.now()),
            }
            pause_s = self._interval_s * random.uniform(0.9, 1.0)  # noqa: S311
            try:
                await self._kube.patch(LEASES, HEARTBEAT_LEASE, {"spec": spec}, self._namespace)
                self.failure = None
            except NovakubeError as error:
                self.failure = f"heartbeat not renewed: {error.message}"
                _log.warning("%s", self.failure)
                pause_s = RETRY_S
            await asyncio.sleep(pause_s)
