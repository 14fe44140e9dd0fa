"""The operator's settings, read once from the environment."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from novakube_kit.errors import InvalidSpec
from novakube_kit.httpserver import parse_address
from novakube_operator.sql.engine import DEFAULT_URL


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the operator is told from outside."""

    http_host: str
    http_port: int
    log_level: str
    database_url: str
    api_url: str
    """Where kubectl users reach novakube-api; published in ConfigMap novakube-endpoints."""
    identity: str
    """Unique per process start: host name and a random part."""
    workers: int
    """Instances reconciled at a time."""
    build_deadline_s: float
    """A guest that is not there after this long is given up."""


def read_settings(env: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``NOVAKUBE_*``.

    Raises:
        InvalidSpec: names the variable and what is allowed.
    """
    env = os.environ if env is None else env
    host, port = parse_address(env.get("NOVAKUBE_HTTP") or "127.0.0.1:8080")
    return Settings(
        http_host=host,
        http_port=port,
        log_level=env.get("NOVAKUBE_LOG_LEVEL") or "info",
        database_url=env.get("NOVAKUBE_DATABASE_URL") or DEFAULT_URL,
        api_url=env.get("NOVAKUBE_API_URL") or "https://novakube-api.novakube-system.svc:8774",
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}",
        workers=int(_number(env, "NOVAKUBE_WORKERS", 16, 1, 256)),
        build_deadline_s=_number(env, "NOVAKUBE_BUILD_DEADLINE_S", 1800, 1, 86400),
    )


def _number(env: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidSpec(
            f"{name} is {text!r}; allowed: a number from {least:g} to {most:g}",
            reason="InvalidConfiguration",
        )
    return value
