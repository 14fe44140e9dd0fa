"""The leader's epoch, read afresh before each first boot.

A cached value would let a late leader's Guest through.
"""

from __future__ import annotations

from novakube_crds.base import SYSTEM_NAMESPACE
from novakube_kit.errors import NotFound
from novakube_kit.kube import KubePort
from novakube_kit.resources import LEASES

OPERATOR_LEASE = "novakube-operator"


class LeaderEpoch:
    """``leaseTransitions`` of the operator's Lease."""

    def __init__(self, kube: KubePort) -> None:
        self._kube = kube

    async def __call__(self) -> int:
        """The epoch now; 0 while there is no such Lease (one operator, election off).

        Raises:
            ApiUnavailable, Forbidden: not known, so no first boot may begin.
        """
        try:
            lease = await self._kube.get(LEASES, OPERATOR_LEASE, SYSTEM_NAMESPACE)
        except NotFound:
            return 0
        return int((lease.get("spec") or {}).get("leaseTransitions") or 0)
