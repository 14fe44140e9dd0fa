"""QuotaClass: default limits of all projects. Cluster-scoped; one object, named ``default``."""

from __future__ import annotations

from novakube_crds.base import ApiModel
from novakube_crds.kind import Column, Kind
from novakube_crds.v1alpha1.quota import QuotaLimits

QUOTACLASS_NAME = "default"


class QuotaClassSpec(ApiModel):
    """What the administrator allows a project whose Quota says nothing."""

    hard: QuotaLimits = QuotaLimits()
    """An absent limit takes Nova's and Neutron's own default."""


QUOTACLASS = Kind(
    kind="QuotaClass",
    plural="quotaclasses",
    spec=QuotaClassSpec,
    status=None,
    description="Default limits of all projects.",
    namespaced=False,
    columns=(
        Column("Instances", ".spec.hard.instances", "integer"),
        Column("Cores", ".spec.hard.cores", "integer"),
        Column("MemoryMiB", ".spec.hard.memoryMiB", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    rules=(("self.metadata.name == 'default'", "there is one QuotaClass and its name is default"),),
)
