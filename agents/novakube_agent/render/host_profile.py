"""What a domain's XML depends on beside the request: the node's hypervisor, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VirtType = Literal["kvm", "qemu"]


@dataclass(frozen=True, slots=True)
class HostProfile:
    """The hypervisor as the XML needs it; constant for one connection."""

    virt_type: VirtType
    """``kvm``, or ``qemu`` for software emulation (TCG)."""
    arch: str = "x86_64"
    machines: frozenset[str] = frozenset()
    """Machine types the emulator knows; empty when unknown (then libvirt alone judges)."""
