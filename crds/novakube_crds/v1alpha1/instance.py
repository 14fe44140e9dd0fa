"""Instance: a virtual machine as its owner asks for it.

The spec is the user's; nothing generated is ever written into it. The operator alone writes
the status. Condition types and reasons are the constants below.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    LIST_SET,
    Address,
    ApiModel,
    DisplayName,
    Mac,
    Message,
    Name,
    PowerState,
    Reference,
    Rule,
    Status,
    Text,
    Timestamp,
    Uuid,
    fixed,
    immutable,
    list_map,
    rules,
)
from novakube_crds.kind import Column, Kind
from novakube_crds.v1alpha1.flavor import FlavorResources
from novakube_crds.v1alpha1.guest import GuestServerGroup

# Condition types.
READY = "Ready"
STALLED = "Stalled"
RECONCILING = "Reconciling"
FLAVOR_READY = "FlavorReady"
IMAGE_READY = "ImageReady"
NETWORK_READY = "NetworkReady"
SCHEDULED = "Scheduled"
GUEST_READY = "GuestReady"
POWER_AS_SPECIFIED = "PowerAsSpecified"

VmState = Literal[
    "building",
    "active",
    "stopped",
    "paused",
    "suspended",
    "rescued",
    "resized",
    "soft-delete",
    "shelved",
    "shelved_offloaded",
    "error",
    "deleted",
]
State = Literal[
    "Pending",
    "Scheduling",
    "Building",
    "Running",
    "Stopping",
    "Stopped",
    "Starting",
    "Pausing",
    "Paused",
    "Unpausing",
    "Suspending",
    "Suspended",
    "Resuming",
    "Rebooting",
    "Restarting",
    "NodeSilent",
    "SoftDeleted",
    "Error",
    "Deleting",
]
StringMap = Annotated[
    dict[str, Annotated[str, Field(max_length=255)]],
    Field(max_length=128),
]


Tag = Annotated[
    str,
    Field(min_length=1, max_length=60),
    Rule("!self.contains('/') && !self.contains(',')", "must not contain a slash or a comma"),
]
DeviceTag = Tag
Base64 = Rule(
    "self.matches('^([A-Za-z0-9+/]|[\\n\\r])*={0,2}[\\n\\r]*$')",
    "must be base64",
)


class NetworkRequest(ApiModel):
    """One NIC: a Network, a Subnet of it, or an existing Port."""

    model_config = rules(
        Rule(
            "!has(self.port) || (!has(self.network) && !has(self.subnet) && !has(self.address))",
            "port excludes network, subnet and address: the Port has its own",
        ),
        Rule(
            "has(self.port) || has(self.network) || has(self.subnet)",
            "needs network, subnet or port",
        ),
    )

    network: Reference | None = None
    subnet: Reference | None = None
    address: Address | None = None
    port: Reference | None = None
    tag: DeviceTag | None = None


class BlockDevice(ApiModel):
    """An extra disk. ``volume`` and ``snapshot`` are reserved."""

    model_config = rules(
        Rule("self.source != 'image' || has(self.image)", "source image needs image"),
        Rule("self.source == 'image' || !has(self.image)", "image is for source image only"),
        Rule("self.source != 'blank' || has(self.sizeGiB)", "source blank needs sizeGiB"),
        Rule("!self.swap || self.source == 'blank'", "swap is for source blank only"),
    )

    source: Literal["image", "blank", "volume", "snapshot"]
    image: Reference | None = None
    size_gib: Annotated[int, Field(ge=1, le=65536)] | None = None
    boot_index: Annotated[int, Field(ge=-1, le=31)] | None = None
    """Place in the boot order: 0 before the root disk, 1 and above behind it, -1 never. Absent:
    behind all that have one."""
    bus: Literal["virtio", "sata", "scsi", "ide"] | None = None
    swap: bool = False
    tag: DeviceTag | None = None


class InstanceKey(ApiModel):
    """A public key given by reference to a KeyPair (name alone) or in full."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    public_key: Annotated[str, Field(max_length=16384)] | None = None


