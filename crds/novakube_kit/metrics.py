"""The metrics every process exports; ``httpserver`` serves them.

All are registered in prometheus-client's default registry, which adds the process's own
memory, CPU and file descriptors.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

__all__ = [
    "API_REQUESTS",
    "API_SECONDS",
    "EVENTS_DROPPED",
    "EVENTS_SENT",
    "LEADER",
    "PHASE_BUCKETS_S",
    "QUEUE_DEPTH",
    "QUEUE_ERRORS",
    "QUEUE_WAIT_SECONDS",
    "RECONCILE_SECONDS",
    "REGISTRY",
    "WATCH_ERRORS",
    "WATCH_EVENTS",
    "WATCH_LISTS",
]

PHASE_BUCKETS_S = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""From 10 ms (a status write) to 10 min (a cold image over a slow line)."""

API_REQUESTS = Counter(
    "novakube_api_requests_total",
    "Requests to the Kubernetes API by verb, resource (plural, /subresource) and answer.",
    ["verb", "resource", "code"],
)
API_SECONDS = Histogram(
    "novakube_api_request_seconds",
    "Seconds of one request to the Kubernetes API, watches excepted.",
    ["verb"],
    buckets=PHASE_BUCKETS_S,
)
QUEUE_DEPTH = Gauge("novakube_queue_depth", "Keys waiting for a worker.", ["queue"])
QUEUE_WAIT_SECONDS = Histogram(
    "novakube_queue_wait_seconds",
    "Seconds a key waited for a worker.",
    ["queue"],
    buckets=PHASE_BUCKETS_S,
)
RECONCILE_SECONDS = Histogram(
    "novakube_reconcile_seconds",
    "Seconds of one reconcile pass.",
    ["queue"],
    buckets=PHASE_BUCKETS_S,
)
QUEUE_ERRORS = Counter(
    "novakube_reconcile_errors_total", "Failed reconcile passes by reason.", ["queue", "reason"]
)
WATCH_EVENTS = Counter(
    "novakube_watch_events_total", "Watch events delivered.", ["resource", "type"]
)
WATCH_LISTS = Counter(
    "novakube_watch_lists_total", "Lists made to (re)start a watch.", ["resource"]
)
WATCH_ERRORS = Counter(
    "novakube_watch_errors_total", "Failures of a watch by reason.", ["resource", "reason"]
)
EVENTS_SENT = Counter("novakube_events_sent_total", "Kubernetes Events written.", ["reason"])
EVENTS_DROPPED = Counter(
    "novakube_events_dropped_total", "Kubernetes Events not written, by cause.", ["cause"]
)
LEADER = Gauge("novakube_leader", "1 while this process holds the Lease.", ["lease"])
