"""A simulated node for single Guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from novakube_agent.drivers.fake import FakeState
from tests.fakes.host import Agent, StatusSink


@pytest.fixture
async def agent(tmp_path: Path) -> Agent:
    return await Agent(FakeState("n1"), tmp_path, StatusSink(), {}).start()
