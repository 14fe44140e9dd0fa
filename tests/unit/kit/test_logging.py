"""structlog's loggers and the standard library's come out as the same JSON lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from novakube_kit.logging import bind_reconcile, configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_structlog_takes_the_same_way_out(
    lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    with bind_reconcile("Instance", "ns", "web"):
        structlog.get_logger("a").warning("seen", node="n1")
        logging.getLogger("a").warning("seen")
    structlog.get_logger("a").debug("below the level")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first.pop("node") == "n1"
    for record in (first, second):
        assert record.pop("ts")
    assert first == second
    assert (first["msg"], first["logger"], first["namespace"]) == ("seen", "a", "ns")
    assert capsys.readouterr().out == ""
