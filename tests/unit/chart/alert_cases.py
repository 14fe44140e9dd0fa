"""Series under which each alert fires, and some that look alike under which it does not.

Written as promtool reads them: one sample a minute, ``a+bxn`` is a, a+b, ... n more times.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Series = dict[str, str]
OPERATOR = 'job="operator", instance="a"'
OTHER = 'job="operator", instance="b"'
LEASE = 'lease="novakube-operator"'
STAYS = "+0x120"
GROWS = "0+{}x120"
ONCE = "0+0x9 1+0x110"
"""Nothing for ten minutes, then one."""
DAY_S = 86400


@dataclass(frozen=True)
class Case:
    """One alert."""

    fires: Series
    labels: dict[str, str] = field(default_factory=dict)
    """Of the alert, severity excepted."""
    quiet: tuple[Series, ...] = ()
    minute: int = 45


def leader(instance: str, value: int) -> Series:
    return {f"novakube_leader{{{instance}, {LEASE}}}": f"{value}{STAYS}"}


def depth(value: int, queue: str = "Instance") -> Series:
    return {f'novakube_queue_depth{{{OPERATOR}, queue="{queue}"}}': f"{value}{STAYS}"}


def passes(reason: str, failed: int, of: int) -> Series:
    where = f'{OPERATOR}, queue="Instance"'
    return {
        f'novakube_reconcile_errors_total{{{where}, reason="{reason}"}}': GROWS.format(failed),
        f"novakube_reconcile_seconds_count{{{where}}}": GROWS.format(of),
    }


def requests(code: str, resource: str = "ports", count: str = "0+10x120") -> Series:
    where = f'{OPERATOR}, verb="create", resource="{resource}"'
    name = "novakube_api_requests_total"
    return {f'{name}{{{where}, code="{code}"}}': count,
            f'{name}{{{where}, code="201"}}': "0+90x120"}  # fmt: skip


def condition(type: str, reason: str, value: int, node: str = "n1", at: str = OPERATOR) -> Series:
    labels = f'{at}, node="{node}", condition="{type}", reason="{reason}"'
    return {f"novakube_hypervisor_condition{{{labels}}}": f"{value}{STAYS}"}


def ends(certificate: str, days: int) -> Series:
    name = "novakube_certificate_end_timestamp_seconds"
    return {f'{name}{{{OPERATOR}, certificate="{certificate}"}}': f"{days * DAY_S}{STAYS}"}


def errors(reason: str, values: str) -> Series:
    return {f'novakube_instance_errors_total{{{OPERATOR}, reason="{reason}"}}': values}


def dropped(values: str) -> Series:
    return {f'novakube_history_dropped_total{{{OPERATOR}, reason="Full"}}': values}


def disk(free: int) -> Series:
    return {
        f'novakube_node_capacity{{{OPERATOR}, node="n1", resource="{resource}"}}': f"{gib}{STAYS}"
        for resource, gib in (("disk-free-gib", free), ("disk-gib", 100))
    }


def instances(state: str) -> Series:
    return {f'novakube_instances{{{OPERATOR}, state="{state}"}}': f"1{STAYS}"}


def creates(seconds: int) -> Series:
    """One a minute, each between the bound before and this one."""
    name = "novakube_create_phase_seconds_bucket"
    return {
        f'{name}{{{OPERATOR}, phase="running", le="{bound}"}}': GROWS.format(
            int(seconds <= float(bound))
        )
        for bound in ("60", "300", "600", "+Inf")
    }


def oldest(seconds: int) -> Series:
    return {f"novakube_history_oldest_seconds{{{OPERATOR}}}": f"{seconds}{STAYS}"}


def orphans(count: int) -> Series:
    return {f'novakube_orphan_domains{{{OPERATOR}, node="n1"}}': f"{count}{STAYS}"}


def answers(code: str, route: str = "/r") -> Series:
    where = f'{OPERATOR}, route="{route}", method="GET"'
    name = "novakube_http_requests_total"
    return {f'{name}{{{where}, code="{code}"}}': GROWS.format(10),
            f'{name}{{{where}, code="200"}}': GROWS.format(90)}  # fmt: skip


HEARD = condition("AgentAlive", "Heartbeat", 1)
SILENT = condition("AgentAlive", "HeartbeatLost", 0)
BROKEN = condition("DriverReady", "NoSocket", 0)
QUEUE = {"job": "operator", "instance": "a", "queue": "Instance"}

CASES = {
    "NovakubeNoLeader": Case(
        leader(OPERATOR, 0), quiet=(leader(OPERATOR, 0) | leader(OTHER, 1),), minute=5
    ),
    "NovakubeTwoLeaders": Case(
        leader(OPERATOR, 1) | leader(OTHER, 1), quiet=(leader(OPERATOR, 1) | leader(OTHER, 0),)
    ),
    "NovakubeQueueBehind": Case(
        depth(200) | leader(OPERATOR, 1) | leader(OTHER, 0),
        QUEUE,
        (depth(200) | leader(OPERATOR, 0), depth(50) | leader(OPERATOR, 1)),
    ),
    "NovakubeReconcilesFail": Case(
        passes("ApiUnavailable", 30, 60),
        {"job": "operator", "queue": "Instance"},
        (
            passes("Conflict", 30, 60),
            passes("ApiUnavailable", 1, 1),
            passes("ApiUnavailable", 6, 60),
        ),
    ),
    "NovakubeKubernetesAPIFails": Case(
        requests("none"),
        {"job": "operator"},
        (requests("404"), requests("503", count="0+1x120")),
    ),
    "NovakubeForbidden": Case(
        requests("403", count="0+1x120"),
        {"job": "operator", "verb": "create", "resource": "ports"},
        (requests("403", "events"), requests("403", count=ONCE)),
    ),
    "NovakubeCRDTerminating": Case(
        passes("CRDTerminating", 2, 60), quiet=(passes("ApiUnavailable", 2, 60),)
    ),
    "NovakubeCertificateEnds": Case(
        ends("novakube-api", 20),
        {"certificate": "novakube-api"},
        (ends("novakube-api", 29), ends("novakube-ca", 20)),
        minute=90,
    ),
    "NovakubeAuthorityEnds": Case(
        ends("novakube-ca", 170),
        quiet=(ends("novakube-ca", 200), ends("novakube-api", 20)),
        minute=90,
    ),
    "NovakubeNodeSilent": Case(
        SILENT,
        {"node": "n1"},
        (
            HEARD,
            # The other replica has not seen it yet.
            SILENT | condition("AgentAlive", "Heartbeat", 1, at=OTHER),
        ),
        minute=5,
    ),
    "NovakubeHypervisorNotReady": Case(
        BROKEN | HEARD, {"node": "n1", "reason": "NoSocket"}, (BROKEN | SILENT, HEARD)
    ),
    "NovakubeNodeRefusesBuilds": Case(
        condition("Schedulable", "BuildFailures", 0),
        {"node": "n1"},
        (condition("Schedulable", "Disabled", 0), condition("Schedulable", "Enabled", 1)),
    ),
    "NovakubeNoNodeTakesInstances": Case(
        condition("Schedulable", "Disabled", 0) | condition("Schedulable", "NoReport", 0, "n2"),
        quiet=(
            condition("Schedulable", "Disabled", 0) | condition("Schedulable", "Enabled", 1, "n2"),
        ),
    ),
    "NovakubeNodeDiskLow": Case(
        disk(5), {"job": "operator", "instance": "a", "node": "n1"}, (disk(20),)
    ),
    "NovakubeOrphanDomains": Case(orphans(1), {"node": "n1"}, (orphans(0),)),
    "NovakubeGuestLost": Case(
        errors("Lost", ONCE), quiet=(errors("BuildTimeout", ONCE), errors("Lost", "3+0x120"))
    ),
    "NovakubeInstancesFail": Case(
        errors("BuildTimeout", "0+1x120"),
        {"reason": "BuildTimeout"},
        (errors("BuildTimeout", "0+0x30 1+1x2 3+0x80"),),
    ),
    "NovakubeInstancesInError": Case(
        instances("Error"), quiet=(instances("Running"),), minute=75
    ),
    "NovakubeCreatesSlow": Case(creates(500), quiet=(creates(50),)),
    "NovakubeHistoryBehind": Case(oldest(700), quiet=(oldest(300),)),
    "NovakubeHistoryLost": Case(
        dropped(ONCE), {"reason": "Full"}, (dropped("5+0x120"),)
    ),
    "NovakubeAPISilent": Case({}, quiet=(answers("404"),)),
    "NovakubeAPIErrors": Case(
        answers("500"), {"route": "/r"}, (answers("404"), answers("503", "/readyz"))
    ),
}  # fmt: skip
