"""Acceptance: from an Instance's references to copies of all it needs. Pure.

A reference to something missing is Pending and is woken when it appears; a value that cannot
work is an Error. Both name the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from novakube_crds.conditions import get_condition, is_true
from novakube_crds.v1alpha1.guest import GuestKey
from novakube_crds.v1alpha1.instance import (
    FLAVOR_READY,
    IMAGE_READY,
    NETWORK_READY,
    READY,
    AcceptedFlavor,
    AcceptedImage,
    InstanceSpec,
)
from novakube_crds.v1alpha1.quota import QUOTA_EXCEEDED
from novakube_kit.errors import NovakubeError
from novakube_kit.objects import Object

AnyObject = Object[Any, Any]
GIB = 1 << 30
DAY_S = 86400
LOOK_AGAIN_S = 30.0
Get = Callable[[str, str | None, str], AnyObject | None]
"""(plural, namespace, name) -> the object as this process knows it."""
By = Callable[[str, str, Any], tuple[AnyObject, ...]]
"""(plural, index, value) -> objects."""


class NotAcceptable(NovakubeError):
    """Why an Instance cannot be accepted (yet).

    ``condition`` is the condition type it shows in; ``pending`` says that an appearing object
    can mend it, else only a change of the Instance does.
    """

    def __init__(
        self,
        condition: str,
        reason: str,
        message: str,
        *,
        pending: bool = False,
        look_again_s: float | None = None,
    ) -> None:
        """``look_again_s``: when to look again at what no watch of ours announces."""
        super().__init__(message, reason=reason)
        self.condition = condition
        self.pending = pending
        self.look_again_s = look_again_s


def not_supported_yet(what: str, condition: str = READY, field: str = "") -> NotAcceptable:
    """Said instead of lying idle; ``what`` is listed in docs/not-yet.md."""
    return NotAcceptable(condition, "NotSupportedYet", f"{field}{what}: not supported yet")


@dataclass(frozen=True, slots=True)
class NicRequest:
    """One NIC as asked for, references resolved."""

    network: AnyObject
    subnets: tuple[AnyObject, ...]
    """Subnets an address may come from, in order."""
    address: str | None
    port: AnyObject | None
    tag: str | None


@dataclass(frozen=True, slots=True)
class ExtraDisk:
    """A disk beside those of the flavor."""

    size_bytes: int
    """0: as large as its image."""
    image: AcceptedImage | None
    bus: Literal["virtio", "sata", "scsi", "ide"]
    swap: bool
    boot_index: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """All that a guest is made from."""

    flavor: AcceptedFlavor
    image: AcceptedImage
    nics: tuple[NicRequest, ...]
    keys: tuple[GuestKey, ...]
    disks: tuple[ExtraDisk, ...] = ()


def _missing(
    condition: str, field: str, kind: str, where: str, look_again_s: float | None = None
) -> NotAcceptable:
    message = f"{field}: {kind} {where} does not exist"
    return NotAcceptable(condition, "NotFound", message, pending=True, look_again_s=look_again_s)


def _within_quota(condition: str, field: str, target: AnyObject, *, judged: bool = True) -> None:
    """What is beyond its quota may not be used; its change wakes who waits for it.

    ``judged``: nothing is known of it before its first condition.
    """
    ready = get_condition(target.status.conditions, READY)
    if ready is None and judged:
        message = f"{field}: {target.kind.kind.lower()} {target.name} was not looked at yet"
        raise NotAcceptable(condition, "Waiting", message, pending=True)
    if ready is not None and ready.reason == QUOTA_EXCEEDED:
        kind = target.kind.kind.lower()
        message = f"{field}: {kind} {target.name}: {ready.message}"
        raise NotAcceptable(condition, QUOTA_EXCEEDED, message, pending=True)


def check_supported(spec: InstanceSpec) -> None:
    """Raises NotAcceptable for what is put off by name."""
    if spec.config_drive:
        raise not_supported_yet("configDrive")
    for index, device in enumerate(spec.block_devices):
        field = f"spec.blockDevices[{index}]"
        if device.source not in ("blank", "image"):
            raise not_supported_yet(f"{field}: source {device.source}")
        if device.tag is not None:
            what = f"{field}: tag"
            raise not_supported_yet(f"{what} (a guest reads it from metadata or config drive only)")
    _check_boot_order(spec)


def _check_boot_order(spec: InstanceSpec) -> None:
    """Two disks in one place of the boot order are a mistake, as with Nova."""
    seen: dict[int, int] = {}
    for index, device in enumerate(spec.block_devices):
        place = device.boot_index
        if place is None or place < 0:
            continue
        if place in seen:
            message = (
                f"spec.blockDevices[{index}].bootIndex: {place} is also that of "
                f"spec.blockDevices[{seen[place]}]"
            )
            raise NotAcceptable(READY, "InvalidSpec", message)
        seen[place] = index


def disks_of(obj: AnyObject, get: Get) -> tuple[ExtraDisk, ...]:
    """The disks of ``spec.blockDevices``, in order."""
    disks = []
    for index, device in enumerate(obj.spec.block_devices):
        image = None
        if device.image is not None:
            field = f"spec.blockDevices[{index}].image"
            image = _accepted_image(_image(obj, get, device.image, field, obj.namespace))
        size = (device.size_gib or 0) * GIB
        disks.append(ExtraDisk(size, image, device.bus or "virtio", device.swap, device.boot_index))
    return tuple(disks)


def flavor_of(obj: AnyObject, get: Get, project: str | None) -> AcceptedFlavor:
    """The flavor as it is now; one that the project may not use reads as not there."""
    name = obj.spec.flavor.name
    flavor = get("flavors", None, name)
    if flavor is None or flavor.deleting:
        raise _missing(FLAVOR_READY, "spec.flavor", "flavor", name)
    if not flavor.spec.public and project not in flavor.spec.projects:
        raise _missing(FLAVOR_READY, "spec.flavor", "flavor", name, look_again_s=LOOK_AGAIN_S)
    values = flavor.spec.wire() | {"name": name, "id": flavor.spec.id or flavor.uid}
    return AcceptedFlavor.model_validate(values)


def _visible(image: AnyObject, namespace: str) -> bool:
    if image.namespace == namespace or image.spec.visibility in ("public", "community"):
        return True
    return image.spec.visibility == "shared" and namespace in image.spec.shared_with


def _image(obj: AnyObject, get: Get, reference: Any, field: str, default: str) -> AnyObject:
    namespace = reference.namespace or default
    image = get("images", namespace, reference.name)
    if image is None or image.deleting or not _visible(image, obj.namespace):
        raise _missing(IMAGE_READY, field, "image", f"{namespace}/{reference.name}")
    if not is_true(image.status.conditions, "Ready"):
        ready = next((c for c in image.status.conditions if c.type == "Ready"), None)
        why = ready.message if ready else "it was not looked at yet"
        reason = ready.reason if ready else "Waiting"
        message = f"{field}: image {namespace}/{reference.name} is not ready: {why}"
        raise NotAcceptable(IMAGE_READY, reason, message, pending=True)
    return image


def _accepted_image(image: AnyObject, **parts: str | None) -> AcceptedImage:
    return AcceptedImage(
        name=image.name,
        namespace=image.namespace,
        uid=image.uid,
        id=image.status.id or image.uid,
        url=image.spec.source.url,
        sha256=image.status.sha256,
        disk_format=image.spec.disk_format,
        min_disk_gib=image.spec.min_disk_gib,
        min_memory_mib=image.spec.min_memory_mib,
        properties=image.spec.properties,
        **parts,
    )


def image_of(obj: AnyObject, get: Get) -> AcceptedImage:
    """The image as it is now, with its kernel and ramdisk."""
    image = _image(obj, get, obj.spec.image, "spec.image", obj.namespace)
    values: dict[str, str | None] = {}
    for part in ("kernel", "ramdisk"):
        reference = getattr(image.spec, part)
        if reference is not None:
            field = f"spec.image: spec.{part} of it"
            other = _image(obj, get, reference, field, image.namespace)
            values[f"{part}_url"] = other.spec.source.url
            values[f"{part}_sha256"] = other.status.sha256
    return _accepted_image(image, **values)


def check_fit(flavor: AcceptedFlavor, image: AcceptedImage) -> None:
    """Raises NotAcceptable when the flavor is too small for the image."""
    if 0 < flavor.root_gib < image.min_disk_gib:
        message = (
            f"flavor {flavor.name} has rootGiB {flavor.root_gib}, image {image.name} needs "
            f"minDiskGiB {image.min_disk_gib}"
        )
        raise NotAcceptable(FLAVOR_READY, "FlavorTooSmall", message)
    if flavor.memory_mib < image.min_memory_mib:
        message = (
            f"flavor {flavor.name} has memoryMiB {flavor.memory_mib}, image {image.name} needs "
            f"minMemoryMiB {image.min_memory_mib}"
        )
        raise NotAcceptable(FLAVOR_READY, "FlavorTooSmall", message)


def stop_timeout_s(image: AcceptedImage) -> int:
    """Seconds between the power button and the power cut.

    The image's ``os_shutdown_timeout``, else 60, as nova.conf ``shutdown_timeout``.
    Source: Nova's ImageMetaProps; bounds of the Guest's field.

    Raises:
        NotAcceptable: it is no whole number of seconds within a day.
    """
    text = image.properties.get("os_shutdown_timeout", "60")
    if not text.isascii() or not text.isdecimal() or int(text) > DAY_S:
        message = f"image property os_shutdown_timeout is {text!r}; allowed: 0 to {DAY_S} (seconds)"
        raise NotAcceptable(IMAGE_READY, "InvalidImageProperty", message)
    return int(text)


def keys_of(obj: AnyObject, by: By) -> tuple[GuestKey, ...]:
    """Public keys, in full or by the name of a KeyPair of the Instance's user."""
    found = []
    for key in obj.spec.keys:
        if key.public_key is not None:
            found.append(GuestKey(name=key.name, public_key=key.public_key))
            continue
        pairs = [
            pair
            for pair in by("keypairs", "name", key.name)
            if obj.spec.user_id in (None, pair.spec.user_id)
        ]
        if len(pairs) != 1:
            count = "no KeyPair" if not pairs else f"{len(pairs)} KeyPairs"
            message = f"spec.keys: {count} named {key.name}; give publicKey, or userID to choose"
            raise NotAcceptable(READY, "KeyNotFound", message, pending=not pairs)
        _within_quota(READY, "spec.keys", pairs[0])
        spec = pairs[0].spec
        found.append(GuestKey(name=key.name, type=spec.type, public_key=spec.public_key))
    return tuple(found)


