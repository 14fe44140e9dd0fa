"""JSON merge patches (RFC 7386). Pure."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def replacing(old: Json, new: Json) -> Json:
    """A merge patch after which nothing of ``old`` is left that ``new`` does not have.

    Everything of ``new`` is named, so that it also heals what another writer left; keys that
    went are null, at every depth. Lists are replaced as a whole, as a merge patch does.
    """
    patch: Json = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        nested = isinstance(value, dict) and isinstance(before, dict)
        patch[key] = replacing(before, value) if nested else value  # type: ignore[arg-type]
    return patch
