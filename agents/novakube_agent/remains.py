"""What is on the node without a Guest: orphans are kept and reported, fenced ones destroyed.

Absence of a Guest never destroys. The only order that reaches a domain without a Guest is its
Guest UID in ``HypervisorReport.spec.fenced``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from novakube_agent.host import Host
from novakube_agent.model import Journal
from novakube_agent.ports import DomainFacts
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_crds.v1alpha1.hypervisorreport import OrphanDomain, OrphanNic
from novakube_kit.failpoints import failpoint

_log = logging.getLogger(__name__)
IMAGE_URL_MAX = 1024
"""Of ``OrphanDomain.imageURL``: a thousand orphans must fit into one report."""


@dataclass(frozen=True, slots=True)
class Remains:
    """The outcome of one sweep."""

    orphans: tuple[OrphanDomain, ...]
    fenced_gone: tuple[str, ...]


class Sweep:
    """Looks over the whole node; the reconciler looks at single Guests."""

    def __init__(self, host: Host, guest_uids: Callable[[], Collection[str]]) -> None:
        """Args: guest_uids: UIDs of all Guests as last seen, once the watch is complete."""
        self._host = host
        self._guest_uids = guest_uids

    async def __call__(self, fenced: Collection[str]) -> Remains:
        """Destroys fenced remains, forgets journals of which nothing is left, and reports.

        Raises:
            Retryable, Terminal: the node did not do or say something; the caller repeats.
        """
        domains = await self._host.ports.driver.domains()
        for uid in set(fenced) - set(self._guest_uids()):
            await self._destroy(uid, domains)
        domains = await self._host.ports.driver.domains()
        await self._forget_empty(domains)
        present = {facts.identity.guest_uid for facts in domains.values()}
        known = set(self._guest_uids())
        orphans = [
            orphan(facts, self._host.journals.get(facts.identity.guest_uid))
            for facts in domains.values()
            if facts.identity.guest_uid not in known and facts.identity.guest_uid not in fenced
        ]
        gone = [
            uid for uid in fenced if uid not in present and self._host.journals.get(uid) is None
        ]
        orphans.sort(key=lambda one: one.instance_id)
        return Remains(tuple(orphans), tuple(sorted(gone)))

    async def _destroy(self, uid: str, domains: Mapping[str, DomainFacts]) -> None:
        ports, journal = self._host.ports, self._host.journals.get(uid)
        facts = next((f for f in domains.values() if f.identity.guest_uid == uid), None)
        if facts is not None:
            _log.warning("destroying the domain of fenced Guest %s", facts.identity.guest_name)
            if facts.state not in ("Shutoff", "Saved"):
                with failpoint("driver.power_off"):
                    await ports.driver.power_off(facts.identity.instance_id)
            with failpoint("driver.undefine"):
                await ports.driver.undefine(facts.identity.instance_id)
        name = facts.identity.guest_name if facts else journal.guest_name if journal else None
        if journal is not None:
            await self._unplug(journal)
        if name is not None:
            with failpoint("disks.remove"):
                await ports.disks.remove(name)
        if journal is not None:
            await self._host.journals.forget(uid)

    async def _unplug(self, journal: Journal) -> None:
        for nic in journal.nics:
            if not self._host.journals.claimed_by_others(journal, nic.port_uid):
                with failpoint("network.remove_nic"):
                    await self._host.ports.network.remove_nic(journal.guest_name, nic)

    async def _forget_empty(self, domains: Mapping[str, DomainFacts]) -> None:
        """A journal without Guest, domain, disks and NICs holds room for nothing."""
        directories = await self._host.ports.disks.guests()
        present = await self._host.ports.network.present()
        uids = {facts.identity.guest_uid for facts in domains.values()} | set(self._guest_uids())
        for journal in self._host.journals:
            held = {nic.port_uid for nic in journal.nics} & present
            mine = {
                port for port in held if not self._host.journals.claimed_by_others(journal, port)
            }
            if journal.guest_uid not in uids and journal.guest_name not in directories and not mine:
                await self._host.journals.forget(journal.guest_uid)


def orphan(facts: DomainFacts, journal: Journal | None) -> OrphanDomain:
    """What is known of a domain without a Guest; without a journal its NICs are not. Pure."""
    identity = facts.identity
    images = journal.images if journal is not None else ()
    root = next((image for image in images if image.root), None)
    url = root.url if root is not None and len(root.url) <= IMAGE_URL_MAX else ""
    return OrphanDomain(
        instance_id=identity.instance_id,
        guest_uid=identity.guest_uid,
        incarnation=identity.incarnation,
        instance_namespace=identity.instance_namespace,
        instance_name=identity.instance_name,
        instance_uid=identity.instance_uid,
        state=facts.state,
        vcpus=facts.vcpus,
        memory_mib=facts.memory_mib,
        disk_bytes=facts.disks_bytes,
        image_url=url,
        image_sha256=root.sha256 if root is not None else "",
        nics_known=journal is not None and journal.admitted is not None,
        nics=[_nic(nic) for nic in journal.nics] if journal is not None else [],
    )


def _nic(nic: GuestNic) -> OrphanNic:
    return OrphanNic(
        port_uid=nic.port_uid,
        mac=nic.mac,
        network_namespace=nic.network_namespace,
        network_name=nic.network_name,
        network_uid=nic.network_uid,
        addresses=[str(ip_address(item.address)) for item in nic.addresses],
    )
