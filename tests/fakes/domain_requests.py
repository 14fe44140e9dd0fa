"""Domain requests with sensible defaults, for tests of the libvirt driver."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from novakube_agent.ports import DomainIdentity, DomainRequest
from novakube_crds.v1alpha1.guest import GuestSpec, InstanceIdentity


def a_request(
    *,
    directory: Path = Path("/var/lib/novakube/guests"),
    uid: str | None = None,
    incarnation: int = 1,
    guest_uid: str | None = None,
    memory_mib: int = 32,
    vcpus: int = 1,
    properties: dict[str, str] | None = None,
    display_name: str = "web",
    kernel_args: str = "",
    **parts: Any,
) -> DomainRequest:
    """A guest without disks in 32 MiB; ``parts`` go to the DomainRequest as they are."""
    uid = uid or str(uuid.uuid4())
    guest_name = f"{uid}-{incarnation}"
    spec = GuestSpec(
        instance=InstanceIdentity(
            namespace="demo", name="web", uid=uid, id=uid, display_name=display_name
        ),
        incarnation=incarnation,
        hypervisor="node-1",
        hostname="web",
        vcpus=vcpus,
        memory_mib=memory_mib,
        flavor_name="tiny",
        kernel_args=kernel_args,
        image_properties=properties or {},
    )
    identity = DomainIdentity(
        instance_id=uid,
        instance_uid=uid,
        instance_namespace="demo",
        instance_name="web",
        guest_uid=guest_uid or uid,
        guest_name=guest_name,
        incarnation=incarnation,
    )
    fields: dict[str, Any] = {
        "disks": (),
        "nics": (),
        "console_log": directory / f"{guest_name}.console.log",
    }
    return DomainRequest(identity=identity, guest=spec, **(fields | parts))
