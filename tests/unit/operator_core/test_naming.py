"""Host names by Nova's rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_operator.core.naming import hostname


@pytest.mark.parametrize(
    ("display_name", "want"),
    [
        ("web", "web"),
        ("My Web_Server", "my-web-server"),
        ("a.b-C", "a.b-c"),
        ("--x--", "x"),
        ("naïve", "naive"),
        ("web (1)!", "web-1"),
        ("日本", "server-1"),
        ("", "server-1"),
        ("x" * 80, "x" * 63),
    ],
)
def test_hostname(display_name: str, want: str) -> None:
    assert hostname(display_name, "server-1") == want


@given(st.text(max_size=255))
def test_any_name_gives_a_host_name(display_name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", hostname(display_name, "server-1"))
