"""Guest.status over the API: only when it changed, never against a version we have not seen.

Leases are a rollup: they ride along with any other news, and alone they are written at most
once in 5 s for each Guest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from novakube_agent.metrics import LEASE_WRITES
from novakube_agent.model import Desired
from novakube_crds.v1alpha1.guest import GUEST, GuestStatus
from novakube_kit.errors import Conflict, NotFound
from novakube_kit.kube import Json, KubePort
from novakube_kit.resources import resource_of

GUESTS = resource_of(GUEST)
ATTEMPTS = 4
LEASES_INTERVAL_S = 5.0
"""At least so long between two writes of a Guest that tell of leases alone."""


class StatusWriter:
    """Writes the statuses of one node's Guests; their only writer.

    ``observe`` is told every object the API answered with, so that the next pass compares
    with what was written and not with an older copy from the watch.
    """

    def __init__(
        self,
        kube: KubePort,
        observe: Callable[[Json], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: monotonic: seconds of a clock that never jumps."""
        self._kube = kube
        self._observe = observe
        self._monotonic = monotonic
        self._leases_at: dict[str, float] = {}
        self._written: dict[str, GuestStatus] = {}
        self._versions: dict[str, str] = {}

    async def write(self, desired: Desired, status: GuestStatus) -> float | None:
        """The status on the API server, unless it is there already.

        A Guest that vanished, or was replaced by another of its name, gets none.

        Returns:
            None, or the seconds after which leases that were held back may be written.

        Raises:
            ApiUnavailable, Forbidden: the caller's queue tries again.
            Conflict: it kept changing under us.
        """
        known = self._written.get(desired.uid, desired.status)
        if known == status:
            return None
        leases_alone = known == status.model_copy(update={"leases": known.leases})
        wait_s = self._leases_at.get(desired.uid, -LEASES_INTERVAL_S) + LEASES_INTERVAL_S
        wait_s -= self._monotonic()
        if leases_alone and wait_s > 0:
            return wait_s
        version = self._versions.get(desired.uid) or desired.resource_version
        for _ in range(ATTEMPTS):
            try:
                answer = await self._patch(desired, status, version)
            except Conflict:
                fresh = await self._reread(desired)
                if fresh is None:
                    return None
                version = fresh["metadata"]["resourceVersion"]
                continue
            except NotFound:
                self.forget(desired.uid)
                return None
            if leases_alone:
                self._leases_at[desired.uid] = self._monotonic()
                LEASE_WRITES.inc()
            self._written[desired.uid] = status
            self._versions[desired.uid] = answer["metadata"]["resourceVersion"]
            self._observe(answer)
            return None
        raise Conflict(f"Guest {desired.name} changed at each of {ATTEMPTS} status writes")

    def forget(self, guest_uid: str) -> None:
        """The Guest is gone."""
        self._written.pop(guest_uid, None)
        self._versions.pop(guest_uid, None)
        self._leases_at.pop(guest_uid, None)

    def seen(self, guest_uid: str, resource_version: str, status: GuestStatus) -> None:
        """The watch brought a version: newer than our last write, it is what is compared."""
        mine = self._versions.get(guest_uid)
        if mine is None or int(resource_version) > int(mine):
            self._versions[guest_uid] = resource_version
            self._written[guest_uid] = status

    async def _patch(self, desired: Desired, status: GuestStatus, version: str) -> Json:
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": version, "uid": desired.uid},
            "status": _whole(status),
        }
        return await self._kube.patch(GUESTS, desired.name, patch, desired.namespace, sub="status")

    async def _reread(self, desired: Desired) -> Json | None:
        try:
            fresh = await self._kube.get(GUESTS, desired.name, desired.namespace)
        except NotFound:
            self.forget(desired.uid)
            return None
        self._observe(fresh)
        return fresh if fresh["metadata"]["uid"] == desired.uid else None


def _whole(status: GuestStatus) -> Json:
    """All fields, so that a merge patch removes what no longer holds (null removes)."""
    return status.model_dump(by_alias=True)
