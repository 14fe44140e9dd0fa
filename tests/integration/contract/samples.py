"""Objects made from the generated schemas: a smallest valid one, and one with a field set."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
Schema = dict[str, Any]
STORED = "stored"
"""Namespace of objects that are written; others are only asked about (dry run)."""
UID = "00000000-0000-4000-8000-000000000001"

CRDS: dict[str, dict[str, Any]] = {
    crd["spec"]["names"]["kind"]: crd
    for path in sorted((ROOT / "crds").glob("*.yaml"))
    for crd in [yaml.safe_load(path.read_text())]
}

# Values of fields whose rules a sample made from bounds alone would break.
_BY_NAME = {
    "cidr": "10.0.0.0/24",
    "destination": "10.1.0.0/24",
    "remoteCidr": "10.0.0.0/24",
    "address": "10.0.0.5",
    "nextHop": "10.0.0.1",
    "gateway": "10.0.0.1",
    "fixedAddress": "10.0.0.5",
    "nodeAddress": "10.0.0.5",
    "dns": "10.0.0.2",
    "externalAddresses": "10.0.0.5",
    "mac": "fa:16:3e:00:00:01",
    "url": "http://192.0.2.10/image",
    "checksum": "sha256:" + "0" * 64,
    "content": "QUFB",
    "userData": "QUFB",
    "protocol": "tcp",
}
FIXED_PATTERNS = {
    r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$": UID,
    r"^[0-9a-f]{64}$": "0" * 64,
    r"^[0-9a-f]{32}$": "0" * 32,
    r"^[0-9a-f]{128}$": "0" * 128,
}
_ITEMS: dict[str, dict[str, Any]] = {
    "networks": {"network": {"name": "a"}},
    "blockDevices": {"source": "blank", "sizeGiB": 1},
    "interfaces": {"subnet": {"name": "a"}},
}


def schema_of(kind: str) -> Schema:
    """The schema of whole objects, as the CRD file says."""
    return CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def sample(schema: Schema, name: str = "", index: int = 0) -> Any:
    """A smallest valid value; ``index`` tells the items of a list apart."""
    match schema["type"]:
        case "object":
            if name in _ITEMS:
                return copy.deepcopy(_ITEMS[name])
            required = schema.get("required", [])
            return {key: sample(schema["properties"][key], key, index) for key in required}
        case "array":
            return []
        case "string":
            return _string(schema, name, index)
        case "integer" | "number":
            return max(schema.get("minimum", 0), 1 if schema.get("exclusiveMinimum") else 0)
        case _:
            return False


def _string(schema: Schema, name: str, index: int) -> str:
    if "enum" in schema:
        return str(schema["enum"][0])
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    if name in ("start", "end"):  # pools side by side
        return f"10.0.0.{10 + 2 * index + (name == 'end')}"
    if name in _BY_NAME:
        return _BY_NAME[name]
    if (found := FIXED_PATTERNS.get(schema.get("pattern", ""))) is not None:
        return found[: -len(f"{index:04x}")] + f"{index:04x}" if found == UID else found
    return f"a{index}".ljust(schema.get("minLength", 0), "a")


def tokens(path: str) -> list[str]:
    """``spec.rules[].ports.min`` -> spec, rules, [], ports, min."""
    return re.findall(r"\[\]|\{\}|[^.\[\]{}]+", path)


def node(kind: str, path: str) -> Schema:
    """The schema at a path."""
    schema = schema_of(kind)
    for token in tokens(path):
        schema = _step(schema, token)
    return schema


def _step(schema: Schema, token: str) -> Schema:
    if token == "[]":
        return schema["items"]
    if token == "{}":
        return schema["additionalProperties"]
    return schema["properties"][token]


def with_value(kind: str, obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the object with the value at the path, what is needed around it made up."""
    out = copy.deepcopy(obj)
    _put(schema_of(kind), out, tokens(path), value)
    return out


def _put(schema: Schema, holder: Any, path: list[str], value: Any) -> None:
    token, *rest = path
    child = _step(schema, token)
    key: Any = {"[]": 0, "{}": "a"}.get(token, token)
    if not rest:
        made = value
    else:
        present = (len(holder) > 0) if token == "[]" else key in holder
        made = holder[key] if present else sample(child, token)
        _put(child, made, rest, value)
    if token == "[]":
        holder[:1] = [made]
    else:
        holder[key] = made


def merged(base: Any, change: Any) -> Any:
    """JSON merge patch: None removes."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return copy.deepcopy(change)
    out = {key: copy.deepcopy(value) for key, value in base.items() if key not in change}
    for key, value in change.items():
        if value is not None:
            out[key] = merged(base.get(key, {}), value)
    return out


def minimal(kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
    """A smallest valid object."""
    names = {"Quota": "quota", "QuotaClass": "default"}
    spec = sample(schema_of(kind)["properties"]["spec"], "spec")
    obj: dict[str, Any] = {
        "apiVersion": "novakube.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": names.get(kind, name)},
        "spec": spec,
    }
    if CRDS[kind]["spec"]["scope"] == "Namespaced":
        obj["metadata"]["namespace"] = namespace
    return obj


def nodes(kind: str) -> Iterator[tuple[str, Schema]]:
    """Every field of spec and status with its path; the shared shape of conditions is left
    to the field ``conditions`` of Instance."""
    for part in ("spec", "status"):
        if part in schema_of(kind)["properties"]:
            yield from _nodes(schema_of(kind)["properties"][part], part, kind)


def _nodes(schema: Schema, path: str, kind: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    if path == "status.conditions" and kind != "Instance":
        return
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}", kind)
    for mark, key in (("[]", "items"), ("{}", "additionalProperties")):
        if key in schema:
            yield from _nodes(schema[key], path + mark, kind)
