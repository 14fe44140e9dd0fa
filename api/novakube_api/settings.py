"""Settings of the API process: NOVAKUBE_* environment variables, read once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from novakube_kit.errors import InvalidSpec

MAX_WAIT_S = 3600


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process was told."""

    listen_host: str
    listen_port: int
    tls_dir: Path
    """Directory with ``tls.crt``, ``tls.key`` and ``ca.crt`` (Secret ``novakube-api-tls``,
    mounted). The pair serves HTTPS and is the client certificate towards agents."""
    tls_wait_s: float
    """How long to wait at start for the operator to issue the certificate."""
    agent_timeout_s: float
    """How long an agent may be silent within one answer. Seconds, as ``tls_wait_s``."""
    log_level: str


def listen_address(value: str) -> tuple[str, int]:
    """``host:port`` in two; IPv6 hosts in brackets.

    Raises:
        InvalidSpec: when it is neither.
    """
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidSpec(f"NOVAKUBE_HTTP must be host:port with a port of 1-65535, not {value!r}")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an API serves all addresses


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MAX_WAIT_S:
        raise InvalidSpec(f"{name} must be seconds, above 0 and at most {MAX_WAIT_S}, not {text!r}")
    return value


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings.

    Raises:
        InvalidSpec: naming the variable.
    """
    env = os.environ if environ is None else environ
    host, port = listen_address(env.get("NOVAKUBE_HTTP") or "0.0.0.0:8774")
    return Settings(
        listen_host=host,
        listen_port=port,
        tls_dir=Path(env.get("NOVAKUBE_TLS_DIR") or "/etc/novakube/tls"),
        tls_wait_s=_seconds(env, "NOVAKUBE_TLS_WAIT", 120),
        agent_timeout_s=_seconds(env, "NOVAKUBE_AGENT_TIMEOUT", 15),
        log_level=env.get("NOVAKUBE_LOG_LEVEL") or "info",
    )
