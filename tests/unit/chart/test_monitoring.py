"""Monitoring as helm renders it, against the registries, ports and pages it speaks of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

import novakube_agent.main
import novakube_api.main
import novakube_operator.main
from tests.unit.chart.conftest import CHART, Objects, named, rendered, template
from tests.unit.chart.promql import Metrics, Refused, wanted_values

ROOT = CHART.parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text()
PROCESSES = (novakube_agent.main, novakube_api.main, novakube_operator.main)
"""Importing a process's main module registers what it exports."""
ALL = (
    "monitoring.podMonitors.enabled=true",
    "monitoring.alerts.enabled=true",
    "monitoring.dashboards.enabled=true",
    "agent.http.onNodeAddress=true",
)
GROUPS = yaml.safe_load((CHART / "monitoring" / "alerts.yaml").read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"]
}
METRICS = Metrics.of(REGISTRY)
INTERVAL = "5m"
"""In place of Grafana's $__rate_interval."""


@pytest.fixture(scope="module")
def everything() -> Objects:
    return rendered(*ALL)


@pytest.fixture(scope="module")
def dashboards(everything: Objects) -> dict[str, dict[str, Any]]:
    data = named(everything, "ConfigMap", "novakube-dashboards")["data"]
    return {name: json.loads(text) for name, text in data.items()}


def queries(dashboards: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    for name, dashboard in dashboards.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target


def source_text() -> str:
    folders = ("agents", "api", "crds", "operator")
    return "".join(path.read_text() for f in folders for path in (ROOT / f).rglob("*.py"))


# what there is


def test_all_is_off_by_default(default: Objects) -> None:
    kinds = {o["kind"] for o in default}
    assert kinds.isdisjoint({"PodMonitor", "ServiceMonitor", "PrometheusRule", "ConfigMap"})


@pytest.mark.parametrize("setting", ALL[:3])
def test_each_part_is_switched_on_alone(setting: str, default: Objects) -> None:
    part = {"podMonitors": "PodMonitor", "alerts": "PrometheusRule", "dashboards": "ConfigMap"}
    more = [o["kind"] for o in rendered(setting) if o["kind"] not in {d["kind"] for d in default}]
    assert set(more) == {part[setting.split(".")[1]]}


def test_labels_and_interval_reach_the_objects() -> None:
    objects = rendered(
        *ALL, "monitoring.podMonitors.labels.release=p", "monitoring.podMonitors.interval=15s",
        "monitoring.alerts.labels.release=q", "monitoring.dashboards.labels.board=r",
        "monitoring.dashboards.annotations.grafana_folder=s",
    )  # fmt: skip
    monitors = [o for o in objects if o["kind"] == "PodMonitor"]
    assert {m["metadata"]["labels"]["release"] for m in monitors} == {"p"}
    assert {e["interval"] for m in monitors for e in m["spec"]["podMetricsEndpoints"]} == {"15s"}
    rule = named(objects, "PrometheusRule", "novakube")
    assert rule["metadata"]["labels"]["release"] == "q"
    board = named(objects, "ConfigMap", "novakube-dashboards")["metadata"]
    assert board["labels"].items() >= {"grafana_dashboard": "1", "board": "r"}.items()
    assert board["annotations"] == {"grafana_folder": "s"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("monitoring.podMonitors.interval=often", "/monitoring/podMonitors/interval"),
        ("monitoring.podMonitors.enabled=yes", "/monitoring/podMonitors/enabled"),
        ("monitoring.alerts.labels=x", "/monitoring/alerts/labels"),
        ("monitoring.alerts.runbook=", "/monitoring/alerts/runbook"),
        ("monitoring.serviceMonitors.enabled=true", "'serviceMonitors' not allowed"),
        ("agent.http.port=0", "/agent/http/port"),
    ],
)
def test_a_bad_value_is_named(setting: str, message: str) -> None:
    done = template(setting)
    assert done.returncode != 0
    assert message in done.stderr


# scraping


