"""The pipeline as settings describe it, and what a site's installed package adds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from novakube_kit.errors import InvalidSpec
from novakube_operator.core.scheduling.choice import choose
from novakube_operator.core.scheduling.registry import DEFAULT_FILTERS, DEFAULT_WEIGHERS
from novakube_operator.scheduler import load_pipeline
from novakube_operator.settings import read_settings
from tests.unit.operator_core.scheduling_samples import SMALL, a_host

SITE = """
from novakube_operator.core.scheduling.pipeline import Refusal, Weigher


def odd_only(options):
    return lambda request: lambda host: Refusal("even") if int(host.name[1:]) % 2 == 0 else None


def last_name(options, multiplier):
    return Weigher("last_name", lambda hosts, request: [int(h.name[1:]) for h in hosts],
                   1.0 if multiplier is None else multiplier)
"""
ENTRIES = """
[novakube.scheduler.filters]
odd-only = novakube_site_rules:odd_only
broken = novakube_site_rules:no_such_thing
[novakube.scheduler.weighers]
last-name = novakube_site_rules:last_name
"""


def scheduler(**env: str):
    return read_settings({f"NOVAKUBE_SCHEDULER_{key}": text for key, text in env.items()}).scheduler


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package as pip installs it."""
    (tmp_path / "novakube_site_rules.py").write_text(SITE)
    metadata = tmp_path / "novakube_site_rules-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: novakube-site-rules\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("novakube_site_rules", None)


def test_defaults() -> None:
    settings = scheduler()
    assert settings.filters == DEFAULT_FILTERS
    assert settings.weighers == DEFAULT_WEIGHERS
    assert settings.options.max_io_ops_per_host == 8
    assert load_pipeline(settings).filter_names == DEFAULT_FILTERS


def test_names_order_and_multipliers() -> None:
    settings = scheduler(
        FILTERS="instances, enabled", WEIGHERS="cpu=2.5,ram", MAX_INSTANCES_PER_HOST="3",
        ISOLATED_HOSTS="n1,n2", RESTRICT_ISOLATED_HOSTS="false",
    )  # fmt: skip
    use = load_pipeline(settings)
    assert use.filter_names[:2] == ("instances", "enabled")
    assert [(one.name, one.multiplier) for one in use.weighers] == [("cpu", 2.5), ("ram", 1.0)]
    assert choose([a_host(instances=3)], SMALL, use).message == "1 node: 1 with 3 instances already"
    assert settings.options.isolated_hosts == {"n1", "n2"}
    assert not settings.options.restrict_isolated_hosts_to_isolated_images


@pytest.mark.parametrize(
    ("env", "has"),
    [
        ({"WEIGHERS": "ram=much"}, "NOVAKUBE_SCHEDULER_WEIGHERS is 'ram=much'"),
        ({"RESTRICT_ISOLATED_HOSTS": "yes"}, "allowed: true or false"),
        ({"MAX_IO_OPS_PER_HOST": "0"}, "allowed: a number from 1"),
        ({"FILTERS": "nonsense"}, "no scheduler filter 'nonsense'; there are: "),
    ],
)
def test_what_cannot_be_read_is_told(env: dict[str, str], has: str) -> None:
    with pytest.raises(InvalidSpec, match=has):
        load_pipeline(scheduler(**env))


@pytest.mark.usefixtures("site")
def test_a_sites_filter_and_weigher_take_part_once_they_are_named() -> None:
    hosts = [a_host(f"n{number}") for number in range(1, 6)]
    named = scheduler(FILTERS="odd-only", WEIGHERS="last-name")
    assert choose(hosts, SMALL, load_pipeline(named)).node == "n5"
    packing = scheduler(FILTERS="odd-only", WEIGHERS="last-name=-1")
    assert choose(hosts[1:], SMALL, load_pipeline(packing)).node == "n3"
    assert choose(hosts, SMALL, load_pipeline(scheduler())).node == "n1"


@pytest.mark.usefixtures("site")
def test_a_sites_package_that_is_broken_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"novakube\.scheduler\.filters broken = "):
        load_pipeline(scheduler(FILTERS="broken"))
