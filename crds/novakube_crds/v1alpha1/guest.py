"""Guest: one incarnation of an Instance on one node, fully resolved, like a Pod.

Lives in the node's namespace. The operator writes the spec, that node's agent the status.
Name: ``<instance uid>-<n>``; never moved to another node.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    Address,
    ApiModel,
    Cidr,
    Mac,
    Message,
    Name,
    NamespaceName,
    PowerState,
    Rule,
    Status,
    Text,
    Timestamp,
    Uuid,
    fixed,
    immutable,
    never_lower,
    rules,
)
from novakube_crds.kind import Column, Kind
from novakube_crds.v1alpha1.subnet import Ipv6Mode

KEEP = None  # ``spec.teardown`` absent: the VM is kept whatever happens to the object.
StopReason = Literal["Ordered", "GuestShutdown", "Destroyed", "Crashed", "HostShutdown", "Unknown"]
GuestPhase = Literal["Pending", "Rejected", "Building", "Ready", "Failed", "Lost", "Gone"]


class InstanceIdentity(ApiModel):
    """The Instance this Guest embodies."""

    namespace: Annotated[NamespaceName, immutable("spec.instance.namespace")]
    name: Annotated[Name, immutable("spec.instance.name")]
    uid: Annotated[Uuid, immutable("spec.instance.uid")]
    id: Annotated[Uuid, immutable("spec.instance.id")]
    """OpenStack id; also the libvirt domain's UUID."""
    display_name: Annotated[str, Field(max_length=255)] = ""
    project_id: Annotated[str, Field(max_length=64)] | None = None
    user_id: Annotated[str, Field(max_length=255)] | None = None


class GuestImage(ApiModel):
    """Image bytes as the agent fetches them; what was accepted, not what the Image says now."""

    url: Annotated[str, Field(max_length=4096)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)] | None = None
    """Wanted checksum. None: the agent reports the digest it found (first download pins it)."""
    disk_format: Literal["qcow2", "raw", "ami", "aki", "ari", "iso", "vmdk", "vdi", "vhd"]
    name: Annotated[str, Field(max_length=255)] = ""


class GuestDisk(ApiModel):
    """A disk; the root disk is the first. Device names are vda, vdb, ..."""

    role: Literal["root", "ephemeral", "swap", "config"]
    device: Annotated[str, Field(max_length=16)]
    size_bytes: Annotated[int, Field(ge=0)]
    """Virtual size. 0 for a root disk: as large as the image."""
    image: GuestImage | None = None
    """Backing image; None: a blank disk."""
    bus: Literal["virtio", "sata", "scsi", "ide"] = "virtio"
    boot_index: Annotated[int, Field(ge=-1, le=31)] | None = None
    """0 before the root disk, 1 and above behind it, -1 never; None: behind all that have one."""


class GuestRoute(ApiModel):
    """A static route handed out by DHCP option 121."""

    destination: Cidr
    next_hop: Address


class GuestSubnet(ApiModel):
    """Subnet facts the node needs for the address of one NIC."""

    uid: Uuid
    cidr: Cidr
    gateway: Address | None = None
    dns: Annotated[list[Address], Field(max_length=8)] = Field(default_factory=list)
    routes: Annotated[list[GuestRoute], Field(max_length=32)] = Field(default_factory=list)
    dhcp: bool = True
    ipv6_address_mode: Ipv6Mode | None = None
    ipv6_ra_mode: Ipv6Mode | None = None


class GuestAddress(ApiModel):
    """One fixed address of a NIC."""

    address: Address
    subnet: GuestSubnet


class GuestNic(ApiModel):
    """A NIC; the tap is named from the Port's UID."""

    port_uid: Uuid
    """Of a machine that was taken over: the UID of the Port it was plumbed for."""
    port_name: Name
    mac: Mac
    network_namespace: NamespaceName
    network_name: Name
    network_uid: Uuid
    segment_type: Literal["flat", "vlan", "vxlan"]
    segment_id: int | None = None
    physical_network: Annotated[str, Field(max_length=64)] | None = None
    mtu: Annotated[int, Field(ge=576, le=9216)] = 1450
    addresses: Annotated[list[GuestAddress], Field(max_length=8)] = Field(default_factory=list)
    port_security: bool = True
    tag: Annotated[str, Field(max_length=60)] | None = None


class GuestKey(ApiModel):
    """A public key for the guest's metadata."""

    name: Annotated[str, Field(max_length=255)]
    type: Literal["ssh", "x509"] = "ssh"
    public_key: Annotated[str, Field(max_length=16384)]


class GuestServerGroup(ApiModel):
    """The server group's rule as it was when the Instance was accepted; settled by the node."""

    uid: Uuid
    name: Name
    policy: Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]
    max_servers_per_host: Annotated[int, Field(ge=1, le=1024)] = 1
    """Of anti-affinity."""


class GuestRequest(ApiModel):
    """One action the agent carries out and answers in ``status.request``."""

    uid: Uuid
    """UID of the InstanceAction."""
    type: Literal["Reboot", "CrashDump", "ResetNetwork", "InjectNetworkInfo"]
    parameters: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=16)
    ] = Field(default_factory=dict)
    """Reboot: ``type`` = ``Soft`` or ``Hard``."""


