import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from novakube_kit.errors import InvalidSpec
from novakube_kit.httpserver import HttpServer, parse_address
from novakube_kit.logging import bind_reconcile, configure_logging


async def test_health_names_each_check_and_metrics_are_served():
    state = {"why": None}
    checks = {"watch": lambda: state["why"], "loop": lambda: None}
    async with HttpServer("127.0.0.1", 0, checks) as server, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{server.port}"
        answer = await client.get(f"{url}/healthz")
        assert (answer.status_code, answer.json()) == (
            200,
            {"checks": {"watch": "ok", "loop": "ok"}},
        )
        state["why"] = "instances: no answer from the Kubernetes API"
        answer = await client.get(f"{url}/healthz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["watch"] == state["why"]
        metrics = await client.get(f"{url}/metrics")
        assert "novakube_queue_depth" in metrics.text
        assert 'le="0.01"' in metrics.text or "novakube_api_request_seconds" in metrics.text


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":8080", ("0.0.0.0", 8080)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_addresses(text: str, want: tuple[str, int]):
    assert parse_address(text) == want


@pytest.mark.parametrize("text", ["8080", "host:", "host:http", "host:70000", ""])
def test_other_addresses_are_refused(text: str):
    with pytest.raises(InvalidSpec, match=r"NOVAKUBE_HTTP is .*host:port"):
        parse_address(text)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_records_of_all_loggers_are_json_with_what_is_bound(lines: io.StringIO):
    with bind_reconcile("Instance", "demo", "web", uid="u1") as reconcile_id:
        logging.getLogger("some.library").warning("took %d s", 3)
    logging.getLogger("later").info("unbound")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first.pop("ts")
    assert first == {
        "level": "warning",
        "msg": "took 3 s",
        "logger": "some.library",
        "kind": "Instance",
        "namespace": "demo",
        "name": "web",
        "uid": "u1",
        "reconcileID": reconcile_id,
    }
    assert "reconcileID" not in second


def test_tracebacks_are_in_the_record(lines: io.StringIO):
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("x").exception("failed")
    assert "ZeroDivisionError: division by zero" in json.loads(lines.getvalue())["exception"]


def test_an_unknown_level_is_refused():
    with pytest.raises(InvalidSpec, match="allowed: debug, info, warning, error"):
        configure_logging("loud")
