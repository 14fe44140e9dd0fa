"""Nodes: mailboxes, certificates, heartbeats, Hypervisors."""
