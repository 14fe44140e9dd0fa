"""What is done to domains, one blocking function per verb, each idempotent.

They run in the workers of ``libvirt_connection``, get the connection and return plain data.
Each looks first whether the domain is ours (``find``): a foreign one is as good as absent.
"""

from __future__ import annotations

import contextlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import libvirt

from novakube_agent.hostops.libvirt_errors import code_of
from novakube_agent.hostops.libvirt_states import domain_state
from novakube_agent.ports import DomainFacts, DomainRequest
from novakube_agent.render.domain import render_domain
from novakube_agent.render.host_profile import HostProfile
from novakube_agent.render.metadata import NAMESPACE, DomainRecord, parse_metadata
from novakube_kit.errors import HostBusy, HostFailure, NotFound

_UNDEFINE_FLAGS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_GONE = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA})


def record(domain: libvirt.virDomain) -> DomainRecord | None:
    """Our metadata of the definition; None for a foreign domain or one just undefined.

    The definition's, not the running one's: it is what ``define`` last wrote.
    """
    try:
        text = domain.metadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
        )
    except libvirt.libvirtError as error:
        # OPERATION_INVALID: a transient domain has no definition, so it is not ours.
        if code_of(error) in _GONE | {libvirt.VIR_ERR_OPERATION_INVALID}:
            return None
        if code_of(error) == libvirt.VIR_ERR_INVALID_ARG:
            return None
        raise
    return parse_metadata(text)


def find(conn: libvirt.virConnect, instance_id: str) -> libvirt.virDomain | None:
    """The domain of an instance, if it is there and ours."""
    try:
        domain = conn.lookupByUUIDString(instance_id)
    except libvirt.libvirtError as error:
        if code_of(error) == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    return domain if record(domain) is not None else None


def _required(conn: libvirt.virConnect, instance_id: str) -> libvirt.virDomain:
    domain = find(conn, instance_id)
    if domain is None:
        raise NotFound(f"there is no domain of instance {instance_id} on this node")
    return domain


def _facts(domain: libvirt.virDomain) -> DomainFacts | None:
    found = record(domain)
    if found is None:
        return None
    state, reason = domain.state(0)
    saved = state == libvirt.VIR_DOMAIN_SHUTOFF and bool(domain.hasManagedSaveImage(0))
    word, off = domain_state(state, reason, saved=saved)
    return DomainFacts(
        identity=found.identity,
        name=domain.name(),
        state=word,
        off_reason=off,
        spec_hash=found.spec_hash,
        vcpus=found.vcpus,
        memory_mib=found.memory_mib,
        disks_bytes=found.disks_bytes,
    )


def all_facts(conn: libvirt.virConnect) -> dict[str, DomainFacts]:
    """All domains of ours by instance id; one that vanishes meanwhile is left out."""
    found: dict[str, DomainFacts] = {}
    for domain in conn.listAllDomains(0):
        try:
            facts = _facts(domain)
        except libvirt.libvirtError as error:
            if code_of(error) != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            continue
        if facts is not None:
            found[domain.UUIDString()] = facts
    return found


def facts_of(conn: libvirt.virConnect, instance_id: str) -> DomainFacts | None:
    """One domain of ours."""
    domain = find(conn, instance_id)
    return None if domain is None else _facts(domain)


def define(conn: libvirt.virConnect, request: DomainRequest, host: HostProfile) -> None:
    """Defines or redefines; persistent, never autostarted.

    Raises:
        HostFailure: the UUID belongs to a foreign domain, or libvirt refuses the XML.
    """
    instance_id = request.identity.instance_id
    name: str | None = None
    try:
        domain = conn.lookupByUUIDString(instance_id)
    except libvirt.libvirtError as error:
        if code_of(error) != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    else:
        name = domain.name()
        if record(domain) is None:
            raise HostFailure(
                f"the foreign domain {name!r} on this node has the instance's id "
                f"{instance_id} as its UUID; remove it or place the instance elsewhere",
                reason="ForeignDomain",
            )
    domain = conn.defineXMLFlags(render_domain(request, host, name=name).xml, 0)
    if domain.hasManagedSaveImage(0):
        _move_save_image(domain, request.console_log.parent)


