"""Every bound of every field: a value on the bound is taken, one beyond it refused, in words.

The cases are derived from the generated CRDs, so a new field has its pairs at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.contract.companions import companion
from tests.integration.contract.samples import (
    CRDS,
    FIXED_PATTERNS,
    STORED,
    Schema,
    merged,
    minimal,
    nodes,
    sample,
    tokens,
    with_value,
)
from tests.integration.contract.served import Api


@dataclass(frozen=True)
class Bound:
    """One bound of one field: values on and beyond it, and what the user reads."""

    path: str
    on: Any
    beyond: Any
    says: str


def _lengths(schema: Schema, path: str, name: str) -> Iterator[Bound]:
    good = sample(schema, name)
    if "maxLength" in schema:
        most = schema["maxLength"]
        on = "a" * most if _free_text(schema, name) else good
        says = f"Too long: may not be more than {most} bytes"
        yield Bound(path, on, "a" * (most + 1), says)
    if schema.get("minLength"):
        least = schema["minLength"]
        on = "a" * least if _free_text(schema, name) else good
        says = f"in body should be at least {least} chars long"
        yield Bound(path, on, "a" * (least - 1), says)


def _free_text(schema: Schema, name: str) -> bool:
    """Whether a run of one letter of any length is a valid value."""
    ruled = "x-kubernetes-validations" in schema or schema.get("format") == "date-time"
    return not ruled and schema.get("pattern") not in FIXED_PATTERNS


def _strings(schema: Schema, path: str, name: str) -> Iterator[Bound]:
    if "enum" in schema:
        options = ", ".join(json.dumps(option) for option in schema["enum"])
        says = f'Unsupported value: "Nonsense": supported values: {options}'
        yield from (Bound(path, option, "Nonsense", says) for option in schema["enum"])
        return
    yield from _lengths(schema, path, name)
    if "pattern" in schema:
        says = f"in body should match '{schema['pattern']}'"
        yield Bound(path, sample(schema, name), "?" * max(1, schema.get("minLength", 1)), says)
    if schema.get("format") == "date-time":
        says = 'in body must be of type date-time: "yesterday"'
        yield Bound(path, sample(schema, name), "yesterday", says)


def _numbers(schema: Schema, path: str) -> Iterator[Bound]:
    if "minimum" in schema:
        least, open_end = schema["minimum"], schema.get("exclusiveMinimum", False)
        on = least + 1 if open_end else least
        beyond = least if open_end else least - 1
        word = "greater than" if open_end else "greater than or equal to"
        yield Bound(path, on, beyond, f"in body should be {word} {least}")
    if "maximum" in schema:
        most = schema["maximum"]
        yield Bound(path, most, most + 1, f"in body should be less than or equal to {most}")
    if "enum" in schema:
        options = ", ".join(f'"{option}"' for option in schema["enum"])
        says = f"Unsupported value: 99: supported values: {options}"
        yield from (Bound(path, option, 99, says) for option in schema["enum"])


def _sizes(schema: Schema, path: str, name: str) -> Iterator[Bound]:
    if schema["type"] == "array":
        most = schema["maxItems"]
        items = [sample(schema["items"], name, index) for index in range(most + 1)]
        says = f"Too many: {most + 1}: must have at most {most} items"
        yield Bound(path, items[:most], items, says)
    elif "maxProperties" in schema:
        most = schema["maxProperties"]
        value = sample(schema["additionalProperties"], name)
        entries = {f"a{index}": value for index in range(most + 1)}
        says = f"Too many: {most + 1}: must have at most {most} items"
        yield Bound(path, dict(list(entries.items())[:most]), entries, says)
    for required in schema.get("required", []):
        whole = sample(schema, name)
        rest = {key: value for key, value in whole.items() if key != required}
        yield Bound(path, whole, rest, "Required value")


def bounds(schema: Schema, path: str) -> Iterator[Bound]:
    """The pairs of one field."""
    name = next((token for token in reversed(tokens(path)) if token not in ("[]", "{}")), "")
    match schema["type"]:
        case "string":
            yield from _strings(schema, path, name)
        case "integer" | "number":
            yield from _numbers(schema, path)
        case "array" | "object":
            yield from _sizes(schema, path, name)


def _attempt(api: Api, kind: str, path: str, value: Any) -> tuple[int, dict[str, Any]]:
    part = "status" if path.startswith("status") else "spec"
    if part == "spec":
        obj = merged(minimal(kind, "new"), {"spec": companion(kind, path, value)})
        return api.create(with_value(kind, obj, path, value))
    stored = minimal(kind, "base", STORED)
    whole = with_value(kind, {**stored, "status": {}}, path, value)
    return api.patch(stored, {"status": whole["status"]}, sub="/status")


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_a_value_on_the_bound_is_taken_and_one_beyond_it_refused(api: Api, kind: str) -> None:
    wrong: list[str] = []
    pairs = 0
    for path, schema in nodes(kind):
        for bound in bounds(schema, path):
            pairs += 1
            code, answer = _attempt(api, kind, bound.path, bound.on)
            if code not in (200, 201):
                wrong.append(f"{path}: refused {str(bound.on)[:80]!r}: {answer['message'][:300]}")
            code, answer = _attempt(api, kind, bound.path, bound.beyond)
            if code != 422 or bound.says not in answer["message"]:
                got = answer.get("message", "accepted")[:300]
                wrong.append(f"{path}: {bound.says!r} expected, got {code}: {got}")
    assert not wrong, "\n".join(wrong)
    assert pairs > 0
