"""The digest of an Image that declares none: pinned by the first download that a node verified."""

from __future__ import annotations

from typing import Any

from novakube_crds.v1alpha1.guest import GuestStatus
from novakube_crds.v1alpha1.instance import AcceptedImage
from novakube_kit.objects import Object
from novakube_operator.instances.context import Context

AnyObject = Object[Any, Any]


async def pin_image(context: Context, accepted: AcceptedImage | None, status: GuestStatus) -> None:
    """Writes what a guest's node found into its Image, once, while it is still the same bytes'."""
    if accepted is None or status.image_sha256 is None:
        return
    image = context.get("images", accepted.namespace, accepted.name)
    if image is None or image.uid != accepted.uid or image.deleting:
        return
    same = image.spec.source is not None and image.spec.source.url == accepted.url
    if not same or image.status.sha256 is not None:
        return
    found = {
        "sha256": status.image_sha256,
        "sizeBytes": status.image_size_bytes,
        "virtualSizeBytes": status.image_virtual_size_bytes,
    }
    known = {name: value for name, value in found.items() if value is not None}
    await context.patch(image, {"status": known}, "status")
