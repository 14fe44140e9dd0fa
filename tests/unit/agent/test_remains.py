"""What the node tells of domains without a Guest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from novakube_agent.drivers.fake import FakeState
from novakube_agent.remains import Sweep
from novakube_agent.report import NodeState, report_status
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_crds.v1alpha1.hypervisorreport import HypervisorReportStatus, OrphanDomain
from tests.fakes.host import Agent, StatusSink, a_guest, a_nic, uid

NOW = datetime(2030, 1, 1, tzinfo=UTC)


async def a_running_guest(tmp_path: Path) -> Agent:
    address = {"address": "fd00:0:0::5", "subnet": {"uid": uid(1), "cidr": "fd00::/64"}}
    nic = GuestNic.model_validate(a_nic().wire() | {"addresses": [address]})
    agent = await Agent(FakeState("n1"), tmp_path, StatusSink(), {}).start()
    await agent.settle(a_guest(nics=[nic]))
    return agent


async def orphans(agent: Agent, *fenced: str) -> tuple[OrphanDomain, ...]:
    return (await Sweep(agent.host, lambda: ())(fenced)).orphans


async def test_sizes_image_and_nics_are_told(tmp_path: Path) -> None:
    agent = await a_running_guest(tmp_path)
    (found,) = await orphans(agent)
    assert (found.vcpus, found.memory_mib, found.disk_bytes) == (1, 128, 1 << 30)
    assert found.image_url == "http://192.0.2.10/a.qcow2"
    assert len(found.image_sha256) == 64
    assert found.nics_known
    (nic,) = found.nics
    assert (nic.mac, nic.network_name, nic.port_uid) == (a_nic().mac, "net", a_nic().port_uid)
    assert nic.addresses == ["fd00::5"]  # canonical, as claims have it


async def test_without_its_journal_a_domains_nics_are_not_known(tmp_path: Path) -> None:
    agent = await a_running_guest(tmp_path)
    await agent.journals.forget(a_guest().uid)
    (found,) = await orphans(agent)
    assert (found.vcpus, found.nics_known, found.nics, found.image_url) == (1, False, [], "")


async def test_an_order_destroys_only_its_domain(tmp_path: Path) -> None:
    agent = await a_running_guest(tmp_path)
    other = a_guest(instance=2)
    await agent.settle(other)
    (left,) = await orphans(agent, a_guest().uid)
    assert left.guest_uid == other.uid
    assert list(agent.state.stored.domains) == [other.spec.instance.id]
    assert set(agent.state.stored.disks) == {other.name}
    assert set(agent.state.stored.nics) == {other.spec.nics[0].port_uid}


def test_an_agent_that_has_not_looked_yet_takes_nothing_back() -> None:
    """Else addresses of domains that run on would be free for a moment after its start."""
    before = HypervisorReportStatus(orphans=[OrphanDomain(instance_id=uid(1))])
    state = NodeState()
    assert report_status(state, before, 1, NOW).orphans == before.orphans
    state.orphans = ()
    assert report_status(state, before, 1, NOW).orphans == []
