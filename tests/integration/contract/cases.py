"""For each validation rule an object that passes and one that fails.

``good`` and ``bad`` are merge patches of the spec of the smallest object. With ``before`` the
smallest object with that patch is stored first, and both are asked as changes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from novakube_crds.v1alpha1.instanceaction import ALLOWED_PARAMETERS, REQUIRED_PARAMETERS

OTHER_UID = "00000000-0000-4000-8000-0000000000ff"
REF = {"name": "a"}
OTHER_REF = {"name": "b"}
Patch = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One rule with its pair."""

    kind: str
    path: str
    message: str
    good: Patch
    bad: Patch
    before: Patch | None = None
    part: str = field(default="spec")

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.path}-{self.message}".replace(" ", "_")


def _unchanging(kind: str, path: str, before: Any, after: Any, *, at: str = "") -> Case:
    """A required field that never changes; the good change touches nothing."""
    *parents, last = path.split(".")

    def nest(value: Any) -> Patch:
        out = {last: value}
        for parent in reversed(parents):
            out = {parent: out}
        return out

    return Case(
        kind, at or f"spec.{path}", f"spec.{path} is immutable", nest(before), nest(after),
        before=nest(before),
    )  # fmt: skip


def _fixed(kind: str, name: str, before: Any, after: Any, more: Patch | None = None) -> list[Case]:
    """An optional field that is never set, changed or removed later."""
    more = more or {}
    message = f"spec.{name} is immutable"
    with_it, without = {**more, name: before}, more
    return [
        Case(kind, "spec", message, with_it, {name: after}, before=with_it),
        Case(kind, "spec", message, with_it, {name: None}, before=with_it),
        Case(kind, "spec", message, without, {name: before}, before=without),
    ]


def _flavor() -> list[Case]:
    sizes = ("vcpus", "memoryMiB", "rootGiB", "ephemeralGiB", "swapMiB")
    return [
        *_fixed("Flavor", "id", "1", "2"),
        *(_unchanging("Flavor", size, 1, 2) for size in sizes),
        Case("Flavor", "spec.extraSpecs",
             "keys have 1 to 255 letters, digits, spaces or any of _ . : -",
             {"extraSpecs": {"hw:cpu_policy": "shared"}}, {"extraSpecs": {"a/b": ""}}),
        Case("Flavor", "spec.id",
             "spec.id has letters, digits, spaces or any of _ . - and no space at its ends",
             {"id": "m1 tiny"}, {"id": " m1"}),
    ]  # fmt: skip


def _keypair() -> list[Case]:
    return [
        _unchanging("KeyPair", "userID", "a", "b"),
        _unchanging("KeyPair", "type", "ssh", "x509"),
        _unchanging("KeyPair", "publicKey", "ssh-ed25519 A", "ssh-ed25519 B"),
    ]


def _image() -> list[Case]:
    url = "http://192.0.2.10/image"
    digest = "sha256:" + "0" * 64
    qcow2 = {"diskFormat": "qcow2"}
    one = "spec.source takes exactly one of url, upload, s3Manifest, fromInstance"
    return [
        *_fixed("Image", "id", "a", "b"),
        Case("Image", "spec",
             "spec.diskFormat is required with spec.source: it is never guessed from the bytes",
             {"source": {"url": url}, **qcow2}, {"source": {"url": url}}),
        Case("Image", "spec", "spec.sharedWith needs spec.visibility: shared",
             {"visibility": "shared", "sharedWith": ["a"]}, {"sharedWith": ["a"]}),
        Case("Image", "spec.source", one,
             {**qcow2, "source": {"url": url}},
             {**qcow2, "source": {"url": url, "fromInstance": REF}}),
        Case("Image", "spec.source", one,
             {**qcow2, "source": {"fromInstance": REF}}, {**qcow2, "source": {}}),
        Case("Image", "spec.source", "spec.source.checksum belongs to url only",
             {**qcow2, "source": {"url": url, "checksum": digest}},
             {**qcow2, "source": {"fromInstance": REF, "checksum": digest}}),
        Case("Image", "spec.source.url", "spec.source.url must be an http or https URL",
             {**qcow2, "source": {"url": "https://[fd00::1]:8/a?b"}},
             {**qcow2, "source": {"url": "file:///etc/passwd"}}),
        Case("Image", "spec.source.url", "spec.source.url must be an http or https URL",
             {**qcow2, "source": {"url": url}}, {**qcow2, "source": {"url": "image.qcow2"}}),
        Case("Image", "spec.source.checksum",
             "spec.source.checksum must be sha256: and 64 hex digits in lower case",
             {**qcow2, "source": {"url": url, "checksum": digest}},
             {**qcow2, "source": {"url": url, "checksum": "0" * 64}}),
    ]  # fmt: skip


