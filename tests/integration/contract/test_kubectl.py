"""What people meet with kubectl: no drift, first state, columns, selectors, names, explain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from tests.integration.contract.samples import CRDS, STORED, minimal, node, schema_of
from tests.integration.contract.served import Api

KINDS = sorted(CRDS)


def _version(kind: str) -> dict[str, Any]:
    return CRDS[kind]["spec"]["versions"][0]


@contextmanager
def _applied(api: Api, kind: str, name: str) -> Iterator[dict[str, Any]]:
    """Applied as a user does, in a namespace of its own; gone afterwards."""
    namespace = f"kubectl-{kind.lower()}"
    obj = minimal(kind, name, namespace)
    manifest = [obj]
    if "namespace" in obj["metadata"]:
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        manifest.insert(0, home)
    done = api.kubectl("apply", "-f", "-", stdin=yaml.dump_all(manifest))
    assert done.returncode == 0, done.stderr
    yield obj
    done = api.kubectl("delete", "-f", "-", stdin=yaml.dump(obj))
    assert done.returncode == 0, done.stderr


def _resource(kind: str) -> str:
    return str(CRDS[kind]["metadata"]["name"])


def _place(obj: dict[str, Any]) -> list[str]:
    namespace = obj["metadata"].get("namespace")
    return ["-n", namespace] if namespace else []


@pytest.mark.parametrize("kind", KINDS)
def test_no_difference_after_apply_and_the_first_status_shows(api: Api, kind: str) -> None:
    with _applied(api, kind, "drift") as obj:
        diff = api.kubectl("diff", "-f", "-", stdin=yaml.dump(obj))
        assert (diff.returncode, diff.stdout) == (0, ""), diff.stdout + diff.stderr
        name = obj["metadata"]["name"]
        got = api.kubectl("get", _resource(kind), name, *_place(obj), "-o", "json")
        assert got.returncode == 0, got.stderr
        default = schema_of(kind)["properties"].get("status", {}).get("default")
        assert json.loads(got.stdout).get("status") == default


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_shown(api: Api, kind: str) -> None:
    with _applied(api, kind, "columns") as obj:
        for wide, most in ((["-o", "wide"], 1), ([], 0)):
            got = api.kubectl("get", _resource(kind), *_place(obj), *wide)
            assert got.returncode == 0, got.stderr
            columns = _version(kind)["additionalPrinterColumns"]
            shown = [c["name"].upper() for c in columns if c.get("priority", 0) <= most]
            assert got.stdout.splitlines()[0].split() == ["NAME", *shown]


SELECTABLE = [
    (kind, field["jsonPath"].removeprefix("."))
    for kind in KINDS
    for field in _version(kind).get("selectableFields", [])
]


@pytest.mark.parametrize(("kind", "path"), SELECTABLE, ids=[f"{k}-{p}" for k, p in SELECTABLE])
def test_selectable_fields_select(api: Api, kind: str, path: str) -> None:
    collection = api.collection(kind, STORED)
    _, whole = api.request("GET", collection)
    value = "true" if node(kind, path)["type"] == "boolean" else "no-such-value"
    code, chosen = api.request("GET", f"{collection}?fieldSelector={path}%3D{value}")
    assert code == 200, chosen
    wanted = [item for item in whole["items"] if _at(item, path) == value]
    assert [i["metadata"]["name"] for i in chosen["items"]] == [
        i["metadata"]["name"] for i in wanted
    ]
    code, rest = api.request("GET", f"{collection}?fieldSelector={path}%21%3D{value}")
    assert code == 200
    assert len(rest["items"]) == len(whole["items"]) - len(wanted)


def _at(item: dict[str, Any], path: str) -> str:
    value: Any = item
    for token in path.split("."):
        value = value.get(token, "") if isinstance(value, dict) else ""
    return {True: "true", False: "false"}.get(value, value) if value != "" else ""


def test_the_first_state_selects(api: Api) -> None:
    with _applied(api, "Instance", "state") as obj:
        chosen = ("--field-selector=status.state=Scheduling", "-o", "name")
        got = api.kubectl("get", "instances", *_place(obj), *chosen)
        assert "instance.novakube.dev/state" in got.stdout.split()


def test_names_are_nobody_elses(api: Api) -> None:
    """kubectl takes every short word for our kind, but for two names of Kubernetes' own."""
    mine, others = _served_names(api)
    assert len(mine) == len(set(mine))
    assert set(mine) & set(others) == {"ipaddresses", "ipaddress", "quota"}


def _served_names(api: Api) -> tuple[list[str], list[str]]:
    """Names of our resources and of all others, as discovery gives them."""
    mine: list[str] = []
    others: list[str] = []
    _, groups = api.request("GET", "/apis")
    versions = [group["preferredVersion"]["groupVersion"] for group in groups["groups"]]
    for path in ["/api/v1", *(f"/apis/{version}" for version in versions)]:
        _, listed = api.request("GET", path)
        names = mine if path.startswith("/apis/novakube.dev") else others
        for resource in listed["resources"]:
            if "/" not in resource["name"]:
                names += [resource["name"], resource["singularName"]]
                names += resource.get("shortNames", [])
    return mine, others


def test_categories_keep_internal_kinds_apart(api: Api) -> None:
    by_category = {
        category: {
            name.removesuffix(".novakube.dev")
            for name in api.kubectl(
                "api-resources", f"--categories={category}", "-o", "name"
            ).stdout.split()
        }
        for category in ("novakube", "novakube-internal")
    }
    internal = {"guests", "hypervisorreports", "ipaddresses", "addressslices", "historyrecords"}
    assert by_category["novakube-internal"] == internal
    assert len(by_category["novakube"]) == len(CRDS) - len(internal)


def test_explain_tells_units(api: Api) -> None:
    told = api.kubectl("explain", "flavors.spec.memoryMiB")
    assert "Memory in MiB." in told.stdout


def test_status_is_out_of_reach_of_an_apply(api: Api) -> None:
    with _applied(api, "Instance", "status") as obj:
        claim = {**obj, "status": {"state": "Running"}}
        done = api.kubectl("apply", "-f", "-", stdin=yaml.dump(claim))
        assert done.returncode == 0, done.stderr
        only_state = ("-o", "jsonpath={.status.state}")
        got = api.kubectl("get", "instance", "status", *_place(obj), *only_state)
        assert got.stdout == "Scheduling"
