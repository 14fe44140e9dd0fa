"""The operator's settings, read once from the environment."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from novakube_kit.errors import InvalidSpec
from novakube_kit.httpserver import parse_address
from novakube_operator.core.scheduling.pipeline import Options
from novakube_operator.core.scheduling.registry import DEFAULT_FILTERS, DEFAULT_WEIGHERS
from novakube_operator.sql.engine import DEFAULT_URL


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """What the scheduler looks at, ``NOVAKUBE_SCHEDULER_*``."""

    filters: tuple[str, ...] = DEFAULT_FILTERS
    """In the order of reasons."""
    weighers: tuple[tuple[str, float | None], ...] = DEFAULT_WEIGHERS
    """Names with multipliers; None: the weigher's own."""
    options: Options = field(default_factory=Options)


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
    slot: str
    """Where at most one operator process runs at a time: the pod's UID. Empty: not known."""
    workers: int
    """Instances reconciled at a time."""
    build_deadline_s: float
    """A guest that is not there after this long is given up."""
    reclaim_after_s: float
    """A soft-deleted Instance is deleted after this long; 0, Nova's default: never by itself.
    Source: nova.conf reclaim_instance_interval, and _reclaim_queued_deletes, which skips at 0."""
    build_failures_max: int = 10
    """Builds in a row that may fail before a node takes nothing new; 0: any number.

    Source: nova.conf consecutive_build_service_disable_threshold."""
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)


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
        slot=env.get("NOVAKUBE_POD_UID") or "",
        workers=int(_number(env, "NOVAKUBE_WORKERS", 16, 1, 256)),
        build_deadline_s=_number(env, "NOVAKUBE_BUILD_DEADLINE_S", 1800, 1, 86400),
        build_failures_max=int(_number(env, "NOVAKUBE_BUILD_FAILURES_MAX", 10, 0, 1000000)),
        scheduler=_scheduler(env),
        reclaim_after_s=_number(env, "NOVAKUBE_RECLAIM_INSTANCE_INTERVAL_S", 0, 0, 31536000),
    )


def _scheduler(env: Mapping[str, str]) -> SchedulerSettings:
    prefix, usual = "NOVAKUBE_SCHEDULER_", Options()
    restrict = env.get(f"{prefix}RESTRICT_ISOLATED_HOSTS") or "true"
    if restrict not in ("true", "false"):
        raise _invalid(f"{prefix}RESTRICT_ISOLATED_HOSTS", restrict, "true or false")
    options = Options(
        max_io_ops_per_host=int(
            _number(env, f"{prefix}MAX_IO_OPS_PER_HOST", usual.max_io_ops_per_host, 1, 1e6)
        ),
        max_instances_per_host=int(
            _number(env, f"{prefix}MAX_INSTANCES_PER_HOST", usual.max_instances_per_host, 1, 1e6)
        ),
        isolated_images=frozenset(_names(env, f"{prefix}ISOLATED_IMAGES")),
        isolated_hosts=frozenset(_names(env, f"{prefix}ISOLATED_HOSTS")),
        restrict_isolated_hosts_to_isolated_images=restrict == "true",
        image_properties_namespace=env.get(f"{prefix}IMAGE_PROPERTIES_NAMESPACE") or "",
        image_properties_separator=env.get(f"{prefix}IMAGE_PROPERTIES_SEPARATOR") or ".",
    )
    weighers = tuple(
        _weigher(f"{prefix}WEIGHERS", text) for text in _names(env, f"{prefix}WEIGHERS")
    )
    filters = _names(env, f"{prefix}FILTERS")
    return SchedulerSettings(filters or DEFAULT_FILTERS, weighers or DEFAULT_WEIGHERS, options)


def _names(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    parts = (part.strip() for part in (env.get(name) or "").split(","))
    return tuple(part for part in parts if part)


def _weigher(variable: str, text: str) -> tuple[str, float | None]:
    """``ram`` or ``ram=2.5``."""
    name, equals, number = text.partition("=")
    try:
        return name.strip(), float(number) if equals else None
    except ValueError as error:
        raise _invalid(variable, text, "name or name=multiplier") from error


def _invalid(name: str, text: str, allowed: str) -> InvalidSpec:
    return InvalidSpec(f"{name} is {text!r}; allowed: {allowed}", reason="InvalidConfiguration")


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
