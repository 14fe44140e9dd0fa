"""The README's last block, and that no line of the README is left out of the tests."""

from __future__ import annotations

import re

import pytest

from novakube_local import members
from tests.deadlines import MACHINE_S
from tests.e2e.cloud import ROOT, LocalCloud, condition, make
from tests.readme import END, FIRST, USE, block

MADE_ELSEWHERE = ("make bench QUICK=1",)
"""Lines that tests of their own run."""


@pytest.mark.timeout(900)
def test_three_nodes_and_the_end(cloud: LocalCloud) -> None:
    hello = (cloud.get("instances", "hello", "demo") or {})["status"]
    lines = [line for line in block(END) if line not in MADE_ELSEWHERE]
    assert lines == ["make up NODES=3", "make down"]
    make(*lines[0].split()[1:])
    for name in ("n1", "n2", "n3"):
        found = cloud.get("hypervisors", name) or {}
        assert condition(found, "Ready")["status"] == "True"
    spec = {
        "flavor": {"name": "e2e"}, "image": {"name": "hello"},
        "networks": [{"network": {"name": "third"}}], "forcedHost": "n3",
    }  # fmt: skip
    cloud.make("Network", "third", {}, "demo")
    subnet = {"network": {"name": "third"}, "cidr": "10.66.0.0/24"}
    cloud.make("Subnet", "third", subnet, "demo")
    cloud.make("Instance", "third", spec, "demo")
    found = cloud.until("instances", "third", "demo", MACHINE_S, state="Running")
    assert found["status"]["node"] == "n3"
    after = (cloud.get("instances", "hello", "demo") or {})["status"]
    assert (after["guest"], after["state"]) == (hello["guest"], "Running")
    running = cloud.layout.load().members
    assert set(running) == {"cloud", "n1", "n2", "n3"}
    make(*lines[1].split()[1:])
    assert [one for one, (pid, began) in running.items() if members.start_time(pid) == began] == []
    assert members.marked(cloud.layout) == []
    assert not cloud.layout.services("cloud").exists()


def test_every_line_of_the_readme_is_run() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    firsts = [text.splitlines()[0] for text in blocks]
    assert firsts == [FIRST, USE, END]
