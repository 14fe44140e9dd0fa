"""Which namespace is a project's: the one that was bound first. Pure but for what it is told."""

from __future__ import annotations

from novakube_kit.kube import Json

PROJECT_LABEL = "novakube.dev/project-id"
BOUND_AT = "novakube.dev/project-bound-at"
"""Annotation of ``project bind``: when, in UTC, sortable as text. Without it a namespace comes
after those that have it, and by its age."""
PROJECT_TAKEN = "ProjectTaken"

_Rank = tuple[str, str, str]
_NEVER = "~"  # behind every time


class Bindings:
    """Namespaces by project; takes their changes, answers without I/O."""

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._of: dict[str, dict[str, _Rank]] = {}

    def changed(self, namespace: str, metadata: Json | None) -> frozenset[str]:
        """Takes a namespace as it is now, None: gone. Returns the others that it may concern."""
        old = self._labels.pop(namespace, None)
        if old is not None:
            self._of[old].pop(namespace)
            if not self._of[old]:
                del self._of[old]
        new = ((metadata or {}).get("labels") or {}).get(PROJECT_LABEL)
        if metadata is not None and new is not None:
            self._labels[namespace] = new
            self._of.setdefault(new, {})[namespace] = _rank(metadata)
        others = {*self._of.get(old or "", ()), *self._of.get(new or "", ())}
        return frozenset(others - {namespace}) if old != new or metadata is None else frozenset()

    def labelled(self, namespace: str) -> bool:
        """Whether it claims to be a project's."""
        return namespace in self._labels

    def project(self, namespace: str) -> str | None:
        """The project that the namespace is bound to; None also for one that came too late."""
        project = self._labels.get(namespace)
        return project if project is not None and self._first(project) == namespace else None

    def refusal(self, namespace: str) -> str | None:
        """Why the namespace is not bound although its label says so."""
        project = self._labels.get(namespace)
        if project is None or self._first(project) == namespace:
            return None
        return f"project {project} is bound to namespace {self._first(project)} already"

    def _first(self, project: str) -> str:
        ranks = self._of[project]
        return min(ranks, key=ranks.__getitem__)


def _rank(metadata: Json) -> _Rank:
    bound_at = (metadata.get("annotations") or {}).get(BOUND_AT) or _NEVER
    return bound_at, metadata.get("creationTimestamp") or _NEVER, metadata["name"]
