"""The local cloud: a control plane and nodes with hypervisors on one machine."""
