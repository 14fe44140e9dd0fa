"""Names derived from what users typed. Pure."""

from __future__ import annotations

import re
import unicodedata

HOSTNAME_MAX = 63
"""Source: RFC 1123, section 2.1; nova/utils.py sanitize_hostname."""


def hostname(display_name: str, default: str) -> str:
    """The guest's host name, by Nova's rules.

    Spaces and underscores become hyphens, what is not ASCII letter, digit, dot or hyphen is
    dropped, case is lowered, hyphens and dots at the ends are stripped, 63 characters stay.

    Source: nova/utils.py sanitize_hostname.
    """
    plain = (
        unicodedata.normalize("NFKD", display_name).encode("latin-1", "ignore").decode("latin-1")
    )
    plain = re.sub(r"[ _]", "-", plain)
    plain = re.sub(r"[^a-zA-Z0-9.-]+", "", plain).lower().strip(".-")
    return plain[:HOSTNAME_MAX].strip(".-") or default[:HOSTNAME_MAX]


def port_name(instance_uid: str, nic: int) -> str:
    """The Port the operator makes for a NIC."""
    return f"{instance_uid[:8]}-{nic}"


def guest_name(instance_uid: str, incarnation: int) -> str:
    """The Guest of an incarnation."""
    return f"{instance_uid}-{incarnation}"
