"""Errors and settings of novakube-api: codes, and what a bad setting is told."""

from __future__ import annotations

import pytest

from novakube_api.agents import AgentFailed, AgentUnreachable
from novakube_api.authorization import Denied, Unauthenticated, bearer_token
from novakube_api.faults import status_code
from novakube_api.settings import listen_address, load
from novakube_kit.errors import ApiUnavailable, Conflict, Forbidden, InvalidSpec, NotFound
from novakube_kit.errors import NovakubeError as Base


@pytest.mark.parametrize(
    ("error", "want_code"),
    [
        (Unauthenticated("x"), 401),
        (Denied("x"), 403),
        (NotFound("x"), 404),
        (AgentFailed("x"), 502),
        (ApiUnavailable("x"), 503),
        (AgentUnreachable("x"), 504),
        # Of our own requests: no caller can mend them.
        (Forbidden("x"), 500),
        (InvalidSpec("x"), 500),
        (Conflict("x"), 500),
        (Base("x"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_code_of_each_error(error: Base, want_code: int) -> None:
    assert status_code(error) == want_code


@pytest.mark.parametrize(
    ("header", "want"), [("Bearer a.b.c", "a.b.c"), ("bearer  x ", "x"), ("BEARER y", "y")]
)
def test_bearer_token(header: str, want: str) -> None:
    assert bearer_token(header) == want


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic eDp5", "a.b.c"])
def test_other_headers_are_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        bearer_token(header)


def test_defaults_of_settings() -> None:
    settings = load({})
    assert (settings.listen_host, settings.listen_port) == ("0.0.0.0", 8774)
    assert (settings.tls_wait_s, settings.agent_timeout_s) == (120, 15)
    assert str(settings.tls_dir) == "/etc/novakube/tls"


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        (":8774", ("0.0.0.0", 8774)),
    ],
)
def test_listen_address(value: str, want: tuple[str, int]) -> None:
    assert listen_address(value) == want


@pytest.mark.parametrize("value", ["8774", "host", "host:0", "host:65536", "host:x", "host:"])
def test_bad_listen_address_names_the_setting(value: str) -> None:
    with pytest.raises(InvalidSpec, match=r"NOVAKUBE_HTTP must be host:port .* 1-65535"):
        listen_address(value)


@pytest.mark.parametrize("name", ["NOVAKUBE_TLS_WAIT", "NOVAKUBE_AGENT_TIMEOUT"])
@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "3601"])
def test_bad_seconds_name_the_setting(name: str, value: str) -> None:
    with pytest.raises(InvalidSpec, match=f"{name} must be seconds"):
        load({name: value})
