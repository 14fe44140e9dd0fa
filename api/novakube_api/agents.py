"""The agents' mutual-TLS port, as a client: which node, at which address, what bytes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from novakube_crds.v1alpha1.hypervisor import HYPERVISOR
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.errors import NotFound, Retryable
from novakube_kit.kube import KubePort
from novakube_kit.resources import resource_of

INSTANCES = resource_of(INSTANCE)
HYPERVISORS = resource_of(HYPERVISOR)
CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class GuestPlace:
    """Where the bytes of an Instance are."""

    guest: str
    node: str
    address: str
    port: int


class AgentUnreachable(Retryable):
    """The node's agent cannot be reached, is not who it should be, or broke off."""

    reason = "AgentUnreachable"


class AgentFailed(Retryable):
    """The node's agent answered, but with an error."""

    reason = "AgentFailed"


async def place_of(kube: KubePort, namespace: str, name: str) -> GuestPlace:
    """Finds the node of an Instance and the address of its agent.

    Raises:
        NotFound: no such Instance, or it has no guest yet; the message says which.
        AgentUnreachable: the node is not known any more, or has reported no address.
    """
    instance = await kube.get(INSTANCES, name, namespace)
    status = instance.get("status", {})
    guest, node = status.get("guest"), status.get("node")
    if not guest or not node:
        state = status.get("state", "unknown")
        raise NotFound(f"instance {namespace}/{name} is on no node yet (state {state})")
    try:
        hypervisor = (await kube.get(HYPERVISORS, node)).get("status", {})
    except NotFound as error:
        raise AgentUnreachable(
            f"instance {namespace}/{name} is on node {node}, which has no Hypervisor any more"
        ) from error
    address, port = hypervisor.get("address"), hypervisor.get("agentPort")
    if not address or not port:
        raise AgentUnreachable(f"the agent of node {node} has reported no address yet")
    return GuestPlace(guest, node, address, int(port))


def client_context(tls_dir: Path) -> ssl.SSLContext:
    """TLS towards agents: our certificate shown, theirs checked against our CA."""
    context = ssl.create_default_context(cafile=str(tls_dir / "ca.crt"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(tls_dir / "tls.crt", tls_dir / "tls.key")
    return context


class AgentClient:
    """Streams bytes from agents; one connection pool for the process.

    After ``reload`` new connections show the rotated certificate; open ones keep theirs.
    """

    def __init__(self, tls_dir: Path, timeout_s: float) -> None:
        self._tls_dir = tls_dir
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=timeout_s)
        self._tls = client_context(tls_dir)
        self._session: aiohttp.ClientSession | None = None

    def reload(self) -> None:
        """Takes the certificate from the files again."""
        self._tls = client_context(self._tls_dir)

    async def close(self) -> None:
        """Closes the pool."""
        if self._session is not None:
            await self._session.close()

    async def console_log(self, place: GuestPlace, tail_bytes: int) -> AsyncGenerator[bytes, None]:
        """The last bytes of a guest's console log.

        Raises:
            NotFound: the guest has no console log (never started).
            AgentFailed: the agent refused or failed; the message has its words.
            AgentUnreachable: the agent cannot be reached, has a certificate of another name
                or authority, or breaks off.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        host = f"[{place.address}]" if ":" in place.address else place.address
        url = f"https://{host}:{place.port}/v1/guests/{place.guest}/console-log"
        try:
            async with self._session.get(
                url, params={"tail": str(tail_bytes)}, ssl=self._tls, server_hostname=place.node
            ) as answer:
                if answer.status == 404:
                    raise NotFound(f"guest {place.guest} has no console log yet")
                if answer.status != 200:
                    text = (await answer.text())[:200]
                    raise AgentFailed(
                        f"the agent of node {place.node} answered {answer.status}: {text}"
                    )
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    yield chunk
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise AgentUnreachable(
                f"the agent of node {place.node} ({host}:{place.port}) cannot be reached: "
                f"{str(error) or type(error).__name__}"
            ) from error
