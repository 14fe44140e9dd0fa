"""After everything else of the lane: make down."""

from __future__ import annotations

import pytest

from tests.deadlines import CLUSTER_S
from tests.deep.kubelet.conftest import Record
from tests.deep.kubelet.release import Release
from tests.e2e.cloud import make
from tests.machine_state.record import differences, record

# Views of the machine that this lane alone changes, also while others work on it.
OWN_VIEWS = ("mounts", "iptables", "nft", "ipset", "cgroups", "sysctls", "files")
pytestmark = pytest.mark.timeout(CLUSTER_S)


def test_make_down_leaves_nothing(release: Release, before: Record) -> None:
    make("down")
    after = record()
    seen = {view: before[view] for view in OWN_VIEWS}
    assert differences(seen, after) == []
    assert not [link for link in after["links"] if release.layout.link in link]
    assert not [line for line in after["processes"] if str(release.layout.local) in line]