class NicResolver:
    """Resolves ``spec.networks``."""

    def __init__(self, obj: AnyObject, get: Get, by: By) -> None:
        self._obj = obj
        self._get = get
        self._by = by

    def all(self) -> tuple[NicRequest, ...]:
        """Every NIC, or NotAcceptable for the first that cannot be."""
        requests = enumerate(self._obj.spec.networks)
        return tuple(self._one(f"spec.networks[{i}]", request) for i, request in requests)

    def _one(self, field: str, request: Any) -> NicRequest:
        port = self._port(field, request)
        reference = port.spec.network if port else request.network
        subnet = None
        if request.subnet is not None:
            subnet = self._subnet(field, request.subnet)
        if reference is None and subnet is None:
            raise NotAcceptable(
                NETWORK_READY, "InvalidSpec", f"{field} names no network, subnet or port"
            )
        if reference is not None:
            namespace, name = reference.namespace or self._obj.namespace, reference.name
        else:
            namespace, name = subnet.namespace, subnet.spec.network.name  # type: ignore[union-attr]
        network = self._network(field, namespace, name)
        subnets = (subnet,) if subnet else self._subnets(network)
        return NicRequest(network, subnets, request.address, port, request.tag)

    def _port(self, field: str, request: Any) -> AnyObject | None:
        if request.port is None:
            return None
        port = self._get("ports", self._obj.namespace, request.port.name)
        if port is None or port.deleting:
            where = f"{self._obj.namespace}/{request.port.name}"
            raise _missing(NETWORK_READY, f"{field}.port", "port", where)
        _within_quota(NETWORK_READY, f"{field}.port", port, judged=False)
        claim = port.status.claim
        if claim is not None and claim.instance_uid != self._obj.uid:
            message = f"{field}.port: port {port.name} belongs to instance {claim.instance_name}"
            raise NotAcceptable(NETWORK_READY, "PortInUse", message, pending=True)
        return port

    def _subnet(self, field: str, reference: Any) -> AnyObject:
        namespace = reference.namespace or self._obj.namespace
        subnet = self._get("subnets", namespace, reference.name)
        if subnet is None or subnet.deleting:
            where = f"{namespace}/{reference.name}"
            raise _missing(NETWORK_READY, f"{field}.subnet", "subnet", where)
        _within_quota(NETWORK_READY, f"{field}.subnet", subnet)
        return subnet

    def _network(self, field: str, namespace: str, name: str) -> AnyObject:
        network = self._get("networks", namespace, name)
        shared = network is not None and (
            namespace == self._obj.namespace or network.spec.shared or network.spec.external
        )
        if network is None or not shared or network.deleting:
            raise _missing(NETWORK_READY, f"{field}.network", "network", f"{namespace}/{name}")
        if not is_true(network.status.conditions, "Ready"):
            message = f"{field}.network: network {namespace}/{name} is not ready"
            raise NotAcceptable(NETWORK_READY, "NotReady", message, pending=True)
        return network

    def _subnets(self, network: AnyObject) -> tuple[AnyObject, ...]:
        subnets = self._by("subnets", "network", network.key)
        ready = [s for s in subnets if is_true(s.status.conditions, "Ready") and not s.deleting]
        if not ready:
            message = f"network {network.namespace}/{network.name} has no subnet that is ready"
            raise NotAcceptable(NETWORK_READY, "NoSubnet", message, pending=True)
        return tuple(sorted(ready, key=lambda s: (s.created_at, s.uid)))


def accept(obj: AnyObject, get: Get, by: By, project: str | None) -> Accepted:
    """Resolves everything; ``project`` is the one the Instance's namespace belongs to.

    Raises:
        NotAcceptable: the first thing that is missing or cannot work.
    """
    check_supported(obj.spec)
    flavor, image = flavor_of(obj, get, project), image_of(obj, get)
    check_fit(flavor, image)
    stop_timeout_s(image)
    nics, keys = NicResolver(obj, get, by).all(), keys_of(obj, by)
    return Accepted(flavor, image, nics, keys, disks_of(obj, get))
