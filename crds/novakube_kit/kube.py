"""The port to the Kubernetes API that all processes use, and the identity of resources.

Objects cross this port as plain JSON dictionaries. The implementation over the official
client's asyncio half is ``kube_aio.AioKube``; tests that need no API server use
``tests/fakes``. Errors are those of ``novakube_kit.errors`` only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Json = dict[str, Any]
JsonPatch = list[Json]
PatchType = Literal["merge", "json", "apply"]


@dataclass(frozen=True, slots=True)
class Resource:
    """Group, version, plural and scope: enough to build every URL."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """URL path of the collection, the object or its subresource."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [base]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if sub:
            parts.append(sub)
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR with its object."""

    type: str
    object: Json


class KubePort(Protocol):
    """All reads and writes, each with a deadline.

    429 and 5xx raise ApiUnavailable after the implementation's own short retries (never for a
    non-idempotent create).
    """

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> Json:
        """The object. Raises NotFound."""
        ...

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
        """The whole list object; pages are followed when ``limit`` is set.

        With ``metadata_only`` the items have nothing but their metadata.
        """
        ...

    def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        """One watch request; ends when the server ends it.

        410 raises ``Conflict`` with reason ``Expired``.
        """
        ...

    async def create(
        self,
        res: Resource,
        body: Json,
        namespace: str | None = None,
        *,
        sub: str = "",
        name: str | None = None,
    ) -> Json:
        """POST. With ``name`` and ``sub``: a subresource such as serviceaccounts/x/token."""
        ...

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
        """PATCH. Put ``metadata.resourceVersion`` in a merge patch to make it conditional."""
        ...

    async def replace(
        self, res: Resource, name: str, body: Json, namespace: str | None = None, *, sub: str = ""
    ) -> Json:
        """PUT; conditional on the body's resourceVersion."""
        ...

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Json | None:
        """DELETE with preconditions; a missing object raises NotFound."""
        ...
