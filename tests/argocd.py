"""Argo CD's health check of a custom resource: the Lua of examples/gitops/argocd, really run.

Argo CD gives a script Lua 5.1 with the libraries base, table and package and two functions of
os, nothing else, and the object as the global ``obj``. Source: argo-cd, util/lua/lua.go.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lupa.lua51 import LuaRuntime

from novakube_kit.kube import Json

FILE = Path(__file__).resolve().parents[1] / "examples" / "gitops" / "argocd" / "health.yaml"
STATUSES = ("Healthy", "Progressing", "Degraded", "Suspended")
WITHHELD = ("string", "math", "io", "debug", "coroutine", "python", "dofile", "loadfile")


class Health(NamedTuple):
    """What Argo CD shows of an object."""

    status: str
    message: str


def customizations() -> dict[str, Any]:
    """Argo CD's ``resource.customizations`` as the example has them, by group and kind."""
    text = yaml.safe_load(FILE.read_text())["data"]["resource.customizations"]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def script(group: str, kind: str) -> str:
    """The script for a kind; Argo CD looks for the name, then for a glob that it matches."""
    hits = [
        value["health.lua"]
        for pattern, value in customizations().items()
        if fnmatch.fnmatchcase(f"{group}/{kind}", pattern)
    ]
    assert len(hits) == 1, f"{group}/{kind}: {len(hits)} health checks"
    return str(hits[0])


def health(obj: Json) -> Health:
    """Health of an object as the API server shows it."""
    group = obj["apiVersion"].partition("/")[0]
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    names = lua.globals()
    # With the string library goes the metatable that lets "text":find() work.
    lua.execute('getmetatable("").__index = nil')
    for name in WITHHELD:
        names[name] = None
    names["obj"] = _table(lua, obj)
    answer = lua.execute(script(group, obj["kind"]))
    assert answer["status"] in STATUSES, answer["status"]
    return Health(answer["status"], answer["message"])


def _table(lua: LuaRuntime, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: _table(lua, item) for key, item in value.items()})
    if isinstance(value, list):
        return lua.table_from([_table(lua, item) for item in value])
    return value
