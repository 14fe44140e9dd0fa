"""Routes for kubectl users: a Kubernetes token in, bytes of the guest out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from novakube_api.agents import AgentClient, place_of
from novakube_api.authorization import Right, authenticate, authorize, bearer_token
from novakube_kit.kube import KubePort

router = APIRouter(prefix="/kubectl/v1")
NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
DEFAULT_TAIL_BYTES = 100 * 1024
"""Nova's MAX_CONSOLE_BYTES (nova/virt/libvirt/driver.py)."""
MAX_TAIL_BYTES = 8 * 1024 * 1024
"""As much as an agent gives (novakube_agent.server.TAIL_MAX)."""


@router.get("/namespaces/{namespace}/instances/{name}/console-log")
async def console_log(
    request: Request,
    namespace: Annotated[str, Path(max_length=63, pattern=NAME)],
    name: Annotated[str, Path(max_length=253, pattern=NAME)],
    authorization: Annotated[str | None, Header()] = None,
    tail_bytes: Annotated[
        int, Query(alias="tailBytes", ge=1, le=MAX_TAIL_BYTES)
    ] = DEFAULT_TAIL_BYTES,
) -> StreamingResponse:
    """The console log's last bytes; needs ``get`` on ``instances/console``."""
    kube: KubePort = request.app.state.kube
    agents: AgentClient = request.app.state.agents
    caller = await authenticate(kube, bearer_token(authorization))
    await authorize(kube, caller, Right("get", "instances", "console", namespace, name))
    stream = agents.console_log(await place_of(kube, namespace, name), tail_bytes)
    # The first chunk is fetched before the answer starts, so that an agent that does not
    # answer is an HTTP error and not a broken body.
    first = await anext(stream, b"")

    async def body() -> AsyncIterator[bytes]:
        # Closed at once when the caller goes away, and with it the agent's connection.
        async with aclosing(stream):
            yield first
            async for chunk in stream:
                yield chunk

    return StreamingResponse(body(), media_type="text/plain; charset=utf-8")
