"""Kind -> CustomResourceDefinition, as an object and as YAML text.

Pure and deterministic: the same models give the same bytes.
"""

from __future__ import annotations

from typing import Any

import yaml

from novakube_crds.base import VALIDATIONS, Rule
from novakube_crds.kind import Column, Kind
from novakube_crds.structural import Schema, structural

HEADER = "# Generated from novakube_crds by `make generate`. Do not edit.\n"
USER_CATEGORY = "novakube"
INTERNAL_CATEGORY = "novakube-internal"


def object_schema(kind: Kind) -> Schema:
    """The schema of whole objects of the kind."""
    spec = structural(kind.spec, defaults=True)
    required = ["spec"]
    if "required" not in spec:
        # An object may leave such a spec out; the default lets its fields' defaults apply.
        spec["default"] = {}
        required = []
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    if kind.status is not None:
        properties["status"] = structural(kind.status, defaults=False)
        if kind.status_default:
            properties["status"]["default"] = kind.status_default
    schema: Schema = {"description": kind.description, "type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if kind.rules:
        schema[VALIDATIONS] = [Rule(*rule).wire() for rule in kind.rules]
    return schema


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": object_schema(kind)},
    }
    if kind.status is not None:
        version["subresources"] = {"status": {}}
    if kind.columns:
        version["additionalPrinterColumns"] = [_column(column) for column in kind.columns]
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
        "categories": [INTERNAL_CATEGORY if kind.internal else USER_CATEGORY],
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    out: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        out["description"] = column.description
    if column.priority:
        out["priority"] = column.priority
    return out


class _Dumper(yaml.SafeDumper):
    """Plain YAML: equal lists are written out again, never as an alias."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - signature of PyYAML
        return True


def manifest(kind: Kind) -> str:
    """The CustomResourceDefinition as YAML text."""
    return HEADER + yaml.dump(
        crd(kind), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
    )
