"""Filters of what a node can do: the flavor's capabilities and the image's needs. Pure.

Source: nova/scheduler/filters/compute_capabilities_filter.py, image_props_filter.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from novakube_operator.core.scheduling.extra_specs import matcher
from novakube_operator.core.scheduling.facts import (
    arches,
    fact,
    hypervisor_types,
    version_number,
)
from novakube_operator.core.scheduling.hosts import Host, Request
from novakube_operator.core.scheduling.pipeline import Check, Refusal, UnusableHint

SCOPE = "capabilities"
ARCH_ALIASES = {"i386": "i686", "x86": "i686", "amd64": "x86_64", "arm64": "aarch64"}
VM_MODE = "hvm"
"""Full virtualisation, the only mode of QEMU and KVM."""
VM_MODE_ALIASES = {"hv": "hvm", "fullvirt": "hvm"}
_VERSION_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, ">": operator.gt,
}  # fmt: skip


def capabilities(request: Request) -> Check | None:
    """Extra specs ``capabilities:NAME`` and those without a scope, against the node's facts."""
    wanted: list[tuple[str, list[str], Callable[[Any], bool]]] = []
    for key, want in request.extra_specs.items():
        path = key.split(":")
        if len(path) == 1 or path[0] == SCOPE:
            path = path[1:] if path[0] == SCOPE else path
            wanted.append((f"{key} {want}", path, matcher(want)))
    if not wanted:
        return None

    def check(host: Host) -> Refusal | None:
        for what, path, matches in wanted:
            if not matches(fact(host, path)):
                return Refusal(f"without capability {what}")
        return None

    return check


def image_properties(request: Request) -> Check | None:
    """Architecture, hypervisor type, VM mode and hypervisor version that the image asks for."""
    arch = _property(request, "hw_architecture", "architecture")
    arch = ARCH_ALIASES.get(arch, arch)
    type = _property(request, "img_hv_type", "hypervisor_type")
    mode = _property(request, "hw_vm_mode", "vm_mode")
    versions = _property(request, "img_hv_requested_version", "hypervisor_version_requires")
    fits = _versions(versions)
    if not (arch or type or mode or versions):
        return None

    def check(host: Host) -> Refusal | None:
        if arch and arch not in arches(host):
            return Refusal(f"not of architecture {arch}")
        if type and type not in hypervisor_types(host):
            return Refusal(f"not of hypervisor type {type}")
        if mode and VM_MODE_ALIASES.get(mode, mode) != VM_MODE:
            return Refusal(f"without VM mode {mode}")
        if not fits(version_number(host.status.version)):
            return Refusal(f"not of hypervisor version {versions}")
        return None

    return check


def _property(request: Request, *names: str) -> str:
    values = (request.image_properties.get(name) for name in names)
    return next((value.strip().lower() for value in values if value), "")


def _versions(text: str) -> Callable[[int], bool]:
    """``>=6.0,<9`` as a predicate over ``version_number``.

    Raises:
        UnusableHint: a part has no operator or no version.
    """
    parts: list[tuple[Callable[[int, int], bool], int]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        sign = next((sign for sign in _VERSION_OPERATORS if part.startswith(sign)), None)
        version = part.removeprefix(sign or "").strip()
        if sign is None or not version[:1].isdigit():
            raise UnusableHint(
                f"image property img_hv_requested_version: {part!r} is no comparison such as >=6.0"
            )
        parts.append((_VERSION_OPERATORS[sign], version_number(version)))
    return lambda found: all(compare(found, wanted) for compare, wanted in parts)
