"""Every validation rule has its pair, asked of a real API server, message included."""

from __future__ import annotations

import re
from typing import Any

import pytest

from novakube_crds.reference import PlacedRule, rules_of
from tests.integration.contract.cases import CASES, Case
from tests.integration.contract.companions import companion
from tests.integration.contract.samples import (
    CRDS,
    STORED,
    merged,
    minimal,
    node,
    sample,
    schema_of,
    with_value,
)
from tests.integration.contract.served import Api

# Rules of shared types: wherever one stands, this value breaks it and the sample does not.
BREAKING: dict[str, Any] = {
    "must be an IPv4 or IPv6 address, such as 10.0.0.5 or fd00::5": "10.0.0.256",
    "must be a network in CIDR notation without host bits, such as 10.0.0.0/24": "10.0.0.1/24",
    "must be a unicast MAC address in lower case, such as fa:16:3e:00:00:01": "01:00:5e:00:00:01",
}
KEYS_RULE = "keys have 1 to 255 letters, digits, spaces or any of _ . : -"
# Rules over whole objects: the name that passes, by kind.
NAMES = {"Quota": "quota", "QuotaClass": "default"}

RULES: list[tuple[str, PlacedRule]] = [
    (kind, rule) for kind in sorted(CRDS) for rule in rules_of(schema_of(kind))
]
SHARED = [(kind, rule) for kind, rule in RULES if rule.message in BREAKING]
OF_OBJECTS = [(kind, rule) for kind, rule in RULES if rule.path == ""]
# A copy in a status of a field that has its own pair in its spec.
COPIED = [("Instance", "status.flavor.extraSpecs", KEYS_RULE)]


def test_every_rule_has_its_pair() -> None:
    covered = {(case.kind, case.path, case.message) for case in CASES}
    covered |= {(kind, rule.path, rule.message) for kind, rule in [*SHARED, *OF_OBJECTS]}
    covered |= set(COPIED)
    assert {(kind, rule.path, rule.message) for kind, rule in RULES} == covered


def _sentence(kind: str, path: str, message: str) -> tuple[str, str]:
    """Field and sentence as the API server gives them."""
    word = node(kind, path)["type"] if path else "object"
    return path.replace("[]", "[0]") or "<nil>", f'Invalid value: "{word}": {message}'


def _causes(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (cause["field"], cause["message"]) for cause in answer.get("details", {}).get("causes", [])
    ]


def _refused(code: int, answer: dict[str, Any], field: str, sentence: str) -> None:
    found = [
        (at, re.sub(r"^Invalid value: -?\d+:", 'Invalid value: "integer":', text))
        for at, text in _causes(answer)
    ]
    assert code == 422, answer.get("message", "accepted")
    assert (field, sentence) in found


@pytest.mark.parametrize("case", [c for c in CASES if c.before is None], ids=lambda c: c.id)
def test_creation(api: Api, case: Case) -> None:
    base = minimal(case.kind, "new")
    code, answer = api.create(merged(base, {"spec": case.good}))
    assert code == 201, answer.get("message")
    code, answer = api.create(merged(base, {"spec": case.bad}))
    _refused(code, answer, *_sentence(case.kind, case.path, case.message))


CHANGES = [case for case in CASES if case.before is not None]


@pytest.mark.parametrize(
    ("number", "case"), list(enumerate(CHANGES)), ids=[case.id for case in CHANGES]
)
def test_change(api: Api, number: int, case: Case) -> None:
    stored = merged(minimal(case.kind, f"change-{number}", STORED), {"spec": case.before})
    code, answer = api.create(stored, dry=False)
    assert code == 201, answer.get("message")
    labels = {"labels": {"changed": "yes"}}
    code, answer = api.patch(stored, {"metadata": labels, "spec": case.good})
    assert code == 200, answer.get("message")
    code, answer = api.patch(stored, {"spec": case.bad})
    _refused(code, answer, *_sentence(case.kind, case.path, case.message))


@pytest.mark.parametrize(
    ("kind", "rule"),
    SHARED,
    ids=[f"{kind}-{rule.path}-{rule.message[10:20]}" for kind, rule in SHARED],
)
def test_shared_types(api: Api, kind: str, rule: PlacedRule) -> None:
    def ask(value: Any) -> tuple[int, dict[str, Any]]:
        if rule.path.startswith("spec"):
            obj = merged(minimal(kind, "new"), {"spec": companion(kind, rule.path, value)})
            return api.create(with_value(kind, obj, rule.path, value))
        stored = minimal(kind, "base", STORED)
        whole = with_value(kind, {**stored, "status": {}}, rule.path, value)
        return api.patch(stored, {"status": whole["status"]}, sub="/status")

    name = rule.path.removesuffix("[]").rsplit(".", 1)[-1]
    code, answer = ask(sample(node(kind, rule.path), name))
    assert code in (200, 201), answer.get("message")
    code, answer = ask(BREAKING[rule.message])
    _refused(code, answer, *_sentence(kind, rule.path, rule.message))


@pytest.mark.parametrize(("kind", "rule"), OF_OBJECTS, ids=[kind for kind, _ in OF_OBJECTS])
def test_names(api: Api, kind: str, rule: PlacedRule) -> None:
    obj = minimal(kind, NAMES[kind])
    code, answer = api.create(obj)
    assert code == 201, answer.get("message")
    code, answer = api.create(merged(obj, {"metadata": {"name": "other"}}))
    _refused(code, answer, *_sentence(kind, "", rule.message))


def test_the_accepted_copy_keeps_the_rule_on_its_keys(api: Api) -> None:
    stored = minimal("Instance", "base", STORED)
    flavor = {"name": "a", "id": "1", "vcpus": 1, "memoryMiB": 1}

    def ask(key: str) -> tuple[int, dict[str, Any]]:
        status = {"flavor": {**flavor, "extraSpecs": {key: "b"}}}
        return api.patch(stored, {"status": status}, sub="/status")

    assert ask("hw:cpu_policy")[0] == 200
    _refused(*ask("a/b"), *_sentence("Instance", "status.flavor.extraSpecs", KEYS_RULE))