class UserDataRef(ApiModel):
    """A key of a Secret in the Instance's namespace; its value is the raw user data."""

    name: Name
    key: Annotated[str, Field(min_length=1, max_length=253)] = "userData"


class InstanceFile(ApiModel):
    """A file injected through metadata; content is base64."""

    path: Annotated[str, Field(min_length=1, max_length=255)]
    content: Annotated[str, Field(max_length=16384), Base64]


class InstanceSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(
        fixed("id"),
        Rule(
            "!(has(self.userData) && has(self.userDataSecretRef))",
            "spec.userData and spec.userDataSecretRef exclude each other",
        ),
        Rule("!has(self.lockedReason) || self.locked", "spec.lockedReason needs spec.locked: true"),
    )

    id: Uuid | None = None
    display_name: DisplayName | None = None
    description: Annotated[str, Field(max_length=255)] | None = None
    flavor: Reference
    image: Annotated[Reference, immutable("spec.image")]
    networks: Annotated[list[NetworkRequest], Field(max_length=16)] = Field(default_factory=list)
    block_devices: Annotated[list[BlockDevice], Field(max_length=16)] = Field(default_factory=list)
    security_groups: Annotated[list[Reference], Field(max_length=16)] = Field(default_factory=list)
    keys: Annotated[list[InstanceKey], Field(max_length=16, json_schema_extra=list_map("name"))] = (
        Field(default_factory=list)
    )
    user_data: (
        Annotated[
            str,
            Field(max_length=1048576),
            Rule(
                "size(self) <= 65535",
                "user data is at most 65535 characters of base64 (64 KiB); fetch more from within",
            ),
            Base64,
        ]
        | None
    ) = None
    """Base64, at most 65535 characters. Source: Nova API reference, ``user_data``."""
    user_data_secret_ref: UserDataRef | None = None
    metadata: StringMap = Field(default_factory=dict)
    files: Annotated[
        list[InstanceFile], Field(max_length=5, json_schema_extra=list_map("path"))
    ] = Field(default_factory=list)
    config_drive: bool = False
    availability_zone: Annotated[str, Field(max_length=255)] | None = None
    scheduler_hints: Annotated[
        dict[str, Annotated[list[Text], Field(max_length=64)]], Field(max_length=32)
    ] = Field(default_factory=dict)
    forced_host: Name | None = None
    power_state: PowerState | None = None
    on_guest_shutdown: Literal["Stop", "Restart", "Delete"] = "Stop"
    resize_confirm: Literal["Auto", "Manual"] | None = None
    recovery: Literal["None", "Evacuate"] = "None"
    locked: bool = False
    locked_reason: Annotated[str, Field(max_length=255)] | None = None
    tags: Annotated[list[Tag], Field(max_length=50, json_schema_extra=LIST_SET)] = Field(
        default_factory=list
    )
    hostname: (
        Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None
    ) = None
    user_id: Annotated[str, Field(max_length=255)] | None = None


class AcceptedFlavor(FlavorResources):
    """Full copy of the flavor as accepted."""

    name: Name
    id: Annotated[str, Field(max_length=255)]
    display_name: DisplayName | None = None


class AcceptedImage(ApiModel):
    """Full copy of the image as accepted; enough to build and rebuild the guest."""

    name: Name
    namespace: Annotated[str, Field(max_length=63)]
    uid: Uuid
    id: Annotated[str, Field(max_length=255)]
    url: Annotated[str, Field(max_length=4096)]
    sha256: Annotated[str, Field(max_length=64)] | None = None
    disk_format: Annotated[str, Field(max_length=16)]
    min_disk_gib: int = 0
    min_memory_mib: int = 0
    properties: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=128)
    ] = Field(default_factory=dict)
    kernel_url: Annotated[str, Field(max_length=4096)] | None = None
    kernel_sha256: Annotated[str, Field(max_length=64)] | None = None
    ramdisk_url: Annotated[str, Field(max_length=4096)] | None = None
    ramdisk_sha256: Annotated[str, Field(max_length=64)] | None = None