@pytest.mark.parametrize(
    ("kind", "component", "port"),
    [("Deployment", "operator", 8080), ("Deployment", "api", 9000), ("DaemonSet", "agent", 9082)],
)
def test_a_monitor_leads_to_the_port_that_serves(kind: str, component: str, port: int) -> None:
    objects = rendered(*ALL, "api.port=9000", "agent.http.port=9082", "networkPolicies=true")
    name = f"novakube-{component}"
    spec = named(objects, "PodMonitor", name)["spec"]
    pod = named(objects, kind, name)["spec"]["template"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    (container,) = pod["spec"]["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports[endpoint["port"]] == port
    assert endpoint["path"] == "/metrics"
    env = {v["name"]: v.get("value") for v in container["env"]}
    host = {"agent": "$(NOVAKUBE_ADDRESS)"}.get(component, "0.0.0.0")
    assert env["NOVAKUBE_HTTP"] == f"{host}:{port}"
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    if not pod["spec"].get("hostNetwork"):
        # No "from": Prometheus may be anywhere.
        assert policies[name]["ingress"] == [{"ports": [{"protocol": "TCP", "port": port}]}]
    assert (endpoint.get("scheme") == "https") == (component == "api")


def test_the_api_is_checked_by_what_the_operator_publishes_and_signs(everything: Objects) -> None:
    from novakube_operator.nodes import authority

    (endpoint,) = named(everything, "PodMonitor", "novakube-api")["spec"]["podMetricsEndpoints"]
    assert endpoint["tlsConfig"]["ca"]["configMap"] == {
        "name": authority.ENDPOINTS,
        "key": "ca.crt",
    }
    hosts = authority.Authority(None, None, "https://elsewhere").api_hosts()  # type: ignore[arg-type]
    assert endpoint["tlsConfig"]["serverName"] in hosts
    assert "insecureSkipVerify" not in endpoint["tlsConfig"]


def test_agents_stay_on_their_loopback_unless_asked(default: Objects) -> None:
    objects = rendered("monitoring.podMonitors.enabled=true")
    found = {o["metadata"]["name"] for o in objects if o["kind"] == "PodMonitor"}
    assert found == {"novakube-operator", "novakube-api"}
    for number, shown in enumerate((default, rendered(*ALL))):
        (agent,) = named(shown, "DaemonSet", "novakube-agent")["spec"]["template"]["spec"][
            "containers"
        ]
        env = [v["name"] for v in agent["env"]]
        # Kubernetes puts only earlier variables into a value.
        assert env.index("NOVAKUBE_ADDRESS") < env.index("NOVAKUBE_HTTP")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            wanted = {"path": "/healthz", "port": 8082} | ({} if number else {"host": "127.0.0.1"})
            assert agent[probe]["httpGet"] == wanted
        assert ("ports" in agent) == bool(number)


# alerts


def test_the_rule_is_the_file(everything: Objects) -> None:
    assert named(everything, "PrometheusRule", "novakube")["spec"] == {"groups": GROUPS}
    objects = rendered("monitoring.alerts.enabled=true", "monitoring.alerts.runbook=https://wiki/x")
    for group in named(objects, "PrometheusRule", "novakube")["spec"]["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"].startswith("https://wiki/x#")


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_reads_what_is_exported_and_tells_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    labels = METRICS.check(rule["expr"])
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    used = set(re.findall(r"\$labels\.(\w+)", told["summary"] + told["description"]))
    assert used <= labels, f"{alert} shows {used - labels}"
    page, _, anchor = told["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    assert f"`{alert}`" in sections()[anchor], "the section names the alert"


def sections() -> dict[str, str]:
    """Text below each third-level heading, by the anchor that forges make of it."""
    parts = re.split(r"^#{2,3} (.+)$", PAGE, flags=re.MULTILINE)[1:]
    anchors = (re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in parts[::2])
    return dict(zip(anchors, parts[1::2], strict=True))


def test_every_section_of_alerts_belongs_to_one() -> None:
    told = PAGE.split("## Alerts\n")[1].split("\n## ")[0]
    named_there = re.findall(r"^`(Novakube\w+)`|and `(Novakube\w+)` \(", told, flags=re.MULTILINE)
    assert {name for pair in named_there for name in pair if name} == set(ALERTS)
    used = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in ALERTS.values()}
    assert len(re.findall(r"^### ", told, flags=re.MULTILINE)) == len(used)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_value_that_an_alert_asks_for_is_written_in_the_code(alert: str) -> None:
    text = source_text()
    for label, value in wanted_values(ALERTS[alert]["expr"]):
        if label not in ("code", "resource") or not value.isdecimal():
            assert f'"{value}"' in text, f"{alert}: {label}={value} is set nowhere"


# dashboards


def test_every_query_of_the_dashboards_reads_what_is_exported(
    dashboards: dict[str, dict[str, Any]],
) -> None:
    count = 0
    for where, target in queries(dashboards):
        labels = METRICS.check(target["expr"].replace("$__rate_interval", INTERVAL))
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= labels, f"{where}: {shown - labels}"
        count += 1
    assert count > 40


def test_panels_have_places_of_their_own(dashboards: dict[str, dict[str, Any]]) -> None:
    assert set(dashboards) == {"novakube-control-plane.json", "novakube-nodes.json"}
    for name, dashboard in dashboards.items():
        assert name == f"{dashboard['uid']}.json"
        assert [v["name"] for v in dashboard["templating"]["list"]] == ["datasource"]
        panels = dashboard["panels"]
        assert [p["id"] for p in panels] == list(range(1, len(panels) + 1))
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (place["x"] + x, place["y"] + y)
                for x in range(place["w"])
                for y in range(place["h"])
            }
            assert cells.isdisjoint(taken), panel["title"]
            taken |= cells
            for target in panel.get("targets", ()):
                assert target["datasource"]["uid"] == "${datasource}"


# the page of metrics


def test_the_table_of_metrics_is_the_registry() -> None:
    table = PAGE.split("## Metrics\n")[1].split("\n## ")[0]
    told = {
        name: frozenset(filter(None, labels.replace(" ", "").split(",")))
        for name, labels in re.findall(r"^\| `(novakube_\w+)` \| ([\w, ]*)\|", table, re.MULTILINE)
    }
    exported = {}
    for name, labels in METRICS.labels.items():
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if base.startswith("novakube_"):
            exported[base] = exported.get(base, labels) & labels
    assert told == exported


# the checks themselves


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("absent(n_total", "unclosed left parenthesis"),
        ("n", "no process exports n"),
        ('n_total{b="x"}', "no label b"),
        ("sum by (b) (n_total)", "no label b"),
        ("histogram_quantile(0.9, sum by (a) (rate(h_bucket[5m])))", "no label le"),
        ("n_total / g", "never match"),
        ("n_total unless on (b) g", "no label b"),
        ("g_total", "no process exports g_total"),
        ("h", "no process exports h"),
        ("label_replace(g, \"x\", \"$1\", \"a\", \"b\")", "not known here"),
    ],
)  # fmt: skip
def test_the_check_of_expressions_refuses(expression: str, why: str) -> None:
    registry = CollectorRegistry()
    Counter("n", "", ["a"], registry=registry)
    Gauge("g", "", registry=registry)
    Histogram("h", "", ["a"], registry=registry)
    metrics = Metrics.of(registry)
    assert metrics.check("sum by (a) (rate(n_total[5m]))") == {"a"}
    with pytest.raises((Refused, ValueError), match=why):
        metrics.check(expression)
