"""KeyPair: a user's public key. Cluster-scoped; belongs to a user, not to a project."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import ApiModel, DisplayName, Status, immutable
from novakube_crds.kind import Column, Kind

# Condition types.
READY = "Ready"

# Reasons.
ACCEPTED = "Accepted"
INVALID_KEY = "InvalidKey"


class KeyPairSpec(ApiModel):
    """The key; it never changes."""

    display_name: DisplayName | None = None
    """Key name as its user calls it; default: the object's name."""
    user_id: Annotated[str, Field(min_length=1, max_length=255), immutable("spec.userID")]
    """OpenStack user the key belongs to."""
    type: Annotated[Literal["ssh", "x509"], immutable("spec.type")] = "ssh"
    """Kind of key."""
    public_key: Annotated[str, Field(min_length=1, max_length=16384), immutable("spec.publicKey")]
    """OpenSSH public key line, or PEM certificate for x509."""


class KeyPairStatus(Status):
    """The operator's answer."""

    fingerprint: Annotated[str, Field(max_length=128)] = ""
    """MD5 with colons for ssh, SHA-1 of the certificate for x509, as Nova shows them."""


KEYPAIR = Kind(
    kind="KeyPair",
    plural="keypairs",
    spec=KeyPairSpec,
    status=KeyPairStatus,
    description="A user's public key.",
    namespaced=False,
    short_names=("kp",),
    status_default={"observedGeneration": -1},
    columns=(
        Column("User", ".spec.userID"),
        Column("Type", ".spec.type"),
        Column("Fingerprint", ".status.fingerprint"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable=(".spec.userID",),
)
