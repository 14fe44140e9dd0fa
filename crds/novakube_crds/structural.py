"""Pydantic model -> structural schema, as CustomResourceDefinitions want it.

Pure. Called by ``manifest``. ``violations`` is the checker the tests hold every schema to.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions",
sections "Specifying a structural schema" and "Validation rules".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from novakube_crds.base import VALIDATIONS, ApiModel

Schema = dict[str, Any]

_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
)
_LIST_EXTENSIONS = ("x-kubernetes-list-type", "x-kubernetes-list-map-keys")
_FORBIDDEN = ("$ref", "anyOf", "oneOf", "allOf", "const", "nullable", "title", "propertyNames")
_ENUM_TYPES = {str: "string", int: "integer", bool: "boolean"}


class NotStructural(ValueError):
    """A model says something a structural schema cannot."""


def structural(model: type[ApiModel], *, defaults: bool) -> Schema:
    """The schema of a model with every reference inlined.

    Args:
        model: spec or status.
        defaults: keep the fields' defaults. Those of a status are left out, for its first
            value is the kind's ``status_default`` and later ones are whole writes.

    Raises:
        NotStructural: a union, or a recursive type.
    """
    source = model.model_json_schema(by_alias=True)
    return _Converter(source.get("$defs", {}), defaults).convert(source, at=model.__name__)


class _Converter:
    def __init__(self, definitions: dict[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, source: Schema, at: str, inside: tuple[str, ...] = ()) -> Schema:
        """The schema of one field; ``inside`` are the named types it is part of."""
        source, inside = self._resolved(source, at, inside)
        out: Schema = {key: source[key] for key in _KEPT if key in source}
        if "description" in out:
            out["description"] = " ".join(out["description"].split())
        if "const" in source:
            out["enum"] = [source["const"]]
        if "enum" in out:
            out["type"] = _enum_type(out["enum"], at)
        if out.get("type") == "integer":
            out["format"] = "int64"
        _exclusive_bounds(source, out)
        self._default(source, out)
        self._children(source, out, at, inside)
        for extension in (*_LIST_EXTENSIONS, VALIDATIONS):
            if extension in source:
                out[extension] = source[extension]
        return out

    def _resolved(
        self, source: Schema, at: str, inside: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        """The schema itself: references and "or null" followed, rules of all levels kept."""
        if "$ref" in source:
            name = source["$ref"].removeprefix("#/$defs/")
            if name in inside:
                raise NotStructural(f"{at}: {name} contains itself")
            inner = self._definitions[name]
            inside = (*inside, name)
        elif "anyOf" in source:
            choices = [one for one in source["anyOf"] if one.get("type") != "null"]
            if len(choices) != 1:
                raise NotStructural(f"{at}: a union of {len(choices)} types")
            inner = choices[0]
        else:
            return source, inside
        outer = {key: value for key, value in source.items() if key not in ("$ref", "anyOf")}
        inner, inside = self._resolved(inner, at, inside)
        merged = {**inner, **outer}
        if rules := [*inner.get(VALIDATIONS, []), *outer.get(VALIDATIONS, [])]:
            merged[VALIDATIONS] = rules
        return merged, inside

    def _default(self, source: Schema, out: Schema) -> None:
        # An empty default would be stored in the user's object and says no more than absence.
        default = _without_nulls(source.get("default"))
        if self._defaults and default not in (None, "", [], {}):
            out["default"] = default

    def _children(self, source: Schema, out: Schema, at: str, inside: tuple[str, ...]) -> None:
        if "properties" in source:
            out["properties"] = {
                name: self.convert(child, f"{at}.{name}", inside)
                for name, child in source["properties"].items()
            }
        if "items" in source:
            out["items"] = self.convert(source["items"], f"{at}[]", inside)
        if isinstance(source.get("additionalProperties"), dict):
            out["additionalProperties"] = self.convert(
                source["additionalProperties"], f"{at}{{}}", inside
            )


def _enum_type(values: list[Any], at: str) -> str:
    types = {type(value) for value in values}
    if len(types) != 1:
        raise NotStructural(f"{at}: an enum of several types")
    return _ENUM_TYPES[types.pop()]


def _exclusive_bounds(source: Schema, out: Schema) -> None:
    # OpenAPI 3.0 has a flag beside the bound, JSON schema a bound of its own.
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in source:
            out[bound] = source[exclusive]
            out[exclusive] = True


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {key: _without_nulls(inner) for key, inner in value.items()}
        return {key: inner for key, inner in cleaned.items() if inner is not None}
    return value


def violations(schema: Schema, at: str = "") -> Iterator[str]:
    """What is not structural or not bounded, one sentence each."""
    for word in _FORBIDDEN:
        if word in schema:
            yield f"{at}: has {word}"
    kind = schema.get("type")
    if kind not in ("object", "array", "string", "integer", "number", "boolean"):
        yield f"{at}: has no type"
    if schema.get("default", 0) is None:
        yield f"{at}: default is null"
    yield from _unbounded(schema, at)
    for name, child in schema.get("properties", {}).items():
        yield from violations(child, f"{at}.{name}")
    if kind == "array":
        yield from violations(schema.get("items", {}), f"{at}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from violations(schema["additionalProperties"], f"{at}{{}}")


def _unbounded(schema: Schema, at: str) -> Iterator[str]:
    kind = schema.get("type")
    if kind == "string" and "enum" not in schema and "maxLength" not in schema:
        yield f"{at}: a string without maxLength"
    if kind == "array" and "maxItems" not in schema:
        yield f"{at}: a list without maxItems"
    if "additionalProperties" in schema and "maxProperties" not in schema:
        yield f"{at}: a map without maxProperties"
    if kind == "object" and "properties" not in schema and "additionalProperties" not in schema:
        yield f"{at}: an object of unknown fields"
