"""What an untrusted image file really is, decided from its bytes, never by qemu-img. Blocking.

Source: OpenStack's ``oslo_utils.imageutils.format_inspector``, made for exactly this after
CVE-2024-32498.
"""

from __future__ import annotations

from pathlib import Path

from oslo_utils.imageutils import format_inspector

from novakube_kit.errors import ImageRejected

_RAW = frozenset({"raw", "gpt"})
ACCEPTED: dict[str, frozenset[str]] = {
    "raw": _RAW | {"iso"},
    "ami": _RAW,
    "aki": _RAW,
    "ari": _RAW,
    "iso": frozenset({"iso"}),
    "qcow2": frozenset({"qcow2"}),
    "vmdk": frozenset({"vmdk"}),
    "vdi": frozenset({"vdi"}),
    "vhd": frozenset({"vhd"}),
}
"""Detected formats by declared format. An MBR or GPT disk is a raw image."""
QEMU_FORMAT = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc"}
"""qemu-img's names; everything else is raw."""
_CHUNK = 64 * 1024


def inspect(path: Path, declared: str, url: str, max_virtual_bytes: int) -> int:
    """Virtual size in bytes of a file that is what was declared, and safe.

    Raises:
        ImageRejected: FormatMismatch, ImageUnsafe or ImageTooLarge.
    """
    found = _detect(path, declared, url)
    if declared not in ACCEPTED or str(found) not in ACCEPTED[declared]:
        raise ImageRejected(
            f"{url} is declared as {declared}, but its bytes are {found}", reason="FormatMismatch"
        )
    # A guest's partition table is the guest's; only containers can reach outside themselves.
    if str(found) not in _RAW | {"iso"}:
        _check_safety(found, url)
    size = path.stat().st_size if str(found) in _RAW | {"iso"} else int(found.virtual_size)
    if size > max_virtual_bytes:
        raise ImageRejected(
            f"{url} has a virtual size of {size} bytes; this node takes at most "
            f"{max_virtual_bytes}",
            reason="ImageTooLarge",
        )
    if size == 0:
        raise ImageRejected(f"{url} has a virtual size of 0 bytes", reason="FormatMismatch")
    return size


def _detect(path: Path, declared: str, url: str) -> format_inspector.FileInspector:
    with path.open("rb") as file:
        wrapper = format_inspector.InspectWrapper(file)
        try:
            while wrapper.formats is None and wrapper.read(_CHUNK):
                pass
        finally:
            wrapper.close()
    try:
        formats = wrapper.formats or []
        # A bootable ISO carries a partition table too: both are one truth.
        if {str(item) for item in formats} == {"iso", "gpt"}:
            formats = [item for item in formats if str(item) == "iso"]
        found = formats[0] if len(formats) == 1 else wrapper.format
    except format_inspector.ImageFormatError as error:
        raise ImageRejected(
            f"{url} is declared as {declared}, but its bytes match several formats: {error}",
            reason="ImageUnsafe",
        ) from error
    return found


def _check_safety(found: format_inspector.FileInspector, url: str) -> None:
    try:
        found.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        causes = "; ".join(str(cause) for cause in error.failures.values())
        raise ImageRejected(f"{url} is not safe: {causes}", reason="ImageUnsafe") from error
    except format_inspector.ImageFormatError as error:
        raise ImageRejected(f"{url} is damaged: {error}", reason="FormatMismatch") from error
