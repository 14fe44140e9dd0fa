"""Single requests to the API server: their description, their URL, their answer.

``kube_aio`` sends them; nothing else does.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from novakube_kit.access import ClusterAccess
from novakube_kit.api_errors import api_error, retry_after_s
from novakube_kit.errors import ApiUnavailable, InvalidSpec
from novakube_kit.kube import Json, Resource
from novakube_kit.metrics import API_REQUESTS

ATTEMPT_S = 10.0
"""One request and its answer; a list of a large cluster gets the whole deadline."""
JSON_ONLY = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ (Accept)."""

_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9:._-]{1,253}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, whoever sends it."""

    verb: str
    method: str
    res: Resource
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    repeatable: bool = True
    """False: a request whose fate is unknown is not sent again."""
    sub: str = ""
    attempt_s: float = ATTEMPT_S
    accept: str = JSON_ONLY

    @property
    def target(self) -> str:
        """Plural and subresource, as metrics name it."""
        return f"{self.res.plural}/{self.sub}" if self.sub else self.res.plural


def rest_client(access: ClusterAccess) -> RESTClientObject:
    """The official client's connections to that server."""
    with tempfile.TemporaryDirectory(prefix="novakube-") as directory:
        # OpenSSL reads a client certificate from files only; they live until it has read them.
        certificate = key = None
        if access.certificate_pem and access.key_pem:
            certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
            certificate.write_text(access.certificate_pem)
            key.write_text(access.key_pem)
        return RESTClientObject(
            Configuration(
                host=access.server,
                ca_cert_data=access.ca_pem,
                cert_file=str(certificate) if certificate else None,
                key_file=str(key) if key else None,
                # Watches hold a connection each; the callers bound their own concurrency.
                connection_pool_maxsize=0,
                # aiohttp would look for proxies and netrc at every request.
                client_session_kwargs={"trust_env": False},
            )
        )


def object_path(
    res: Resource, namespace: str | None, name: str | None = None, sub: str = ""
) -> str:
    """The URL path; names come from users, so nothing but a name may pass."""
    for what, segment in (("namespace", namespace), ("name", name)):
        if segment is not None and not _SEGMENT.fullmatch(segment):
            raise InvalidSpec(f"{what} {segment!r} is no legal name of a Kubernetes object")
    return res.path(namespace, name, sub)


def selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    """The query of those that are given."""
    wanted = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in wanted.items() if value}


def checked(call: Call, response: aiohttp.ClientResponse, content: bytes) -> Json:
    """The answer's JSON; counts it, raises the error that an answer >= 400 stands for."""
    API_REQUESTS.labels(call.verb, call.target, response.status).inc()
    try:
        body: Json = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        # A proxy's page or a cut answer; its first words are the best cause there is.
        body = {"message": content[:200].decode("utf-8", "replace").strip()}
        if response.status < 400:
            raise ApiUnavailable(f"{call.verb} {call.path}: answer is no JSON") from error
    if response.status < 400:
        return body
    raise api_error(response.status, body, retry_after_s(response.headers.get("Retry-After")))


def unreachable(call: Call, error: Exception) -> ApiUnavailable:
    """The error of a request without an answer; counts it."""
    API_REQUESTS.labels(call.verb, call.target, "none").inc()
    return ApiUnavailable(
        f"{call.verb} {call.path}: no answer from the Kubernetes API: "
        f"{str(error) or type(error).__name__}"
    )


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; StreamReader.readline refuses those over its buffer."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
