"""Images: which sources work now, and Glance's word for the state."""

from __future__ import annotations

from novakube_crds.v1alpha1.image import ImageSpec, ImageState
from novakube_operator.core.resources.verdict import Verdict, not_supported_yet

BOOTABLE_FORMATS = ("qcow2", "raw", "ami", "aki", "ari")


def judge(spec: ImageSpec) -> tuple[Verdict, ImageState]:
    """The verdict and the state of an Image by its spec alone.

    The bytes themselves are fetched and checked by the node that needs them.
    """
    source = spec.source
    if source is None:
        message = "spec.source is absent: no bytes yet"
        return Verdict(False, "NoSource", message), "queued"
    if source.url is None:
        field = (
            "upload" if source.upload else "s3Manifest" if source.s3_manifest else "fromInstance"
        )
        return not_supported_yet(f"spec.source.{field}"), "queued"
    if spec.disk_format not in BOOTABLE_FORMATS:
        allowed = ", ".join(BOOTABLE_FORMATS)
        message = f"spec.diskFormat {spec.disk_format} cannot be booted; allowed: {allowed}"
        return Verdict(False, "UnsupportedFormat", message, stalled=True), "queued"
    return Verdict(True, "Active", "fetched and checked by the nodes that need it"), "active"
