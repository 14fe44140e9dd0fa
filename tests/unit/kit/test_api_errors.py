import pytest

from novakube_kit.api_errors import api_error, retry_after_s
from novakube_kit.errors import (
    AlreadyExists,
    ApiUnavailable,
    Conflict,
    Forbidden,
    InvalidSpec,
    NotFound,
    Terminal,
)


@pytest.mark.parametrize(
    ("code", "status", "want", "want_reason"),
    [
        (400, {}, InvalidSpec, "InvalidSpec"),
        (401, {}, Forbidden, "Unauthorized"),
        (403, {}, Forbidden, "Forbidden"),
        (
            403,
            {"details": {"causes": [{"reason": "NamespaceTerminating"}]}},
            Forbidden,
            "NamespaceTerminating",
        ),
        (404, {}, NotFound, "NotFound"),
        (405, {"reason": "MethodNotAllowed"}, Terminal, "MethodNotAllowed"),
        (408, {}, ApiUnavailable, "ApiUnavailable"),
        (409, {"reason": "Conflict"}, Conflict, "Conflict"),
        (409, {"reason": "AlreadyExists"}, AlreadyExists, "AlreadyExists"),
        (410, {"reason": "Gone"}, Conflict, "Expired"),
        (413, {}, InvalidSpec, "TooLarge"),
        (422, {"reason": "Invalid"}, InvalidSpec, "InvalidSpec"),
        (429, {}, ApiUnavailable, "ApiUnavailable"),
        (500, {}, ApiUnavailable, "ApiUnavailable"),
        (504, {}, ApiUnavailable, "ApiUnavailable"),
    ],
)
def test_codes(code: int, status: dict, want: type, want_reason: str):
    error = api_error(code, {"message": "the cause", **status})
    assert (type(error), error.reason, error.message) == (want, want_reason, "the cause")


@pytest.mark.parametrize(
    ("header_s", "details", "want_s"),
    [(3.0, {}, 3), (None, {"retryAfterSeconds": 2}, 2), (3.0, {"retryAfterSeconds": 2}, 3),
     (None, {}, None), (None, {"retryAfterSeconds": 0}, None)],
)  # fmt: skip
def test_the_servers_wish_to_wait(header_s: float | None, details: dict, want_s: float | None):
    error = api_error(429, {"details": details}, header_s)
    assert isinstance(error, ApiUnavailable)
    assert error.after_s == want_s


def test_a_body_without_a_message_names_the_code():
    assert api_error(500, {}).message == "the Kubernetes API answered 500"


@pytest.mark.parametrize(("header", "want_s"), [("7", 7), (None, None), ("Tue, 01 Jan", None)])
def test_retry_after(header: str | None, want_s: float | None):
    assert retry_after_s(header) == want_s