def _network() -> list[Case]:
    def segment(kind: str, **more: Any) -> Patch:
        return {"segment": {"type": kind, **more}}

    return [
        *_fixed("Network", "id", _uid(1), OTHER_UID),
        *_fixed("Network", "segment", {"type": "flat"}, {"type": "vxlan"}),
        Case("Network", "spec", "spec.segment.id has no meaning for a flat network",
             segment("flat", physicalNetwork="a"), segment("flat", id=1)),
        Case("Network", "spec", "spec.segment.id of a vlan is 1 to 4094",
             segment("vlan", id=4094), segment("vlan", id=4095)),
        Case("Network", "spec",
             "spec.segment.physicalNetwork has no meaning for a vxlan network",
             segment("vxlan", id=4095), segment("vxlan", physicalNetwork="a")),
        Case("Network", "spec",
             "an external network is not attached to another by spec.externalNetwork",
             {"externalNetwork": REF}, {"externalNetwork": REF, "external": True}),
    ]  # fmt: skip


def _subnet() -> list[Case]:
    def pools(*pairs: tuple[str, str]) -> Patch:
        return {"pools": [{"start": start, "end": end} for start, end in pairs]}

    low, high = ("10.0.0.10", "10.0.0.19"), ("10.0.0.20", "10.0.0.29")
    six = {"cidr": "fd00::/64"}
    return [
        *_fixed("Subnet", "id", _uid(1), OTHER_UID),
        Case("Subnet", "spec", "spec.gateway must be inside spec.cidr",
             {"gateway": "10.0.0.254"}, {"gateway": "10.0.1.1"}),
        Case("Subnet", "spec.gateway", "spec.gateway must be an address or none",
             {"gateway": "none"}, {"gateway": "off"}),
        Case("Subnet", "spec", "spec.pools must be inside spec.cidr",
             pools(low, high), pools(low, ("10.0.0.250", "10.0.1.2"))),
        Case("Subnet", "spec", "spec.pools must be inside spec.cidr",
             {**six, **pools(("fd00::1", "fd00::ff"))}, {**six, **pools(low)}),
        Case("Subnet", "spec", "a pool of spec.pools ends before it starts",
             pools(("10.0.0.9", "10.0.0.10")), pools(("10.0.0.10", "10.0.0.9"))),
        Case("Subnet", "spec", "pools of spec.pools overlap",
             pools(low, high), pools(low, ("10.0.0.19", "10.0.0.29"))),
        Case("Subnet", "spec", "pools of spec.pools overlap",
             pools(high, low), pools(low, high, low)),
        Case("Subnet", "spec",
             "spec.ipv6AddressMode and spec.ipv6RAMode need an IPv6 spec.cidr",
             {**six, "ipv6RAMode": "slaac"}, {"ipv6RAMode": "slaac"}),
        Case("Subnet", "spec",
             "spec.ipv6AddressMode and spec.ipv6RAMode must be equal when both are given",
             {**six, "ipv6RAMode": "slaac", "ipv6AddressMode": "slaac"},
             {**six, "ipv6RAMode": "slaac", "ipv6AddressMode": "dhcpv6-stateful"}),
        _unchanging("Subnet", "network", REF, OTHER_REF),
        _unchanging("Subnet", "cidr", "10.0.0.0/24", "10.0.0.0/23"),
    ]  # fmt: skip


def _securitygroup() -> list[Case]:
    at = "spec.rules[]"

    def rule(**more: Any) -> Patch:
        return {"rules": [{"direction": "ingress", **more}]}

    def ports(protocol: str, *, least: int, most: int) -> Patch:
        return rule(protocol=protocol, ports={"min": least, "max": most})

    return [
        *_fixed("SecurityGroup", "id", _uid(1), OTHER_UID),
        Case("SecurityGroup", at, "remoteCidr and remoteGroup exclude each other",
             rule(remoteGroup=REF), rule(remoteGroup=REF, remoteCidr="10.0.0.0/8")),
        Case("SecurityGroup", at,
             "ports need a protocol that has them: tcp, udp, sctp, dccp, udplite or icmp",
             rule(protocol="tcp", ports={"min": 22}), rule(ports={"min": 22})),
        Case("SecurityGroup", at, "ports.min must not be above ports.max",
             ports("tcp", least=22, most=23), ports("tcp", least=23, most=22)),
        Case("SecurityGroup", at, "type and code of ICMP (ports.min, ports.max) are 0 to 255",
             ports("icmp", least=8, most=0), ports("icmp", least=256, most=0)),
        Case("SecurityGroup", at, "remoteCidr must be of the rule's ethertype",
             rule(ethertype="IPv6", remoteCidr="fd00::/8"),
             rule(ethertype="IPv6", remoteCidr="10.0.0.0/8")),
        Case("SecurityGroup", at + ".protocol",
             "protocol is a name such as tcp, udp, icmp, or a number from 0 to 255",
             rule(protocol="255"), rule(protocol="256")),
    ]  # fmt: skip


