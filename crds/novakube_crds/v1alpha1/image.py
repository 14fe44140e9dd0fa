"""Image: a disk image and where its bytes come from.

An Image may be deleted while Instances use it, for they keep a full copy of its description
and nodes keep its bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import (
    LIST_SET,
    ApiModel,
    DisplayName,
    LocalReference,
    Message,
    NamespaceName,
    Reference,
    Rule,
    Status,
    fixed,
    rules,
)
from novakube_crds.kind import Column, Kind

# Condition types.
READY = "Ready"
STALLED = "Stalled"

# Reasons.
ACTIVE = "Active"
NO_SOURCE = "NoSource"
NOT_SUPPORTED_YET = "NotSupportedYet"
ID_TAKEN = "IDTaken"

ImageState = Literal["queued", "saving", "importing", "active", "deactivated", "killed"]
DiskFormat = Literal["qcow2", "raw", "ami", "aki", "ari", "iso", "vmdk", "vdi", "vhd"]
ContainerFormat = Literal["bare", "ami", "aki", "ari"]

SHA256_PREFIX = "sha256:"


class ImageUpload(ApiModel):
    """Bytes brought through the image API, kept by novakube."""

    size_bytes: Annotated[int, Field(ge=0)]
    """Size of the upload in bytes."""
    md5: Annotated[str, Field(max_length=32, pattern=r"^[0-9a-f]{32}$")]
    """MD5 of the bytes, for old clients."""
    sha512: Annotated[str, Field(max_length=128, pattern=r"^[0-9a-f]{128}$")]
    """SHA-512 of the bytes."""


class S3Manifest(ApiModel):
    """A bundled EC2 image in the object store."""

    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    key: Annotated[str, Field(min_length=1, max_length=1024)]
    """Key of the manifest, such as ``image.manifest.xml``."""


class ImageSource(ApiModel):
    """Where the bytes come from; exactly one of url, upload, s3Manifest, fromInstance."""

    model_config = rules(
        Rule(
            "(has(self.url) ? 1 : 0) + (has(self.upload) ? 1 : 0)"
            " + (has(self.s3Manifest) ? 1 : 0) + (has(self.fromInstance) ? 1 : 0) == 1",
            "spec.source takes exactly one of url, upload, s3Manifest, fromInstance",
        ),
        Rule("!has(self.checksum) || has(self.url)", "spec.source.checksum belongs to url only"),
    )

    url: (
        Annotated[
            str,
            Field(min_length=1, max_length=4096),
            Rule(
                "isURL(self) && url(self).getScheme() in ['http', 'https']"
                " && url(self).getHost() != ''",
                "spec.source.url must be an http or https URL",
            ),
        ]
        | None
    ) = None
    """Fetched by the nodes that need it."""
    checksum: (
        Annotated[
            str,
            Field(max_length=71),
            Rule(
                "self.matches('^sha256:[0-9a-f]{64}$')",
                "spec.source.checksum must be sha256: and 64 hex digits in lower case",
            ),
        ]
        | None
    ) = None
    """``sha256:<64 hex digits>`` of the bytes. Absent: the first verified download pins it."""
    upload: ImageUpload | None = None
    s3_manifest: S3Manifest | None = None
    from_instance: LocalReference | None = None
    """Snapshot of an Instance of this namespace."""

    @property
    def sha256(self) -> str | None:
        """The 64 hex digits of ``checksum``."""
        return None if self.checksum is None else self.checksum.removeprefix(SHA256_PREFIX)


class ImageSpec(ApiModel):
    """What the owner offers."""

    model_config = rules(
        fixed("id"),
        Rule(
            "!has(self.source) || has(self.diskFormat)",
            "spec.diskFormat is required with spec.source: it is never guessed from the bytes",
        ),
        Rule(
            "!has(self.sharedWith) || self.sharedWith.size() == 0 || self.visibility == 'shared'",
            "spec.sharedWith needs spec.visibility: shared",
        ),
    )

    id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """OpenStack id; default: the object's UID."""
    display_name: DisplayName | None = None
    """Name shown by OpenStack; default: the object's name."""
    source: ImageSource | None = None
    """Absent: queued until bytes are uploaded."""
    disk_format: DiskFormat | None = None
    """Declared format of the bytes; what they are is checked against it."""
    container_format: ContainerFormat = "bare"
    kernel: Reference | None = None
    """Image with the kernel to boot (ami)."""
    ramdisk: Reference | None = None
    """Image with the initial ramdisk (ami)."""
    min_disk_gib: Annotated[int, Field(ge=0, le=65536)] = 0
    """Smallest root disk in GiB that it boots from."""
    min_memory_mib: Annotated[int, Field(ge=0, le=67108864)] = 0
    """Smallest memory in MiB that it boots with."""
    properties: Annotated[
        dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=128)
    ] = Field(default_factory=dict)
    """Glance's free properties, such as ``hw_disk_bus``."""
    visibility: Literal["private", "shared", "community", "public"] = "private"
    """Who else may boot it: nobody, namespaces of sharedWith, everybody who knows it, all."""
    shared_with: Annotated[
        list[NamespaceName], Field(max_length=128, json_schema_extra=LIST_SET)
    ] = Field(default_factory=list)
    """Namespaces that may use it when it is shared."""
    protected: bool = False
    """The OpenStack API refuses to delete it."""
    hidden: bool = False
    """Left out of the OpenStack API's default lists."""
    tags: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        Field(max_length=128, json_schema_extra=LIST_SET),
    ] = Field(default_factory=list)


class ImageStatus(Status):
    """What is known of the bytes."""

    state: ImageState = "queued"
    """Glance's word for it."""
    id: Annotated[str, Field(max_length=255)] = ""
    """OpenStack id: ``spec.id`` or the object's UID."""
    size_bytes: Annotated[int, Field(ge=0)] | None = None
    virtual_size_bytes: Annotated[int, Field(ge=0)] | None = None
    """Size of the disk the bytes describe."""
    sha256: Annotated[str, Field(max_length=64)] | None = None
    """Digest that holds: the declared one, or the one of the first verified download."""
    md5: Annotated[str, Field(max_length=32)] | None = None
    sha512: Annotated[str, Field(max_length=128)] | None = None
    progress_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    message: Message = ""


IMAGE = Kind(
    kind="Image",
    plural="images",
    spec=ImageSpec,
    status=ImageStatus,
    description="A disk image and where its bytes come from.",
    short_names=("img",),
    status_default={"state": "queued", "observedGeneration": -1},
    columns=(
        Column("State", ".status.state"),
        Column("Format", ".spec.diskFormat"),
        Column("Visibility", ".spec.visibility"),
        Column("SizeBytes", ".status.sizeBytes", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("ID", ".status.id", priority=1),
        Column("URL", ".spec.source.url", priority=1),
    ),
    selectable=(".spec.visibility", ".status.state", ".status.id"),
)