class InstanceAddress(ApiModel):
    """An address as the guest has it."""

    address: Address
    version: Literal[4, 6] = 4
    type: Literal["fixed", "floating"] = "fixed"
    mac: Mac | None = None
    network: Annotated[str, Field(max_length=253)] = ""
    network_uid: Annotated[str, Field(max_length=36)] = ""
    port: Annotated[str, Field(max_length=253)] = ""


class Fault(ApiModel):
    """The last fault, as Nova shows it."""

    code: int
    message: Message
    created: Timestamp
    details: Message = ""


class CurrentAction(ApiModel):
    """The action that holds the Instance."""

    name: Name
    uid: Uuid
    type: Annotated[str, Field(max_length=64)]
    started_at: Timestamp


class SoftDeletion(ApiModel):
    """A deletion that can be taken back by Restore."""

    at: Timestamp
    until: Timestamp | None = None
    """When the Instance is deleted for good; absent: not by itself."""


class Progress(ApiModel):
    """What a long Building waits for."""

    what: Text = ""
    percent: Annotated[int, Field(ge=0, le=100)] = 0


class InstanceStatus(Status):
    """What is. ``state`` is one word for people; programs read conditions and vmState."""

    state: State = "Scheduling"
    id: Annotated[str, Field(max_length=36)] = ""
    vm_state: VmState = "building"
    task_state: Annotated[str, Field(max_length=64)] | None = None
    power_state: Literal["Running", "Stopped", "Paused", "Suspended", "Unknown"] = "Unknown"
    wanted_power_state: PowerState | None = None
    """The effective wish, whoever expressed it last."""
    applied_power_state: PowerState | None = None
    """The ``spec.powerState`` consumed last."""
    power_sequence: int = 0
    node: Annotated[str, Field(max_length=253)] | None = None
    guest: Annotated[str, Field(max_length=253)] | None = None
    incarnation: int = 0
    """Highest incarnation number used."""
    refused_nodes: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] = (
        Field(default_factory=list)
    )
    """Nodes that answered Rejected or Failed for this creation; alternates skip them."""
    addresses: Annotated[list[InstanceAddress], Field(max_length=128)] = Field(default_factory=list)
    flavor: AcceptedFlavor | None = None
    image: AcceptedImage | None = None
    server_group: GuestServerGroup | None = None
    """The group it joined when it was accepted; ``spec.schedulerHints.group`` counts then only."""
    hypervisor_name: Annotated[str, Field(max_length=255)] | None = None
    availability_zone: Annotated[str, Field(max_length=255)] | None = None
    launched_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    fault: Fault | None = None
    current_action: CurrentAction | None = None
    action_seq: int = 0
    """Highest number of a facade's action (``<id>.<number>``) started or refused."""
    soft_deleted: SoftDeletion | None = None
    """Set by SoftDelete, removed by Restore; powered off meanwhile."""
    reset_state: Literal["error"] | None = None
    """ResetState said error; ends with ResetState active, a Stop, a hard Reboot, SoftDelete."""
    progress: Progress | None = None
    accepted_generation: int | None = None
    """Generation of the spec that was accepted; None before acceptance."""


INSTANCE = Kind(
    kind="Instance",
    plural="instances",
    spec=InstanceSpec,
    status=InstanceStatus,
    description="A virtual machine.",
    short_names=("vmi", "server"),
    status_default={"state": "Scheduling", "observedGeneration": -1},
    columns=(
        Column("State", ".status.state"),
        Column("Node", ".status.node"),
        Column("Address", ".status.addresses[0].address"),
        Column("Flavor", ".spec.flavor.name"),
        Column("Image", ".spec.image.name"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Power", ".status.powerState", priority=1),
        Column("ID", ".status.id", priority=1),
        Column("Guest", ".status.guest", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
    ),
    selectable=(
        ".spec.flavor.name",
        ".spec.image.name",
        ".status.node",
        ".status.state",
        ".status.id",
    ),
)