def _ports_and_addresses() -> list[Case]:
    secured = "spec.portSecurity: false excludes securityGroups and allowedAddressPairs"
    either = "an interface of spec.interfaces takes either subnet or port"
    pair = "must be an address or a network in CIDR notation"
    claim = {"kind": "Port", "namespace": "a", "name": "a", "uid": _uid(1)}
    return [
        *_fixed("Router", "id", _uid(1), OTHER_UID),
        Case("Router", "spec.interfaces[]", either,
             {"interfaces": [{"subnet": REF}]}, {"interfaces": [{"subnet": REF, "port": REF}]}),
        Case("Router", "spec.interfaces[]", either,
             {"interfaces": [{"port": REF}]}, {"interfaces": [{}]}),
        *_fixed("Port", "id", _uid(1), OTHER_UID),
        *_fixed("Port", "mac", "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"),
        Case("Port", "spec", secured,
             {"portSecurity": False}, {"portSecurity": False, "securityGroups": [REF]}),
        _unchanging("Port", "network", REF, OTHER_REF),
        Case("Port", "spec.allowedAddressPairs[].address", pair,
             {"allowedAddressPairs": [{"address": "10.0.0.0/24"}]},
             {"allowedAddressPairs": [{"address": "host"}]}),
        *_fixed("FloatingIP", "id", _uid(1), OTHER_UID),
        *_fixed("FloatingIP", "address", "10.0.0.5", "10.0.0.6"),
        Case("FloatingIP", "spec", "spec.fixedAddress needs spec.port",
             {"fixedAddress": "10.0.0.5", "port": REF}, {"fixedAddress": "10.0.0.5"}),
        _unchanging("FloatingIP", "externalNetwork", REF, OTHER_REF),
        _unchanging("IPAddress", "network", REF, OTHER_REF),
        _unchanging("IPAddress", "networkUID", _uid(1), OTHER_UID),
        _unchanging("IPAddress", "subnet", REF, OTHER_REF),
        _unchanging("IPAddress", "address", "10.0.0.5", "10.0.0.6"),
        _unchanging("IPAddress", "claim", claim, {"uid": OTHER_UID}),
        Case("IPAddress", "spec.address", "spec.address must be in canonical form",
             {"address": "fd00::5"}, {"address": "fd00:0::5"}),
        _unchanging("AddressSlice", "owner", {"name": "a"}, {"name": "b"}),
    ]  # fmt: skip


def _instance() -> list[Case]:
    at, disk = "spec.networks[]", "spec.blockDevices[]"
    port_alone = "port excludes network, subnet and address: the Port has its own"
    no_slash = "must not contain a slash or a comma"

    def nic(**more: Any) -> Patch:
        return {"networks": [more]}

    def device(source: str, **more: Any) -> Patch:
        return {"blockDevices": [{"source": source, **more}]}

    blank = {"sizeGiB": 1}
    return [
        *_fixed("Instance", "id", _uid(1), OTHER_UID),
        _unchanging("Instance", "image", REF, OTHER_REF),
        Case("Instance", "spec", "spec.userData and spec.userDataSecretRef exclude each other",
             {"userData": "QUFB"}, {"userData": "QUFB", "userDataSecretRef": REF}),
        Case("Instance", "spec", "spec.lockedReason needs spec.locked: true",
             {"lockedReason": "a", "locked": True}, {"lockedReason": "a"}),
        Case("Instance", at, port_alone, nic(port=REF), nic(port=REF, network=REF)),
        Case("Instance", at, port_alone, nic(port=REF), nic(port=REF, address="10.0.0.5")),
        Case("Instance", at, "needs network, subnet or port",
             nic(subnet=REF, address="10.0.0.5"), nic(address="10.0.0.5")),
        Case("Instance", at + ".tag", no_slash,
             nic(network=REF, tag="a"), nic(network=REF, tag="a/b")),
        Case("Instance", disk, "source image needs image",
             device("image", image=REF), device("image")),
        Case("Instance", disk, "image is for source image only",
             device("blank", **blank), device("blank", image=REF, **blank)),
        Case("Instance", disk, "source blank needs sizeGiB",
             device("blank", **blank), device("blank")),
        Case("Instance", disk, "swap is for source blank only",
             device("blank", swap=True, **blank), device("image", image=REF, swap=True)),
        Case("Instance", disk + ".tag", no_slash,
             device("blank", tag="a", **blank), device("blank", tag="a,b", **blank)),
        Case("Instance", "spec.userData",
             "user data is at most 65535 characters of base64 (64 KiB); fetch more from within",
             {"userData": "A" * 65535}, {"userData": "A" * 65536}),
        Case("Instance", "spec.userData", "must be base64",
             {"userData": "QUE=\n"}, {"userData": "#!/bin/sh"}),
        Case("Instance", "spec.files[].content", "must be base64",
             {"files": [{"path": "/a", "content": "QUFB"}]},
             {"files": [{"path": "/a", "content": "plain text"}]}),
        Case("Instance", "spec.tags[]", no_slash, {"tags": ["a b"]}, {"tags": ["a,b"]}),
    ]  # fmt: skip


