"""The hypervisor driver for KVM and QEMU through libvirt."""

from novakube_agent.drivers.libvirt.driver import LibvirtDriver, LibvirtSettings

__all__ = ["LibvirtDriver", "LibvirtSettings"]
