"""Which fields were given is kept once for all models of the same form."""

from __future__ import annotations

from novakube_crds.base import Reference


def test_models_of_one_form_share_it() -> None:
    one, other = Reference(name="a"), Reference.model_validate({"name": "b"})
    assert one.model_fields_set is other.model_fields_set
    assert one.model_fields_set == {"name"}


def test_another_form_is_another() -> None:
    both = Reference(name="a", namespace="x")
    assert both.model_fields_set == {"name", "namespace"}
    changed = Reference(name="a").model_copy(update={"namespace": "x"})
    assert changed.model_fields_set == {"name", "namespace"}
    assert Reference(name="a").model_fields_set == {"name"}