def _action() -> list[Case]:
    value: dict[str, Any] = {
        "type": "Soft", "timeoutSeconds": 5, "image": REF, "preserveEphemeral": True,
        "name": "a", "metadata": {"a": "b"}, "backupType": "daily", "rotation": 1,
        "passwordSecretRef": REF, "host": "n1", "force": True, "blockMigration": True,
        "availabilityZone": "a", "state": "error",
    }  # fmt: skip

    def order(action: str, *names: str) -> Patch:
        return {"action": action, "parameters": {name: value[name] for name in names}}

    cases = [
        Case("InstanceAction", "spec", "spec is immutable: make a new InstanceAction",
             {"action": "Start"}, {"action": "Stop"}, before={"action": "Start"}),
    ]  # fmt: skip
    for name, actions in ALLOWED_PARAMETERS.items():
        message = f"spec.parameters.{name} is for {', '.join(actions)} only"
        cases += [
            Case("InstanceAction", "spec", message,
                 order(action, *{name, *REQUIRED_PARAMETERS.get(action, ())}),
                 order("Pause", name))
            for action in actions
        ]  # fmt: skip
    for action, names in REQUIRED_PARAMETERS.items():
        message = f"{action} needs spec.parameters: {', '.join(names)}"
        cases += [
            Case("InstanceAction", "spec", message, order(action, *names),
                 order(action, *(name for name in names if name != left_out)))
            for left_out in names
        ]  # fmt: skip
        cases.append(
            Case("InstanceAction", "spec", message, order(action, *names), {"action": action})
        )
    return cases


def _groups_and_nodes() -> list[Case]:
    anti = {"policy": "anti-affinity"}
    return [
        *_fixed("ServerGroup", "id", _uid(1), OTHER_UID),
        *_fixed("ServerGroup", "maxServersPerHost", 1, 2, anti),
        Case("ServerGroup", "spec", "spec.maxServersPerHost needs spec.policy: anti-affinity",
             {**anti, "maxServersPerHost": 1}, {"policy": "affinity", "maxServersPerHost": 1}),
        _unchanging("ServerGroup", "policy", "affinity", "anti-affinity"),
        Case("Hypervisor", "spec", "spec.disabledReason needs spec.enabled: false",
             {"disabledReason": "a", "enabled": False}, {"disabledReason": "a"}),
        *_fixed("Aggregate", "id", _uid(1), OTHER_UID),
        Case("Aggregate", "spec.availabilityZone",
             "spec.availabilityZone must not contain a colon",
             {"availabilityZone": "a b"}, {"availabilityZone": "a:b"}),
    ]  # fmt: skip


def _internal() -> list[Case]:
    group = {"uid": _uid(1), "name": "a", "policy": "affinity"}
    return [
        *_fixed("Guest", "serverGroup", group, {"policy": "anti-affinity"}),
        Case("Guest", "spec", "spec.teardown cannot be taken back",
             {"teardown": "Destroy"}, {"teardown": None}, before={"teardown": "Destroy"}),
        _unchanging("Guest", "instance.namespace", "a", "b"),
        _unchanging("Guest", "instance.name", "a", "b"),
        _unchanging("Guest", "instance.uid", _uid(1), OTHER_UID),
        _unchanging("Guest", "instance.id", _uid(1), OTHER_UID),
        _unchanging("Guest", "incarnation", 1, 2),
        _unchanging("Guest", "hypervisor", "n1", "n2"),
        Case("Guest", "spec.powerSequence", "spec.powerSequence never goes back",
             {"powerSequence": 3}, {"powerSequence": 1}, before={"powerSequence": 2}),
        Case("Guest", "spec.epoch", "spec.epoch never goes back",
             {"epoch": 3}, {"epoch": 1}, before={"epoch": 2}),
        Case("HistoryRecord", "spec", "spec is immutable",
             {"row": "{}"}, {"row": "[]"}, before={"row": "{}"}),
    ]  # fmt: skip


def _uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


CASES: tuple[Case, ...] = (
    *_flavor(),
    *_keypair(),
    *_image(),
    *_network(),
    *_subnet(),
    *_securitygroup(),
    *_ports_and_addresses(),
    *_instance(),
    *_action(),
    *_groups_and_nodes(),
    *_internal(),
)
