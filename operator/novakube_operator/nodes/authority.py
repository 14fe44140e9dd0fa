"""The certificate authority's Secret, and what novakube-api needs from it.

Only the leader calls this. Made once: two leaders that race meet AlreadyExists and read the
winner's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import urlsplit

from prometheus_client import Gauge

from novakube_crds.base import SYSTEM_NAMESPACE
from novakube_kit.clock import Clock
from novakube_kit.errors import AlreadyExists, InvalidSpec, NotFound
from novakube_kit.kube import Json, KubePort, Resource
from novakube_kit.resources import CONFIGMAPS, SECRETS
from novakube_operator.core.certificates import Pair, ends_at, holds, new_authority, new_leaf

AUTHORITY_SECRET = "novakube-ca"  # noqa: S105 - a name
API_SECRET = "novakube-api-tls"  # noqa: S105 - a name
ENDPOINTS = "novakube-endpoints"
API_NAME = "novakube-api"
AUTHORITY_NAME = "novakube-ca"
ENDS = Gauge(
    "novakube_certificate_end_timestamp_seconds",
    "When a certificate ends, Unix time: novakube-ca, novakube-api, novakube-node:<node>.",
    ["certificate"],
)


def _data(values: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def _text(secret: Json, key: str) -> str:
    try:
        return base64.b64decode(secret.get("data", {})[key]).decode()
    except (KeyError, ValueError) as error:
        name = secret["metadata"]["name"]
        raise InvalidSpec(
            f"Secret {SYSTEM_NAMESPACE}/{name} has no usable {key}; delete the Secret to have "
            "a new one made",
            reason="InvalidAuthority",
        ) from error


class Authority:
    """The cloud's certificate authority, kept in a Secret."""

    def __init__(self, kube: KubePort, clock: Clock, api_url: str) -> None:
        """Takes the URL under which kubectl users reach novakube-api."""
        self._kube = kube
        self._clock = clock
        self._api_url = api_url
        self._pair: Pair | None = None

    async def pair(self) -> Pair:
        """The authority, made when it does not exist.

        Raises:
            InvalidSpec: the Secret is there but unusable.
            ApiUnavailable, Forbidden: from the API.
        """
        if self._pair is None:
            self._pair = await self._load_or_make()
        return self._pair

    async def _load_or_make(self) -> Pair:
        try:
            secret = await self._kube.get(SECRETS, AUTHORITY_SECRET, SYSTEM_NAMESPACE)
        except NotFound:
            made = new_authority(self._clock.now())
            body = _tls_secret(AUTHORITY_SECRET, {"tls.crt": made.certificate, "tls.key": made.key})
            try:
                await self._kube.create(SECRETS, body, SYSTEM_NAMESPACE)
            except AlreadyExists:
                return await self._load_or_make()
            return made
        return Pair(_text(secret, "tls.crt"), _text(secret, "tls.key"))

    def api_hosts(self) -> tuple[str, ...]:
        """Names and addresses novakube-api answers to."""
        service = f"{API_NAME}.{SYSTEM_NAMESPACE}"
        names = [API_NAME, service, f"{service}.svc"]
        host = urlsplit(self._api_url).hostname
        if host and host not in names:
            names.append(host)
        return tuple(names)

    async def ensure_api(self) -> None:
        """novakube-api's certificate (renewed in time) and the published endpoints."""
        authority, now = await self.pair(), self._clock.now()
        try:
            secret = await self._kube.get(SECRETS, API_SECRET, SYSTEM_NAMESPACE)
            current = _text(secret, "tls.crt")
        except NotFound:
            secret, current = None, ""
        if not holds(current, authority, self.api_hosts(), now):
            leaf = new_leaf(authority, API_NAME, self.api_hosts(), now)
            values = {
                "tls.crt": leaf.certificate,
                "tls.key": leaf.key,
                "ca.crt": authority.certificate,
            }
            await self._put(SECRETS, _tls_secret(API_SECRET, values), secret)
            current = leaf.certificate
        ENDS.labels(AUTHORITY_NAME).set(ends_at(authority.certificate).timestamp())
        ENDS.labels(API_NAME).set(ends_at(current).timestamp())
        await self._publish(authority)

    async def _publish(self, authority: Pair) -> None:
        data = {"apiURL": self._api_url, "ca.crt": authority.certificate}
        try:
            found = await self._kube.get(CONFIGMAPS, ENDPOINTS, SYSTEM_NAMESPACE)
        except NotFound:
            found = None
        if found is None or found.get("data") != data:
            body: Json = {"metadata": {"name": ENDPOINTS}, "data": data}
            await self._put(CONFIGMAPS, body, found)

    async def _put(self, resource: Resource, body: Json, found: Json | None) -> None:
        name = body["metadata"]["name"]
        if found is None:
            await self._kube.create(resource, body, SYSTEM_NAMESPACE)
            return
        patch = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "data": body["data"],
        }
        await self._kube.patch(resource, name, patch, SYSTEM_NAMESPACE)


def _tls_secret(name: str, values: Mapping[str, str]) -> Json:
    return {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": _data(values)}
