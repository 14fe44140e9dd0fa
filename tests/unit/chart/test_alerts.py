"""Alerts as Prometheus itself evaluates them: they fire on what they name, not on what is alike."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deadlines import PROMTOOL_S
from tests.unit.chart.alert_cases import CASES, Case, Series
from tests.unit.chart.conftest import CHART

RULES = CHART / "monitoring" / "alerts.yaml"
SEVERITY = {
    rule["alert"]: rule["labels"]["severity"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is missing: scripts/bootstrap.sh installs it (package prometheus)"
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=PROMTOOL_S, check=False
    )


def expected(alert: str, case: Case) -> str:
    labels = {
        "alertname": alert,
        "alertstate": "firing",
        "severity": SEVERITY[alert],
        **case.labels,
    }
    matchers = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    return f"ALERTS{{{matchers}}}"


def evaluation(series: Series, alert: str, minute: int, labels: str | None) -> dict[str, Any]:
    looks = [(0, None), (minute, labels)]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}',
                "eval_time": f"{at}m",
                "exp_samples": [{"labels": wanted, "value": 1}] if wanted else [],
            }
            for at, wanted in looks
        ],
    }


def judged(folder: Path, rules: Path = RULES) -> subprocess.CompletedProcess[str]:
    """All cases in one run, which costs less than its start."""
    tests = []
    for alert, case in CASES.items():
        tests.append(evaluation(case.fires, alert, case.minute, expected(alert, case)))
        tests += [evaluation(series, alert, case.minute, None) for series in case.quiet]
    body = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(body))
    return promtool("test", "rules", str(file))


def test_the_file_is_one_that_prometheus_reads() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SEVERITY)} rules found" in done.stdout


def test_every_alert_has_a_case_with_a_quiet_twin() -> None:
    assert set(CASES) == set(SEVERITY)
    assert all(case.quiet for case in CASES.values())


def test_each_fires_when_it_should_and_not_on_its_twins(tmp_path: Path) -> None:
    done = judged(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("instead", "also_at_once"), [("vector(1)", True), ("vector(0) > 1", False)]
)
def test_an_alert_that_is_wrong_is_found(instead: str, also_at_once: bool, tmp_path: Path) -> None:
    """One that always fires, one that never does; without ``for`` the first does so at once."""
    body = yaml.safe_load(RULES.read_text())
    for group in body["groups"]:
        for rule in group["rules"]:
            rule["expr"], rule["for"] = instead, "0m"
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(body))
    done = judged(tmp_path, rules)
    told = done.stdout + done.stderr
    assert done.returncode != 0
    for alert in CASES:
        wrong = re.findall(rf'alertname=\\?"{alert}\\?".*?time: (\w+)', told)
        assert set(wrong) - {"0s"}, alert
        assert ("0s" in wrong) == also_at_once, alert