class GuestSpec(ApiModel):
    """Everything a node needs; nothing is looked up elsewhere."""

    model_config = rules(
        fixed("serverGroup"),
        Rule("!has(oldSelf.teardown) || has(self.teardown)", "spec.teardown cannot be taken back"),
    )

    instance: InstanceIdentity
    incarnation: Annotated[int, Field(ge=1), immutable("spec.incarnation")]
    hypervisor: Annotated[Name, immutable("spec.hypervisor")]
    hostname: Annotated[str, Field(max_length=255)]
    vcpus: Annotated[int, Field(ge=1, le=1024)]
    memory_mib: Annotated[int, Field(ge=1)]
    flavor_name: Annotated[str, Field(max_length=255)] = ""
    availability_zone: Annotated[str, Field(max_length=255)] = "nova"
    server_group: GuestServerGroup | None = None
    """Membership is settled when the Instance is accepted and never changes."""
    disks: Annotated[list[GuestDisk], Field(max_length=32)] = Field(default_factory=list)
    kernel: GuestImage | None = None
    ramdisk: GuestImage | None = None
    kernel_args: Text = ""
    image_properties: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=128)
    ] = Field(default_factory=dict)
    nics: Annotated[list[GuestNic], Field(max_length=16)] = Field(default_factory=list)
    keys: Annotated[list[GuestKey], Field(max_length=16)] = Field(default_factory=list)
    user_data: Annotated[str, Field(max_length=65535)] | None = None
    """Base64, as Nova takes it."""
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=255)]], Field(max_length=128)] = (
        Field(default_factory=dict)
    )
    power_state: PowerState = "Running"
    power_sequence: Annotated[int, Field(ge=1), never_lower("spec.powerSequence")] = 1
    """Rises with every order; the agent carries out ``powerState`` once per sequence and
    does not undo what happens outside of it within the same sequence."""
    role: Literal["Active", "Incoming", "Outgoing"] = "Active"
    teardown: Literal["Destroy"] | None = None
    """The only order (beside fencing) by which an agent destroys."""
    adopt: Uuid | None = None
    """UID of the earlier Guest whose domain and disks this one takes over."""
    request: GuestRequest | None = None
    stop_timeout_s: Annotated[int, Field(ge=0, le=86400)] = 60
    epoch: Annotated[int, Field(ge=0), never_lower("spec.epoch")] = 0
    """``leaseTransitions`` of the operator Lease under which it was made."""


class GuestRequestStatus(ApiModel):
    """The answer to ``spec.request``."""

    uid: Uuid
    state: Literal["Accepted", "Succeeded", "Failed", "Interrupted"]
    message: Message = ""


class ImageProgress(ApiModel):
    """Download of an image this Guest waits for."""

    name: Annotated[str, Field(max_length=255)] = ""
    percent: Annotated[int, Field(ge=0, le=100)] = 0


class GuestLease(ApiModel):
    """An address that the guest holds by DHCP, as the node's DHCP server gave it."""

    mac: Mac
    address: Address
    network_uid: Uuid | None = None
    hostname: Annotated[str, Field(max_length=255)] = ""
    """The name that the guest gave itself."""
    started_at: Timestamp
    """When it was taken; renewals keep it."""


class GuestStatus(Status):
    """What the agent sees. ``phase`` Gone is the only end: then nothing of it is on the node."""

    phase: GuestPhase = "Pending"
    reason: Annotated[str, Field(max_length=128)] = ""
    """CamelCase cause of Rejected, Failed, Lost or of a longer Building."""
    message: Message = ""
    power_state: Literal["Running", "Stopped", "Paused", "Suspended", "Unknown"] = "Unknown"
    power_sequence: int = 0
    """The last order carried out."""
    stop_reason: StopReason | None = None
    """Why it is off, when it is off."""
    power_error: Message = ""
    """Why the order of ``powerSequence`` could not be carried out; empty when it was."""
    started_at: Timestamp | None = None
    boot_id: Annotated[str, Field(max_length=64)] | None = None
    """Host boot the domain was last started in."""
    restarts: int = 0
    """Crash restarts in the window of 10 minutes."""
    domain_name: Annotated[str, Field(max_length=255)] | None = None
    virt_type: Annotated[str, Field(max_length=16)] | None = None
    image_sha256: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the root image as found on the first download."""
    image_size_bytes: int | None = None
    image_virtual_size_bytes: int | None = None
    progress: ImageProgress | None = None
    request: GuestRequestStatus | None = None
    adopted: Uuid | None = None
    leases: Annotated[list[GuestLease], Field(max_length=64)] = Field(default_factory=list)
    """Addresses held by DHCP now; a lease that ended is no longer here."""


GUEST = Kind(
    kind="Guest",
    plural="guests",
    spec=GuestSpec,
    status=GuestStatus,
    description="One incarnation of an Instance on one node (internal).",
    internal=True,
    status_default={"phase": "Pending", "observedGeneration": -1},
    columns=(
        Column("Phase", ".status.phase"),
        Column("Power", ".status.powerState"),
        Column("Namespace", ".spec.instance.namespace"),
        Column("Instance", ".spec.instance.name"),
        Column("Reason", ".status.reason"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable=(".spec.instance.uid", ".status.phase"),
)
