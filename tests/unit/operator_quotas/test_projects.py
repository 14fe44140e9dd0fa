"""Which of several namespaces with one project's label is the project's."""

from __future__ import annotations

from typing import Any

import pytest

from novakube_operator.core.projects import BOUND_AT, PROJECT_LABEL, Bindings


def namespace(name: str, project: str | None, born: str, bound: str | None = None) -> Any:
    labels = {} if project is None else {PROJECT_LABEL: project}
    annotations = {} if bound is None else {BOUND_AT: bound}
    return {
        "name": name, "labels": labels, "annotations": annotations, "creationTimestamp": born,
    }  # fmt: skip


CASES = {
    "the older, where nobody says when": (
        [namespace("new", "p", "2030"), namespace("old", "p", "2029")], "old",
    ),
    "the one that was bound before one that was labelled by hand": (
        [namespace("old", "p", "2029"), namespace("new", "p", "2030", "2031")], "new",
    ),
    "the one that was bound first": (
        [namespace("old", "p", "2029", "2032"), namespace("new", "p", "2030", "2031")], "new",
    ),
    "by name, where all is equal": (
        [namespace("b", "p", "2030"), namespace("a", "p", "2030")], "a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("turned", [False, True])
def test_one_namespace_of_a_project(case: str, turned: bool) -> None:
    given, first = CASES[case]
    bindings = Bindings()
    for item in reversed(given) if turned else given:
        bindings.changed(item["name"], item)
    for item in given:
        name = item["name"]
        assert bindings.labelled(name)
        assert bindings.project(name) == ("p" if name == first else None)
        refusal = None if name == first else f"project p is bound to namespace {first} already"
        assert bindings.refusal(name) == refusal


def test_who_came_too_late_is_next() -> None:
    bindings = Bindings()
    assert bindings.changed("a", namespace("a", "p", "2029")) == set()
    assert bindings.changed("b", namespace("b", "p", "2030")) == {"a"}
    assert bindings.changed("b", namespace("b", "p", "2030")) == set()
    assert bindings.changed("a", namespace("a", None, "2029")) == {"b"}
    assert (bindings.project("a"), bindings.project("b")) == (None, "p")
    bindings.changed("a", namespace("a", "p", "2029"))
    assert bindings.refusal("b") is not None
    assert bindings.changed("a", None) == {"b"}
    assert (bindings.labelled("a"), bindings.project("b")) == (False, "p")


def test_a_namespace_without_a_label_is_nobodys() -> None:
    bindings = Bindings()
    assert bindings.changed("a", namespace("a", None, "2029")) == set()
    assert (bindings.project("a"), bindings.refusal("a"), bindings.labelled("a")) == (
        None, None, False,
    )  # fmt: skip
