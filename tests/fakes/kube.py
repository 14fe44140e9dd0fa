"""A KubePort in memory: versions, conflicts, finalizers, watches with history and compaction.

No schema, CEL, defaults or selectors on fields other than metadata.name: for those there is
the real API server (tests/integration).
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from novakube_kit.errors import AlreadyExists, Conflict, NotFound, NovakubeError
from novakube_kit.kube import Json, JsonPatch, PatchType, Resource, WatchEvent

Id = tuple[str, str, str]


class FakeKube:
    """The whole API server of one test."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[Id, Json] = {}
        self.history: list[tuple[int, str, WatchEvent]] = []
        self.compacted = 0
        self.calls: list[tuple[str, str]] = []
        """(verb, plural[/sub]) of every call, refused ones included."""
        self.errors: list[NovakubeError] = []
        """Raised by the next calls, one each."""
        self.outage: NovakubeError | None = None
        """Raised by every call while set."""
        self.token_life_s = 3600
        self._changed = asyncio.Event()
        self._cut = 0

    def cut_watches(self) -> None:
        """All open watches end, as when a server restarts."""
        self._cut += 1
        self._wake()

    def compact(self) -> None:
        """History up to now is gone: older versions are Expired."""
        self.compacted = self.version
        self.history.clear()

    def seed(self, res: Resource, body: Json) -> Json:
        """An object that was there before; not counted as a call."""
        obj = copy.deepcopy(body)
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", "2030-01-01T12:00:00Z")
        self._store(res, "ADDED", obj)
        return copy.deepcopy(obj)

    def _call(self, verb: str, res: Resource, sub: str = "") -> None:
        self.calls.append((verb, f"{res.plural}/{sub}" if sub else res.plural))
        if self.outage is not None:
            raise self.outage
        if self.errors:
            raise self.errors.pop(0)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _store(self, res: Resource, change: str, obj: Json) -> Json:
        self.version += 1
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(self.version)
        key = (res.plural, metadata.get("namespace") or "", metadata["name"])
        if change == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = obj
        event = WatchEvent(change, copy.deepcopy(obj))
        self.history.append((self.version, res.plural, event))
        self._wake()
        return copy.deepcopy(obj)

    def _held(self, res: Resource, namespace: str | None, name: str) -> Json:
        try:
            return copy.deepcopy(self.objects[res.plural, namespace or "", name])
        except KeyError:
            raise NotFound(f'{res.plural} "{name}" not found') from None

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> Json:
        self._call("get", res)
        return self._held(res, namespace, name)

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
        self._call("list", res)
        items = [
            copy.deepcopy(obj)
            for (plural, where, name), obj in sorted(self.objects.items())
            if plural == res.plural
            and namespace in (None, where)
            and field_selector in ("", f"metadata.name={name}")
            and _selected(obj, label_selector)
        ]
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}

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
        self._call("watch", res)
        if int(resource_version) < self.compacted:
            raise Conflict("too old resource version", reason="Expired")
        # From a version of the future on it is silent, as with the real API server.
        told, cut = int(resource_version), self._cut
        while cut == self._cut:
            for version, plural, event in tuple(self.history):
                where = event.object["metadata"].get("namespace") or ""
                if version > told and plural == res.plural and namespace in (None, where):
                    yield event
                    told = version
            if not any(v > told and p == res.plural for v, p, _ in self.history):
                await self._changed.wait()

    async def create(
        self,
        res: Resource,
        body: Json,
        namespace: str | None = None,
        *,
        sub: str = "",
        name: str | None = None,
    ) -> Json:
        self._call("create", res, sub)
        if sub == "token":
            return self._token(body, name or "")
        obj = copy.deepcopy(body)
        metadata = obj.setdefault("metadata", {})
        if namespace is not None:
            metadata["namespace"] = namespace
        if "name" not in metadata:
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if (res.plural, namespace or "", metadata["name"]) in self.objects:
            raise AlreadyExists(f'{res.plural} "{metadata["name"]}" already exists')
        metadata |= {
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": "2030-01-01T12:00:00Z",
        }
        return self._store(res, "ADDED", obj)

    def _token(self, body: Json, account: str) -> Json:
        self.version += 1
        life_s = min(self.token_life_s, body["spec"]["expirationSeconds"])
        return {
            "spec": {"expirationSeconds": life_s},
            "status": {"token": f"token-{account}-{self.version}"},
        }

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
        self._call("patch", res, sub)
        if not isinstance(patch, Mapping) or patch_type != "merge":
            raise NotImplementedError("the fake knows merge patches only")
        old = self._held(res, namespace, name)
        wanted = patch.get("metadata", {}).get("resourceVersion")
        _check_version(old, wanted)
        new = _merged(old, patch)
        return self._updated(res, old, new, sub)

    async def replace(
        self, res: Resource, name: str, body: Json, namespace: str | None = None, *, sub: str = ""
    ) -> Json:
        self._call("update", res, sub)
        old = self._held(res, namespace, name)
        _check_version(old, body["metadata"].get("resourceVersion"))
        return self._updated(res, old, copy.deepcopy(body), sub)

    def _updated(self, res: Resource, old: Json, new: Json, sub: str) -> Json:
        if sub == "status":
            new = {**old, "status": new.get("status")}
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        new["metadata"]["uid"] = old["metadata"]["uid"]
        if new == old:
            return new
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._store(res, "DELETED", new)
        return self._store(res, "MODIFIED", new)

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Json | None:
        self._call("delete", res)
        old = self._held(res, namespace, name)
        if uid not in (None, old["metadata"]["uid"]):
            raise Conflict(f"the UID in the precondition ({uid}) does not match")
        _check_version(old, resource_version)
        if not old["metadata"].get("finalizers"):
            self._store(res, "DELETED", old)
            return None
        if "deletionTimestamp" in old["metadata"]:
            return old
        old["metadata"]["deletionTimestamp"] = "2030-01-01T13:00:00Z"
        return self._store(res, "MODIFIED", old)


def _check_version(old: Json, wanted: str | None) -> None:
    if wanted not in (None, old["metadata"]["resourceVersion"]):
        raise Conflict("the object has been modified; please apply your changes to the latest")


def _selected(obj: Json, selector: str) -> bool:
    labels = obj["metadata"].get("labels") or {}
    pairs = (part.split("=", 1) for part in selector.split(",") if part)
    return all(labels.get(key) == value for key, value in pairs)


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
