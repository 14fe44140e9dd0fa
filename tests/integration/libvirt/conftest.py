"""A private libvirtd per session, a driver and a maker of domain requests per test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from novakube_agent.drivers.libvirt import LibvirtDriver, LibvirtSettings
from novakube_agent.ports import DomainEvent, DomainFacts, DomainRequest
from tests.fakes.domain_requests import a_request
from tests.integration.libvirt.private_libvirtd import PrivateLibvirtd
from tests.waiting import wait_until


@dataclass
class Node:
    """A driver on the private libvirtd, with the events it told."""

    driver: LibvirtDriver
    libvirtd: PrivateLibvirtd
    events: list[DomainEvent] = field(default_factory=list)

    async def until_state(self, instance_id: str, state: str, deadline_s: float) -> DomainFacts:
        async def there() -> DomainFacts | None:
            facts = await self.driver.domain(instance_id)
            return facts if facts is not None and facts.state == state else None

        found = await wait_until(there, f"{instance_id} {state}", deadline_s)
        assert found is not None
        return found


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    daemon = PrivateLibvirtd()
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def settings(libvirtd: PrivateLibvirtd, tmp_path: Path) -> LibvirtSettings:
    return LibvirtSettings(
        state_dir=tmp_path,
        uri=libvirtd.uri,
        virt_type="qemu",
    )


@pytest_asyncio.fixture
async def node(libvirtd: PrivateLibvirtd, settings: LibvirtSettings) -> AsyncIterator[Node]:
    found = Node(LibvirtDriver(settings), libvirtd)
    await found.driver.open(found.events.append)
    yield found
    for instance_id in await found.driver.domains():
        await found.driver.power_off(instance_id)
        await found.driver.undefine(instance_id)
    await found.driver.close()


@pytest.fixture(scope="session")
def guest_image(pytestconfig: pytest.Config) -> Path:
    """Folder with the tiny guest: vmlinuz, initrd.img, novakube-guest.qcow2. Kept up to date."""
    folder = pytestconfig.rootpath / ".cache" / "guest_image"
    build = pytestconfig.rootpath / "local" / "guest_image" / "build.py"
    subprocess.run([sys.executable, str(build), "--out", str(folder)], check=True)
    return folder


@pytest.fixture
def request_of(libvirtd: PrivateLibvirtd) -> Callable[..., DomainRequest]:
    """Requests whose files lie where the private QEMU sees them."""

    def make(**changes: object) -> DomainRequest:
        return a_request(directory=libvirtd.data, **changes)

    return make
