"""kopf's side of the operator: it watches, we decide. Nothing but feeding stores happens here.

No handler writes, so kopf puts no finalizer, annotation or Event on any object.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Protocol

import kopf

from novakube_kit.access import ClusterAccess
from novakube_operator.stores import FOLLOWED, WATCHED, Stores

SERVER_TIMEOUT_S = 300
INACTIVITY_S = 150.0
"""Bookmarks come about every minute; silence this long is a dead connection."""


def operator_settings() -> kopf.OperatorSettings:
    """Kopf as a watch engine only."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = SERVER_TIMEOUT_S + 15
    settings.watching.inactivity_timeout = INACTIVITY_S
    return settings


class Life(Protocol):
    """What begins before kopf watches and ends after it stopped."""

    async def startup(self, **_: Any) -> None:
        """Loads the stores and starts the rest of the process."""
        ...

    async def cleanup(self, **_: Any) -> None:
        """Stops it."""
        ...


def register(
    registry: kopf.OperatorRegistry, stores: Stores, access: ClusterAccess, life: Life
) -> None:
    """Puts all handlers into the registry; what is followed needs none."""
    for kind in (kind for kind in WATCHED if kind.plural not in FOLLOWED):
        feed = _feeding(stores, kind.plural)
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)(feed)
    kopf.on.event("", "v1", "nodes", registry=registry)(_raw(stores.feed_node, "node"))
    kopf.on.event("", "v1", "namespaces", registry=registry)(
        _raw(stores.feed_namespace, "namespace")
    )
    kopf.on.login(registry=registry)(_login(access))
    kopf.on.startup(registry=registry)(life.startup)
    kopf.on.cleanup(registry=registry)(life.cleanup)


def _feeding(stores: Stores, plural: str) -> Callable[..., Any]:
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        stores.feed(plural, event["type"], dict(event["object"]))

    return feed


def _raw(take: Callable[[str | None, dict[str, Any]], None], name: str) -> Callable[..., Any]:
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        take(event["type"], dict(event["object"]))

    feed.__name__ = name
    return feed


def _login(access: ClusterAccess) -> Callable[..., Any]:
    async def login(**_: Any) -> kopf.ConnectionInfo:
        token = None
        if access.token is not None:
            # kopf asks again after a 401: the file may have been rotated meanwhile.
            access.token.invalidate()
            token = await access.token.token()
        return kopf.ConnectionInfo(
            server=access.server,
            ca_data=_base64(access.ca_pem),
            token=token,
            certificate_data=_base64(access.certificate_pem),
            private_key_data=_base64(access.key_pem),
        )

    return login


def _base64(pem: str | None) -> str | None:
    return None if pem is None else base64.b64encode(pem.encode()).decode()
