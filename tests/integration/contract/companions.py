"""What else a spec needs, by the rules between fields, for one field of it to be valid."""

from __future__ import annotations

from typing import Any

from novakube_crds.v1alpha1.instanceaction import ALLOWED_PARAMETERS, REQUIRED_PARAMETERS
from tests.integration.contract.samples import tokens

_PARAMETERS: dict[str, Any] = {
    "image": {"name": "a"},
    "name": "a",
    "backupType": "daily",
    "rotation": 1,
    "passwordSecretRef": {"name": "a"},
    "state": "active",
}

_BY_PREFIX: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Image", "spec.source", {"diskFormat": "qcow2"}),
    ("Image", "spec.source.checksum", {"source": {"url": "http://192.0.2.10/image"}}),
    ("Image", "spec.sharedWith", {"visibility": "shared"}),
    ("FloatingIP", "spec.fixedAddress", {"port": {"name": "a"}}),
    ("Hypervisor", "spec.disabledReason", {"enabled": False}),
    ("Instance", "spec.lockedReason", {"locked": True}),
    ("Instance", "spec.networks[].", {"networks": [{"network": {"name": "a"}}]}),
    ("Instance", "spec.networks[].port", {"networks": [{"network": None}]}),
    ("Instance", "spec.blockDevices[].", {"blockDevices": [{"source": "blank", "sizeGiB": 1}]}),
    ("Network", "spec.segment.id", {"segment": {"type": "vxlan"}}),
    ("Router", "spec.interfaces[].", {"interfaces": [{}]}),
    ("SecurityGroup", "spec.rules[].ports", {"rules": [{"direction": "ingress",
                                                        "protocol": "tcp"}]}),
    ("ServerGroup", "spec.maxServersPerHost", {"policy": "anti-affinity"}),
    ("Subnet", "spec.ipv6", {"cidr": "fd00::/64"}),
)  # fmt: skip


def companion(kind: str, path: str, value: Any) -> dict[str, Any]:
    """A merge patch of the spec."""
    if kind == "InstanceAction":
        return _of_action(path, value)
    if kind == "Instance" and path == "spec.blockDevices[].source":
        more = {"image": {"image": {"name": "a"}}, "blank": {"sizeGiB": 1}}.get(value, {})
        return {"blockDevices": [more]}
    if kind == "Instance" and path.startswith("spec.blockDevices[].image"):
        return {"blockDevices": [{"source": "image"}]}
    if kind == "Instance" and path.startswith("spec.networks[].port"):
        return {"networks": [{}]}
    if kind == "SecurityGroup" and path == "spec.rules[].ethertype":
        return {"rules": [{"direction": "ingress"}]}
    out: dict[str, Any] = {}
    for of_kind, prefix, change in _BY_PREFIX:
        if of_kind == kind and path.startswith(prefix):
            out.update(change)
    return out


def _of_action(path: str, value: Any) -> dict[str, Any]:
    parts = tokens(path)
    if path == "spec.action":
        needed = REQUIRED_PARAMETERS.get(value, ())
        return {"parameters": {name: _PARAMETERS[name] for name in needed}} if needed else {}
    if parts[:2] != ["spec", "parameters"] or len(parts) < 3:
        return {}
    action = ALLOWED_PARAMETERS[parts[2]][0]
    needed = REQUIRED_PARAMETERS.get(action, ())
    given = {name: _PARAMETERS[name] for name in needed if name != parts[2]}
    return {"action": action, "parameters": given}
