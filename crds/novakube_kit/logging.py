"""JSON logs on stderr: one line per record, the same from our code and from libraries.

Keys: ``ts``, ``level``, ``msg``, ``logger``, then what ``bind_reconcile`` bound (kind,
namespace, name, uid, node, reconcileID), then ``exception``. Libraries log through the
standard library, so kopf, uvicorn and SQLAlchemy come out the same.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import orjson
import structlog

from novakube_kit.errors import InvalidSpec

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Makes every record of the process a JSON line; replaces earlier handlers.

    Args:
        level: debug, info, warning or error.
        stream: default stderr.

    Raises:
        InvalidSpec: another level.
    """
    if level.lower() not in LEVELS:
        raise InvalidSpec(
            f"log level is {level!r}; allowed: {', '.join(LEVELS)}", reason="InvalidConfiguration"
        )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # structlog's own loggers take the same way out; by themselves they print to stdout.
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    # These two report every connection at info; their warnings are what matters.
    for chatty in ("aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@contextmanager
def bind_reconcile(
    kind: str = "", namespace: str | None = "", name: str = "", uid: str = "", node: str = ""
) -> Iterator[str]:
    """Binds the object and a new reconcile id to all records within; gives the id."""
    reconcile_id = uuid.uuid4().hex[:12]
    known = {"kind": kind, "namespace": namespace, "name": name, "uid": uid, "node": node}
    with structlog.contextvars.bound_contextvars(
        reconcileID=reconcile_id, **{key: value for key, value in known.items() if value}
    ):
        yield reconcile_id


def _shared() -> list[structlog.types.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]


def _formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _ordered,
            structlog.processors.JSONRenderer(serializer=_serialise),
        ],
    )


def _ordered(_: object, __: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {"ts": record.pop("ts", ""), "level": record.pop("level", "")}
    return {**first, "msg": record.pop("event", ""), **record}


def _serialise(record: object, default: Callable[[object], object] = str) -> str:
    return orjson.dumps(record, default=default).decode()
