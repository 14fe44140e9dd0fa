"""Whose fault a failed build is. Pure."""

from __future__ import annotations

NOT_THE_NODES_FAULT = frozenset(
    {"ChecksumMismatch", "FormatMismatch", "FlavorTooSmall", "InvalidURL", "InvalidImageProperty",
     "ImageNotFound", "ImageTooLarge", "ImageUnsafe", "ImageAddressForbidden", "ImageRejected"}
)  # fmt: skip
"""Reasons of Failed that no other node would mend, and that say nothing about the node."""
