"""Flavor: the sizes an Instance may ask for. Cluster-scoped.

Sizes never change; a Flavor may be deleted while Instances use it, for they keep a full copy.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from novakube_crds.base import (
    LIST_SET,
    ApiModel,
    DisplayName,
    Rule,
    Status,
    fixed,
    immutable,
    rules,
)
from novakube_crds.kind import Column, Kind

# Condition types.
READY = "Ready"

# Reasons.
ACCEPTED = "Accepted"
ID_TAKEN = "IDTaken"

ExtraSpecs = Annotated[
    dict[str, Annotated[str, Field(max_length=255)]],
    Field(max_length=128),
    Rule(
        "self.all(k, k.size() <= 255 && k.matches('^[a-zA-Z0-9_. :-]+$'))",
        "keys have 1 to 255 letters, digits, spaces or any of _ . : -",
    ),
]


class FlavorResources(ApiModel):
    """What an Instance gets; also the copy an Instance keeps."""

    vcpus: Annotated[int, Field(ge=1, le=1024)]
    """Virtual CPUs."""
    memory_mib: Annotated[int, Field(ge=1, le=67108864)]
    """Memory in MiB."""
    root_gib: Annotated[int, Field(ge=0, le=65536)] = 0
    """Root disk in GiB; 0: as large as the image."""
    ephemeral_gib: Annotated[int, Field(ge=0, le=65536)] = 0
    """Extra blank disk in GiB; 0: none."""
    swap_mib: Annotated[int, Field(ge=0, le=67108864)] = 0
    """Swap disk in MiB; 0: none."""
    rxtx_factor: Annotated[float, Field(gt=0, le=1000000)] = 1.0
    """Shown to OpenStack clients; no effect."""
    extra_specs: ExtraSpecs = Field(default_factory=dict)
    """Nova's extra specs, such as ``hw:cpu_policy``."""


class FlavorSpec(FlavorResources):
    """What the administrator offers."""

    model_config = rules(fixed("id"))

    id: (
        Annotated[
            str,
            Field(min_length=1, max_length=255),
            Rule(
                "self.matches('^[a-zA-Z0-9_.-]([a-zA-Z0-9_. -]*[a-zA-Z0-9_.-])?$')",
                "spec.id has letters, digits, spaces or any of _ . - and no space at its ends",
            ),
        ]
        | None
    ) = None
    """OpenStack id, such as ``1``; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    description: Annotated[str, Field(max_length=65535)] | None = None
    vcpus: Annotated[int, Field(ge=1, le=1024), immutable("spec.vcpus")]
    """Virtual CPUs."""
    memory_mib: Annotated[int, Field(ge=1, le=67108864), immutable("spec.memoryMiB")]
    """Memory in MiB."""
    root_gib: Annotated[int, Field(ge=0, le=65536), immutable("spec.rootGiB")] = 0
    """Root disk in GiB; 0: as large as the image."""
    ephemeral_gib: Annotated[int, Field(ge=0, le=65536), immutable("spec.ephemeralGiB")] = 0
    """Extra blank disk in GiB; 0: none."""
    swap_mib: Annotated[int, Field(ge=0, le=67108864), immutable("spec.swapMiB")] = 0
    """Swap disk in MiB; 0: none."""
    public: bool = True
    """Whether every project may use it; else only those of ``projects``."""
    projects: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        Field(max_length=1024, json_schema_extra=LIST_SET),
    ] = Field(default_factory=list)
    """Project ids that may use it when it is not public."""


class FlavorStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=255)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""


FLAVOR = Kind(
    kind="Flavor",
    plural="flavors",
    spec=FlavorSpec,
    status=FlavorStatus,
    description="Sizes an Instance may ask for.",
    namespaced=False,
    status_default={"observedGeneration": -1},
    columns=(
        Column("VCPUs", ".spec.vcpus", "integer"),
        Column("MemoryMiB", ".spec.memoryMiB", "integer"),
        Column("RootGiB", ".spec.rootGiB", "integer"),
        Column("Public", ".spec.public", "boolean"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
        Column("EphemeralGiB", ".spec.ephemeralGiB", "integer", priority=1),
        Column("SwapMiB", ".spec.swapMiB", "integer", priority=1),
    ),
    selectable=(".spec.id", ".spec.public", ".status.id"),
)
