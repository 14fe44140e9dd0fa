"""How a kind describes itself to the generator, the clients and the chart's RBAC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from novakube_crds.base import GROUP, VERSION, ApiModel


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column; ``priority`` 1 shows with ``-o wide`` only."""

    name: str
    path: str
    type: Literal["string", "integer", "date", "boolean", "number"] = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource definition."""

    kind: str
    plural: str
    spec: type[ApiModel]
    status: type[ApiModel] | None
    description: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    """JSON paths usable in field selectors, such as ``.spec.flavor.name``."""
    internal: bool = False
    """Out of tenants' reach: no aggregated role grants anything on it."""
    status_default: dict[str, Any] = field(default_factory=dict)
    """Schema default of ``status``: what a first read shows before the operator wrote."""
    rules: tuple[tuple[str, str], ...] = ()
    """CEL rules over the whole object, each ``(expression, message)``."""

    group: str = GROUP
    version: str = VERSION

    @property
    def singular(self) -> str:
        """Lower-case singular, as kubectl takes it."""
        return self.kind.lower()
