"""The ports of a node by the configured driver.

Imported lazily: a simulation needs no libvirt library.
"""

from __future__ import annotations

from pathlib import Path

from novakube_agent.drivers.fake import fake_ports, fake_state
from novakube_agent.host import HostPorts
from novakube_agent.settings import Settings


def host_ports(node: str, settings: Settings, state_dir: Path) -> HostPorts:
    """The five ports of one node."""
    if settings.driver == "fake":
        return fake_ports(fake_state(node, settings.fake, state_dir), settings.fake, state_dir)
    return _libvirt_ports(settings)


def _libvirt_ports(settings: Settings) -> HostPorts:
    from novakube_agent.drivers.libvirt.driver import LibvirtDriver, LibvirtSettings
    from novakube_agent.hostops.dhcp_leases import DhcpLeases
    from novakube_agent.hostops.disks import DiskStore
    from novakube_agent.hostops.download import DownloadLimits
    from novakube_agent.hostops.download_address import AddressPolicy
    from novakube_agent.hostops.images import ImageCache, ImageSettings
    from novakube_agent.hostops.network import NetworkSettings, NodeNetwork

    state_dir = settings.state_dir
    addresses = AddressPolicy(settings.image_allowed_cidrs, settings.image_refused_cidrs)
    download = DownloadLimits(stalled_s=settings.image_stalled_s)
    return HostPorts(
        driver=LibvirtDriver(LibvirtSettings(state_dir, settings.libvirt_uri, settings.virt_type)),
        images=ImageCache(ImageSettings(state_dir, addresses, download)),
        disks=DiskStore(state_dir),
        network=NodeNetwork(NetworkSettings(state_dir, settings.physical_networks)),
        leases=DhcpLeases(state_dir),
    )