def _move_save_image(domain: libvirt.virDomain, directory: Path) -> None:
    """The memory image has a definition of its own: its paths lead to the guest's directory.

    The directory has another name since the next incarnation took the guest over. All files of a
    guest are in it, so what is below its parent can only mean it.
    """
    saved = domain.managedSaveGetXMLDesc(libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
    moved = re.sub(rf"{re.escape(str(directory.parent))}/[^/<>'\"]+/", f"{directory}/", saved)
    if moved != saved:
        domain.managedSaveDefineXML(moved, 0)


def start(conn: libvirt.virConnect, instance_id: str) -> None:
    """Starts, from the managed save image if there is one.

    Raises:
        NotFound: no such domain.
        HostFailure: reason ``RestoreFailed``: the image cannot be restored; it is kept.
    """
    domain = _required(conn, instance_id)
    if domain.isActive():
        return
    saved = bool(domain.hasManagedSaveImage(0))
    if saved:
        _check_save_image(domain, instance_id)
    try:
        domain.create()
    except libvirt.libvirtError as error:
        if domain.isActive() and code_of(error) == libvirt.VIR_ERR_OPERATION_INVALID:
            return
        if saved and domain.hasManagedSaveImage(0):
            raise _restore_failed(instance_id, error) from error
        raise


def _check_save_image(domain: libvirt.virDomain, instance_id: str) -> None:
    """Reads the image's header before ``create`` does.

    ``create`` would silently remove an image that is cut off and boot afresh, losing what
    the guest had in memory.
    """
    try:
        domain.managedSaveGetXMLDesc(0)
    except libvirt.libvirtError as error:
        raise _restore_failed(instance_id, error) from error


def _restore_failed(instance_id: str, error: libvirt.libvirtError) -> HostFailure:
    return HostFailure(
        f"the memory image of instance {instance_id} cannot be restored: "
        f"{str(error.get_error_message()).rstrip('. ')}; the image is kept on the node; "
        "stopping the instance discards it",
        reason="RestoreFailed",
    )


def console_logs(conn: libvirt.virConnect) -> list[Path]:
    """Console log files of the running domains of ours."""
    logs = []
    for domain in conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        if record(domain) is None:
            continue
        tree = ET.fromstring(domain.XMLDesc(0))  # noqa: S314  libvirt's own
        logs += [Path(log.attrib["file"]) for log in tree.iterfind("devices/serial/log")]
    return logs


def shutdown(conn: libvirt.virConnect, instance_id: str) -> None:
    """Presses the power button once; nothing to do when it is off."""
    domain = find(conn, instance_id)
    if domain is None or not domain.isActive():
        return
    _unless_off(domain, lambda: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))


def power_off(conn: libvirt.virConnect, instance_id: str) -> None:
    """Cuts the power. A saved guest loses its memory image: it is off afterwards."""
    domain = find(conn, instance_id)
    if domain is None:
        return
    if domain.isActive():
        _unless_off(domain, lambda: domain.destroyFlags(0))
    if domain.hasManagedSaveImage(0):
        domain.managedSaveRemove(0)


def _unless_off(domain: libvirt.virDomain, act: Callable[[], object]) -> None:
    """The domain may have gone off between the look and the act: then all is well."""
    try:
        act()
    except libvirt.libvirtError as error:
        if code_of(error) != libvirt.VIR_ERR_OPERATION_INVALID or domain.isActive():
            raise


def _require_active(domain: libvirt.virDomain, instance_id: str, verb: str) -> None:
    if not domain.isActive():
        raise HostFailure(
            f"cannot {verb} instance {instance_id}: its domain is off", reason="NotRunning"
        )


def pause(conn: libvirt.virConnect, instance_id: str) -> None:
    """Stops the vCPUs."""
    domain = _required(conn, instance_id)
    _require_active(domain, instance_id, "pause")
    if domain.state(0)[0] != libvirt.VIR_DOMAIN_PAUSED:
        domain.suspend()


def unpause(conn: libvirt.virConnect, instance_id: str) -> None:
    """Lets the vCPUs run again."""
    domain = _required(conn, instance_id)
    _require_active(domain, instance_id, "unpause")
    if domain.state(0)[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


def save(conn: libvirt.virConnect, instance_id: str) -> None:
    """Suspends to disk; the image always resumes to running.

    Raises:
        HostBusy: reason ``SuspendFailed``: libvirt gave up and the guest runs on. So ends a
            suspend that meets the remains of one that a killed libvirtd left in QEMU.
    """
    domain = _required(conn, instance_id)
    if not domain.isActive() and domain.hasManagedSaveImage(0):
        return
    _require_active(domain, instance_id, "suspend")
    try:
        domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
    except libvirt.libvirtError as error:
        if code_of(error) != libvirt.VIR_ERR_OPERATION_FAILED or not domain.isActive():
            raise
        _activate_disks(domain)
        sentence = f"libvirt could not suspend domain {instance_id}: {error.get_error_message()}"
        raise HostBusy(sentence, reason="SuspendFailed") from error


def _activate_disks(domain: libvirt.virDomain) -> None:
    """Gives a guest that runs on the use of its disks back.

    QEMU 7.2 keeps them inactive after a save whose libvirtd was killed near its end: the guest
    could not write, and each further save fails with "bdrv_inactivate_all() failed". Only
    ``cont``, after a ``stop``, activates them.
    """
    with contextlib.suppress(libvirt.libvirtError):  # the next attempt tells what is wrong
        if domain.state(0)[0] != libvirt.VIR_DOMAIN_PAUSED:
            domain.suspend()
        domain.resume()


def reset(conn: libvirt.virConnect, instance_id: str) -> None:
    """The reset button."""
    domain = _required(conn, instance_id)
    _require_active(domain, instance_id, "reset")
    domain.reset(0)


def inject_nmi(conn: libvirt.virConnect, instance_id: str) -> None:
    """A non-maskable interrupt for the guest's kernel."""
    domain = _required(conn, instance_id)
    _require_active(domain, instance_id, "interrupt")
    domain.injectNMI(0)


def undefine(conn: libvirt.virConnect, instance_id: str) -> None:
    """Removes the definition with managed save, NVRAM, snapshot and checkpoint records.

    Raises:
        HostBusy: the domain is on; undefining would leave a transient one behind.
    """
    domain = find(conn, instance_id)
    if domain is None:
        return
    if domain.isActive():
        raise HostBusy(
            f"the domain of instance {instance_id} is on and cannot be undefined",
            reason="DomainActive",
        )
    try:
        domain.undefineFlags(_UNDEFINE_FLAGS)
    except libvirt.libvirtError as error:
        if code_of(error) != libvirt.VIR_ERR_NO_DOMAIN:
            raise
