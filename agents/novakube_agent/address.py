"""The node's own address, when nobody names it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit


def default_address(api_server: str) -> str | None:
    """The address this host uses towards the API server; None when it has no route there.

    Nothing is sent: connecting a datagram socket only asks the routing table.
    """
    parts = urlsplit(api_server)
    host = parts.hostname or ""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, parts.port or 443))
        except OSError:
            return None
        return str(probe.getsockname()[0])
