"""``KubePort`` over the asyncio half of the official ``kubernetes`` package.

The package gives connection, TLS and request; JSON stays JSON (no model objects), because
deserialising into the generated models costs more than the request itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import orjson

from novakube_kit.access import ClusterAccess
from novakube_kit.api_calls import (
    ATTEMPT_S,
    JSON_ONLY,
    METADATA_ONLY,
    Call,
    checked,
    lines,
    object_path,
    rest_client,
    selectors,
    unreachable,
)
from novakube_kit.api_errors import UNAUTHORIZED, api_error
from novakube_kit.errors import ApiUnavailable, Forbidden
from novakube_kit.failpoints import failpoint
from novakube_kit.kube import Json, JsonPatch, PatchType, Resource, WatchEvent
from novakube_kit.metrics import API_REQUESTS, API_SECONDS
from novakube_kit.tokens import TokenSource

DEADLINE_S = 30.0
"""A whole call with its retries."""
CONNECT_S = 5.0
ATTEMPTS = 4
BACKOFF_S = 0.1
WATCH_GRACE_S = 15.0
"""How much longer than asked a watch may last before it is given up."""

_CONTENT_TYPES: Mapping[PatchType, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class AioKube:
    """The Kubernetes API as one identity sees it.

    Reads, patches, replaces and deletes are repeated after connection errors, 5xx and 429
    (``Retry-After`` is kept) within one deadline; creates never are. A repeated delete may so
    answer NotFound, a repeated conditional patch Conflict, though the first one worked. A JSON
    patch is repeated only when it begins with a ``test``. After a 401 the token is asked for
    again, once. Must be closed.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        deadline_s: float = DEADLINE_S,
        user_agent: str = "novakube",
    ) -> None:
        """Args: deadline_s: bound of every call, retries included; watches have their own."""
        self._access = access
        self._deadline_s = deadline_s
        self._user_agent = user_agent
        self._rest = rest_client(access)

    @property
    def access(self) -> ClusterAccess:
        """The access it was made with."""
        return self._access

    def acting_as(self, token: TokenSource) -> AioKube:
        """The same server as another identity over the same connections.

        One process may so act for many nodes. It needs no ``close`` of its own.
        """
        twin = object.__new__(AioKube)
        twin._access = self._access.with_token(token)
        twin._deadline_s = self._deadline_s
        twin._user_agent = self._user_agent
        twin._rest = self._rest
        return twin

    async def close(self) -> None:
        """Closes the connections."""
        await self._rest.close()
        await asyncio.sleep(0)  # a turn of the loop for transports that watches aborted

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> Json:
        """One object. Raises NotFound."""
        return await self._call(Call("get", "GET", res, object_path(res, namespace, name)))

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        metadata_only: bool = False,
    ) -> Json:
        """The whole list object, in pages of ``limit``.

        Raises:
            Conflict: reason Expired: the pages outlived the server's history; begin again.
        """
        query = selectors(label_selector, field_selector)
        if limit:
            query["limit"] = str(limit)
        path = object_path(res, namespace)
        accept = METADATA_ONLY if metadata_only else JSON_ONLY
        items: list[Json] = []
        while True:
            page = await self._call(
                Call("list", "GET", res, path, query, attempt_s=self._deadline_s, accept=accept)
            )
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                page["items"] = items
                return page
            query = {**query, "continue": token}

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        """One watch request with bookmarks. ERROR events are raised, never yielded.

        Raises:
            Conflict: reason Expired: list again.
            ApiUnavailable: the connection broke or the server asks to wait.
        """
        query = selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        call = Call("watch", "GET", res, object_path(res, namespace), query)
        response = await self._opened(call, timeout_s + WATCH_GRACE_S)
        try:
            async for line in lines(response.content):
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise api_error(int(event["object"].get("code") or 500), event["object"])
                yield WatchEvent(event["type"], event["object"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(call, error) from error
        finally:
            _abort(response)

    async def create(
        self,
        res: Resource,
        body: Json,
        namespace: str | None = None,
        *,
        sub: str = "",
        name: str | None = None,
    ) -> Json:
        """POST, never repeated. Raises AlreadyExists, InvalidSpec, Forbidden, NotFound."""
        path = object_path(res, namespace, name, sub)
        call = Call("create", "POST", res, path, body=body, repeatable=False, sub=sub)
        return await self._write(call)

    async def patch(
        self,
        res: Resource,
        name: str,
        patch: Mapping[str, Any] | JsonPatch,
        namespace: str | None = None,
        *,
        sub: str = "",
        patch_type: PatchType = "merge",
        field_manager: str | None = None,
    ) -> Json:
        """PATCH; ``apply`` forces conflicts and needs ``field_manager``.

        Raises:
            Conflict: the patch carried a resourceVersion that is not the current one.
        """
        query: dict[str, str] = {}
        if field_manager:
            query["fieldManager"] = field_manager
        if patch_type == "apply":
            query["force"] = "true"
        repeatable = not isinstance(patch, list) or bool(patch and patch[0].get("op") == "test")
        call = Call(
            "patch",
            "PATCH",
            res,
            object_path(res, namespace, name, sub),
            query,
            patch,
            _CONTENT_TYPES[patch_type],
            repeatable,
            sub,
        )
        return await self._write(call)

    async def replace(
        self, res: Resource, name: str, body: Json, namespace: str | None = None, *, sub: str = ""
    ) -> Json:
        """PUT; conditional on the body's resourceVersion (Conflict)."""
        path = object_path(res, namespace, name, sub)
        return await self._write(Call("update", "PUT", res, path, body=body, sub=sub))

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Json | None:
        """DELETE in the background mode; the object when finalizers still hold it, else None.

        Raises:
            NotFound: no such object.
            Conflict: it has another uid or resourceVersion.
        """
        wanted = {"uid": uid, "resourceVersion": resource_version}
        body: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid or resource_version:
            body["preconditions"] = {key: value for key, value in wanted.items() if value}
        answer = await self._write(
            Call("delete", "DELETE", res, object_path(res, namespace, name), body=body)
        )
        return None if answer.get("kind") == "Status" else answer

    async def _write(self, call: Call) -> Json:
        name = f"kube.{call.verb}.{call.res.plural}"
        with failpoint(f"{name}.{call.sub}" if call.sub else name):
            return await self._call(call)

    async def _call(self, call: Call) -> Json:
        give_up_at = time.monotonic() + self._deadline_s
        attempt = 0
        refreshed = False
        while True:
            attempt += 1
            try:
                return await self._attempt(call, give_up_at - time.monotonic())
            except Forbidden as error:
                refreshed = self._refresh(error, refreshed)
            except ApiUnavailable as error:
                pause_s = _pause_s(error, attempt)
                late = time.monotonic() + pause_s >= give_up_at
                if not call.repeatable or attempt >= ATTEMPTS or late:
                    raise
                await asyncio.sleep(pause_s)

    def _refresh(self, error: Forbidden, refreshed: bool) -> bool:
        """After a 401 the token may merely be old; raises whatever else it is."""
        if error.reason != UNAUTHORIZED or refreshed or self._access.token is None:
            raise error
        self._access.token.invalidate()
        return True

    async def _attempt(self, call: Call, left_s: float) -> Json:
        timeout = aiohttp.ClientTimeout(
            total=max(0.001, min(call.attempt_s, left_s)), sock_connect=CONNECT_S
        )
        headers = await self._headers(call)
        started = time.perf_counter()
        try:
            answer = await self._rest.request(
                call.method,
                self._url(call),
                headers=headers,
                body=call.body,
                _request_timeout=timeout,
            )
            content: bytes = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(call, error) from error
        API_SECONDS.labels(call.verb).observe(time.perf_counter() - started)
        return checked(call, answer.response, content)

    async def _opened(self, call: Call, lasting_s: float) -> aiohttp.ClientResponse:
        """The response of a watch, its status checked and its body unread."""
        timeout = aiohttp.ClientTimeout(total=lasting_s, sock_connect=CONNECT_S)
        refreshed = False
        while True:
            headers = await self._headers(call)
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    answer = await self._rest.request(
                        call.method, self._url(call), headers=headers, _request_timeout=timeout
                    )
                    response: aiohttp.ClientResponse = answer.response
                    if response.status < 400:
                        API_REQUESTS.labels(call.verb, call.target, response.status).inc()
                        return response
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise unreachable(call, error) from error
            try:
                checked(call, response, content)
            except Forbidden as error:
                refreshed = self._refresh(error, refreshed)

    async def _headers(self, call: Call) -> dict[str, str]:
        headers = {
            "Accept": call.accept,
            "Content-Type": call.content_type,
            "User-Agent": self._user_agent,
        }
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {await self._access.token.token()}"
        return headers

    def _url(self, call: Call) -> str:
        url = self._access.server + call.path
        return f"{url}?{urlencode(call.query)}" if call.query else url


def _pause_s(error: ApiUnavailable, attempt: int) -> float:
    if error.after_s is not None:
        return error.after_s
    return BACKOFF_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311


def _abort(response: aiohttp.ClientResponse) -> None:
    """Drops the connection of an answer that is not read to its end.

    A graceful end waits for the server's TLS goodbye, which nobody would be left to see:
    such a connection has left the pool, so closing the pool does not wait for it.
    """
    transport = response.connection.transport if response.connection else None
    response.close()
    if transport is not None:
        transport.abort()
