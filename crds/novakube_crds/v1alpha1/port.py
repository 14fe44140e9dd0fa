"""Port: a NIC's place on a Network, with its MAC and addresses.

Made by a user, or by the operator for an Instance. A user's Port is claimed in its status;
its spec stays the user's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    Address,
    ApiModel,
    DisplayName,
    LocalReference,
    Mac,
    Name,
    Reference,
    Rule,
    Status,
    Uuid,
    fixed,
    immutable,
    rules,
)
from novakube_crds.kind import Column, Kind

# Condition types.
READY = "Ready"
STALLED = "Stalled"
NETWORK_READY = "NetworkReady"
ADDRESSES_READY = "AddressesReady"

# Reasons.
ACCEPTED = "Accepted"
ADDRESS_IN_USE = "AddressInUse"
ADDRESS_OUTSIDE = "AddressOutsideSubnet"
IN_USE = "InUse"
MAC_IN_USE = "MacInUse"
NETWORK_FULL = "NetworkFull"
NOT_FOUND = "NotFound"
ID_TAKEN = "IDTaken"


class FixedIP(ApiModel):
    """One wanted address; with neither field, any address of any Subnet."""

    subnet: LocalReference | None = None
    """Subnet in the Network's namespace."""
    address: Address | None = None


class AddressPair(ApiModel):
    """A further source the guest may send from."""

    address: Annotated[
        str,
        Field(max_length=49),
        Rule("isIP(self) || isCIDR(self)", "must be an address or a network in CIDR notation"),
    ]
    mac: Mac | None = None
    """Absent: the Port's own."""


class DhcpOption(ApiModel):
    """An option for this Port's DHCP answers."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Name or number of the option, such as ``mtu`` or ``26``."""
    value: Annotated[str, Field(max_length=255)]
    ip_version: Literal[4, 6] = 4


class PortSpec(ApiModel):
    """What the owner wants."""

    model_config = rules(
        fixed("id"),
        fixed("mac"),
        Rule(
            "!has(self.portSecurity) || self.portSecurity || ((!has(self.securityGroups)"
            " || self.securityGroups.size() == 0) && !has(self.allowedAddressPairs))",
            "spec.portSecurity: false excludes securityGroups and allowedAddressPairs",
        ),
    )

    id: Uuid | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    description: Annotated[str, Field(max_length=255)] | None = None
    network: Annotated[Reference, immutable("spec.network")]
    fixed_ips: Annotated[list[FixedIP], Field(max_length=8)] = Field(default_factory=list)
    """Empty: one address of the Network's first Subnet with room."""
    mac: Mac | None = None
    """Absent: derived from the Port, shown in ``status.mac``."""
    security_groups: Annotated[list[LocalReference], Field(max_length=16)] | None = None
    """Absent: the namespace's SecurityGroup ``default``, if there is one."""
    allowed_address_pairs: Annotated[list[AddressPair], Field(max_length=10)] = Field(
        default_factory=list
    )
    port_security: bool | None = None
    """Absent: the Network's setting."""
    device_id: Annotated[str, Field(max_length=255)] | None = None
    """OpenStack id of what uses it, as the owner says."""
    device_owner: Annotated[str, Field(max_length=255)] | None = None
    """Such as ``compute:nova``."""
    dns_name: (
        Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None
    ) = None
    extra_dhcp_options: Annotated[list[DhcpOption], Field(max_length=32)] = Field(
        default_factory=list
    )


class PortAddress(ApiModel):
    """An address the Port holds until it is deleted."""

    address: Address
    subnet: Name
    """Subnet in the Network's namespace."""
    subnet_uid: Uuid


class PortClaim(ApiModel):
    """The Instance that uses the Port."""

    instance_name: Name
    instance_uid: Uuid
    nic: Annotated[int, Field(ge=0, le=15)]
    """Index in the Instance's ``spec.networks``."""


class PortStatus(Status):
    """The operator's answer."""

    id: Annotated[str, Field(max_length=36)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    mac: Mac | None = None
    addresses: Annotated[list[PortAddress], Field(max_length=8)] = Field(default_factory=list)
    claim: PortClaim | None = None
    node: Annotated[str, Field(max_length=253)] | None = None
    """Node on which its guest runs."""
    network_uid: Annotated[str, Field(max_length=36)] | None = None
    state: Literal["Down", "Build", "Active"] = "Down"


PORT = Kind(
    kind="Port",
    plural="ports",
    spec=PortSpec,
    status=PortStatus,
    description="A NIC's place on a Network.",
    status_default={"state": "Down", "observedGeneration": -1},
    columns=(
        Column("State", ".status.state"),
        Column("Network", ".spec.network.name"),
        Column("Address", ".status.addresses[0].address"),
        Column("MAC", ".status.mac"),
        Column("Instance", ".status.claim.instanceName"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Node", ".status.node", priority=1),
        Column("ID", ".status.id", priority=1),
    ),
    selectable=(
        ".spec.network.name",
        ".spec.deviceID",
        ".status.claim.instanceUID",
        ".status.id",
        ".status.mac",
    ),
)
