"""A replacing merge patch, applied as RFC 7386 says, leaves exactly the new object."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from novakube_operator.core.merge import replacing

VALUES = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def applied(target: Any, patch: Any) -> Any:
    """MergePatch of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), value)
    return result


@given(OBJECTS, OBJECTS)
def test_leaves_exactly_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert applied(old, replacing(old, new)) == new


def test_names_nested_keys_that_went() -> None:
    old = {"image": {"name": "a", "sha256": "b"}, "gone": 1}
    assert replacing(old, {"image": {"name": "a"}}) == {
        "gone": None,
        "image": {"name": "a", "sha256": None},
    }
