"""Our objects as typed, immutable values, parsed from the API server's JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from novakube_crds.base import ApiModel
from novakube_crds.kind import Kind
from novakube_kit.clock import parse_timestamp
from novakube_kit.errors import InvalidSpec
from novakube_kit.kube import Json

SpecT = TypeVar("SpecT", bound=ApiModel)
StatusT = TypeVar("StatusT", bound=ApiModel | None)

Key = tuple[str, str]
"""Namespace ("" for cluster-scoped objects) and name."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Object(Generic[SpecT, StatusT]):
    """One object, with what decisions need.

    managedFields and kubectl's copy of the manifest, larger than all the rest, are left out.
    """

    kind: Kind
    namespace: str
    """Empty for cluster-scoped objects."""
    name: str
    uid: str
    resource_version: str
    generation: int
    created_at: datetime
    deleted_at: datetime | None
    """``deletionTimestamp``: deletion was asked for; finalizers still hold the object."""
    finalizers: tuple[str, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner_uids: tuple[str, ...]
    spec: SpecT
    status: StatusT

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.deleted_at is not None


def key_of(obj: Json) -> Key:
    """Namespace and name of any object's JSON."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def parse(kind: Kind, obj: Json) -> Object[Any, Any]:
    """The typed object; an absent status reads as the status model's defaults.

    Raises:
        InvalidSpec: a field does not fit the model; names the object and the field.
    """
    metadata = obj["metadata"]
    namespace, name = key_of(obj)
    try:
        spec = kind.spec.model_validate(obj.get("spec") or {})
        status = (
            None if kind.status is None else kind.status.model_validate(obj.get("status") or {})
        )
    except ValidationError as error:
        raise InvalidSpec(f"{kind.kind} {namespace}/{name}: {_faults(error)}") from error
    deleted = metadata.get("deletionTimestamp")
    return Object(
        kind,
        sys.intern(namespace),
        name,
        metadata["uid"],
        metadata["resourceVersion"],
        metadata.get("generation") or 0,
        parse_timestamp(metadata["creationTimestamp"]),
        parse_timestamp(deleted) if deleted else None,
        tuple(map(sys.intern, metadata.get("finalizers") or ())),
        _strings(metadata.get("labels")),
        _strings(metadata.get("annotations")),
        tuple(owner["uid"] for owner in metadata.get("ownerReferences") or ()),
        spec,
        status,
    )


def _strings(pairs: Mapping[str, str] | None) -> Mapping[str, str]:
    if not pairs:
        return _NOTHING
    return {sys.intern(key): value for key, value in pairs.items() if key != _LAST_APPLIED}


def _faults(error: ValidationError) -> str:
    """All faults, each as ``field.path: what is wrong``."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    )
