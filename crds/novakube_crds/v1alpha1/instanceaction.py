"""InstanceAction: a verb carried out once on an Instance of the same namespace.

Its spec never changes; a second wish is a second object (``generateName``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    ApiModel,
    LocalReference,
    Message,
    Name,
    Reference,
    Rule,
    Status,
    Text,
    Timestamp,
    rules,
)
from novakube_crds.kind import Column, Kind

# Condition types.
COMPLETE = "Complete"
FAILED = "Failed"

# Reasons.
SUCCEEDED = "Succeeded"
CONFLICT = "Conflict"
IMPOSSIBLE_TRANSITION = "ImpossibleTransition"
INTERRUPTED = "Interrupted"
NOT_FOUND = "NotFound"
NOT_SUPPORTED_YET = "NotSupportedYet"
WAITING = "Waiting"
RUNNING = "Running"

ActionType = Literal[
    "Start", "Stop", "Pause", "Unpause", "Suspend", "Resume", "Reboot", "Rebuild",
    "ConfirmResize", "RevertResize", "Migrate", "LiveMigrate", "Evacuate", "Snapshot",
    "Backup", "Rescue", "Unrescue", "Shelve", "Unshelve", "SoftDelete", "Restore",
    "SetPassword", "CrashDump", "ResetState", "ResetNetwork", "InjectNetworkInfo",
]  # fmt: skip

ALLOWED_PARAMETERS: dict[str, tuple[str, ...]] = {
    "type": ("Reboot",),
    "timeoutSeconds": ("Stop", "Reboot"),
    "image": ("Rebuild", "Rescue"),
    "preserveEphemeral": ("Rebuild",),
    "name": ("Rebuild", "Snapshot", "Backup"),
    "metadata": ("Rebuild", "Snapshot", "Backup"),
    "backupType": ("Backup",),
    "rotation": ("Backup",),
    "passwordSecretRef": ("Rebuild", "Rescue", "Evacuate", "SetPassword"),
    "host": ("Migrate", "LiveMigrate", "Evacuate", "Unshelve"),
    "force": ("LiveMigrate", "Evacuate"),
    "blockMigration": ("LiveMigrate",),
    "availabilityZone": ("Unshelve",),
    "state": ("ResetState",),
}
"""Parameter -> actions that take it."""

REQUIRED_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Rebuild": ("image",),
    "Snapshot": ("name",),
    "Backup": ("name", "backupType", "rotation"),
    "SetPassword": ("passwordSecretRef",),
    "ResetState": ("state",),
}
"""Action -> parameters it needs."""


def _allowed(parameter: str, actions: tuple[str, ...]) -> Rule:
    names = ", ".join(f"'{action}'" for action in actions)
    return Rule(
        f"!has(self.parameters) || !has(self.parameters.{parameter}) || self.action in [{names}]",
        f"spec.parameters.{parameter} is for {', '.join(actions)} only",
    )


def _required(action: str, parameters: tuple[str, ...]) -> Rule:
    present = " && ".join(f"has(self.parameters.{parameter})" for parameter in parameters)
    return Rule(
        f"self.action != '{action}' || (has(self.parameters) && {present})",
        f"{action} needs spec.parameters: {', '.join(parameters)}",
    )


class SecretKey(ApiModel):
    """A key of a Secret in the same namespace."""

    name: Name
    key: Annotated[str, Field(min_length=1, max_length=253)] = "password"


class ActionParameters(ApiModel):
    """What the action takes; which field goes with which action is checked on creation."""

    type: Literal["Soft", "Hard"] | None = None
    """Reboot: ask the guest (default), or reset it."""
    timeout_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Stop and soft Reboot: how long the guest may take before its power is cut."""
    image: Reference | None = None
    """Rebuild: the new image. Rescue: the image to rescue with."""
    preserve_ephemeral: bool | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Snapshot, Backup: name of the new Image. Rebuild: the Instance's new name."""
    metadata: (
        Annotated[dict[str, Annotated[str, Field(max_length=255)]], Field(max_length=128)] | None
    ) = None
    backup_type: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Such as ``daily``; rotation counts within one type."""
    rotation: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many backups of the type are kept."""
    password_secret_ref: SecretKey | None = None
    host: Name | None = None
    """Target node; absent: the scheduler's choice."""
    force: bool | None = None
    """Take ``host`` without asking the scheduler."""
    block_migration: bool | None = None
    availability_zone: Annotated[str, Field(max_length=255)] | None = None
    state: Literal["active", "error"] | None = None


class InstanceActionSpec(ApiModel):
    """The order; immutable as a whole."""

    model_config = rules(
        Rule("self == oldSelf", "spec is immutable: make a new InstanceAction"),
        *(_allowed(parameter, actions) for parameter, actions in ALLOWED_PARAMETERS.items()),
        *(_required(action, parameters) for action, parameters in REQUIRED_PARAMETERS.items()),
    )

    instance: LocalReference
    """Instance of the same namespace."""
    action: ActionType
    parameters: ActionParameters | None = None
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31536000)] | None = None
    """Deletes the finished action after this many seconds; absent: never."""
    user_id: Annotated[str, Field(max_length=255)] | None = None
    """OpenStack user on whose behalf it was made."""
    request_id: Annotated[str, Field(max_length=64)] | None = None
    """OpenStack request id, such as ``req-<uuid>``."""


class ActionEvent(ApiModel):
    """A step of the action, as Nova's instance action events."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    started_at: Timestamp
    finished_at: Timestamp | None = None
    result: Literal["Success", "Error"] | None = None
    node: Annotated[str, Field(max_length=253)] | None = None
    message: Text = ""


class InstanceActionStatus(Status):
    """The operator's answer; finished when Complete or Failed is True."""

    state: Literal["Pending", "Running", "Succeeded", "Failed"] = "Pending"
    reason: Annotated[str, Field(max_length=128)] = ""
    """CamelCase cause of Failed."""
    message: Message = ""
    instance_uid: Annotated[str, Field(max_length=36)] | None = None
    """The Instance it was started on."""
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    progress_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    result: Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=16)] = (
        Field(default_factory=dict)
    )
    """What came of it, such as ``image`` of a Snapshot."""
    events: Annotated[list[ActionEvent], Field(max_length=64)] = Field(default_factory=list)


INSTANCEACTION = Kind(
    kind="InstanceAction",
    plural="instanceactions",
    spec=InstanceActionSpec,
    status=InstanceActionStatus,
    description="A verb carried out once on an Instance.",
    short_names=("iact",),
    status_default={"state": "Pending", "observedGeneration": -1},
    columns=(
        Column("Instance", ".spec.instance.name"),
        Column("Action", ".spec.action"),
        Column("State", ".status.state"),
        Column("Reason", ".status.reason"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Message", ".status.message", priority=1),
    ),
    selectable=(".spec.instance.name", ".spec.action", ".status.state"),
)
