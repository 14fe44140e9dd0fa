"""The API reference as Markdown, from the very schemas the CRDs are made of.

Pure and deterministic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from novakube_crds.base import API_VERSION, VALIDATIONS
from novakube_crds.kind import Kind
from novakube_crds.manifest import object_schema
from novakube_crds.structural import Schema

_HEAD = f"""# API reference

Generated from `novakube_crds` by `make generate`. Do not edit.

Group and version: `{API_VERSION}`. Optional fields are left out rather than null. `[]` marks
the items of a list, `{{}}` the values of a map. Conditions have the shape of `metav1.Condition`.
"""


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A validation rule and the field it stands at."""

    path: str
    expression: str
    message: str


def rules_of(schema: Schema, path: str = "") -> Iterator[PlacedRule]:
    """Every validation rule of a schema, depth first."""
    for rule in schema.get(VALIDATIONS, []):
        yield PlacedRule(path, rule["rule"], rule["message"])
    for child_path, child, _ in _children(schema, path):
        yield from rules_of(child, child_path)


def reference(kinds: Iterable[Kind]) -> str:
    """The whole document."""
    kinds = tuple(kinds)
    index = [f"- [{kind.kind}](#{kind.singular}): {kind.description}" for kind in kinds]
    return "\n".join([_HEAD, *index, "", *(_section(kind) for kind in kinds)])


def _section(kind: Kind) -> str:
    schema = object_schema(kind)
    lines = [f"## {kind.kind}", "", kind.description, "", *_facts(kind), ""]
    for part in ("spec", "status"):
        if part in schema["properties"]:
            lines += _fields(schema["properties"][part], part)
    rules = list(rules_of(schema))
    if rules:
        lines += ["Rules:", "", "| at | message | CEL |", "|---|---|---|"]
        lines += [
            f"| {_code(rule.path)} | {_cell(rule.message)} | {_code(rule.expression)} |"
            for rule in rules
        ]
        lines.append("")
    return "\n".join(lines)


def _facts(kind: Kind) -> Iterator[str]:
    scope = "namespaced" if kind.namespaced else "cluster"
    yield f"- Resource: `{kind.plural}`, {scope}" + (", internal" if kind.internal else "")
    if kind.short_names:
        yield "- Short names: " + ", ".join(f"`{name}`" for name in kind.short_names)
    if kind.selectable:
        yield "- Field selectors: " + ", ".join(f"`{path[1:]}`" for path in kind.selectable)
    if kind.columns:
        yield "- Columns: " + ", ".join(
            f"{column.name}{' (wide)' if column.priority else ''}" for column in kind.columns
        )
    if kind.status_default:
        yield f"- First status: `{json.dumps(kind.status_default)}`"


def _fields(schema: Schema, part: str) -> list[str]:
    rows = [
        f"| {_code(path)} | {_type(field)} | {_bounds(field)} | {_default(field)}"
        f" | {'yes' if required else ''} | {_prose(field.get('description', ''))} |"
        for path, field, required in _walk(schema, part)
    ]
    head = [f"| {part} | type | bounds | default | required | |", "|---|---|---|---|---|---|"]
    return [*head, *rows, ""] if rows else []


def _walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    for child_path, child, required in _children(schema, path):
        if child_path.endswith(("[]", "{}")):
            if child["type"] in ("object", "array"):
                yield from _walk(child, child_path)
            continue
        yield child_path, child, required
        if not child_path.endswith(".conditions"):
            yield from _walk(child, child_path)


def _children(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}".lstrip("."), child, name in schema.get("required", [])
    if "items" in schema:
        yield f"{path}[]", schema["items"], False
    if "additionalProperties" in schema:
        yield f"{path}{{}}", schema["additionalProperties"], False


def _type(schema: Schema) -> str:
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("format") if schema.get("format") == "date-time" else schema["type"])


def _bounds(schema: Schema) -> str:
    parts: list[str] = []
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
    ):
        if low in schema or high in schema:
            parts.append(_range(schema, low, high) + unit)
    if "pattern" in schema:
        parts.append(_code(schema["pattern"]))
    inner = schema.get("items") or schema.get("additionalProperties")
    if inner and inner["type"] not in ("object", "array") and (each := _bounds(inner)):
        parts.append(f"each {each}")
    return ", ".join(parts)


def _range(schema: Schema, low: str, high: str) -> str:
    above = ">" if schema.get("exclusiveMinimum") and low == "minimum" else ">="
    if low in schema and high in schema and above == ">=":
        return f"{schema[low]} to {schema[high]}"
    bounds = [f"{above} {schema[low]}"] if low in schema else []
    bounds += [f"<= {schema[high]}"] if high in schema else []
    return " and ".join(bounds)


def _default(schema: Schema) -> str:
    value: Any = schema.get("default")
    return "" if value is None else f"`{json.dumps(value)}`"


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _prose(text: str) -> str:
    """Docstrings mark code with two backquotes, Markdown with one."""
    return _cell(text.replace("``", "`"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
