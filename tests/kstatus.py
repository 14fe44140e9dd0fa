"""kstatus, by which Flux and ``kubectl``'s appliers know whether an object is there.

The rules for custom resources alone. Source: sigs.k8s.io/cli-utils, pkg/kstatus/status
(generic.go and status.go).
"""

from __future__ import annotations

from novakube_kit.kube import Json


def kstatus(obj: Json) -> str:
    """``Current``, ``InProgress``, ``Failed`` or ``Terminating``."""
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    status = obj.get("status", {})
    observed = status.get("observedGeneration")
    if observed is not None and observed != obj["metadata"]["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"
