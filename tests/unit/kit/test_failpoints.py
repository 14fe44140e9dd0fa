import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from novakube_kit.errors import InvalidSpec
from novakube_kit.failpoints import Trigger, failpoint, parse_trigger
from tests.deadlines import EVENT_S
from tests.waiting import wait_until_sync

PROGRAM = """
from novakube_kit.failpoints import failpoint
for step in ("a", "b", "a"):
    with failpoint(step):
        print(step, flush=True)
"""


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("trigger", "want_code", "want_done"),
    [
        ("a:before", -signal.SIGKILL, []),
        ("a:after", -signal.SIGKILL, ["a"]),
        ("b:before", -signal.SIGKILL, ["a"]),
        ("a:before:2", -signal.SIGKILL, ["a", "b"]),
        ("a:after:2", -signal.SIGKILL, ["a", "b", "a"]),
        ("c:before", 0, ["a", "b", "a"]),
        ("", 0, ["a", "b", "a"]),
    ],
)
def test_the_process_dies_there_and_nowhere_else(trigger: str, want_code: int, want_done: list):
    outcome = run({"NOVAKUBE_FAILPOINT": trigger})
    assert (outcome.returncode, outcome.stdout.split()) == (want_code, want_done)


def test_the_trace_names_every_step(tmp_path: Path):
    trace = tmp_path / "trace"
    run({"NOVAKUBE_FAILPOINT_TRACE": str(trace)})
    assert trace.read_text().split() == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("trigger", "want_done"), [("b:before", ["a"]), ("a:after:2", ["a", "b", "a"])]
)
def test_a_running_process_stands_still_until_the_trigger_is_gone(
    tmp_path: Path, trigger: str, want_done: list[str]
):
    (tmp_path / "steps.trigger").write_text(f"{trigger} 1")
    (tmp_path / "steps.trace").touch()
    (tmp_path / "steps.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "steps.py")],
        env={**os.environ, "NOVAKUBE_FAILPOINT_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    reached = tmp_path / "steps.reached"
    wait_until_sync(lambda: reached.exists() and reached.read_text(), "the step", EVENT_S)
    assert int(reached.read_text()) == process.pid
    assert process.poll() is None
    assert (tmp_path / "steps.trace").read_text().split()[: len(want_done)] == want_done
    (tmp_path / "steps.trigger").unlink()
    assert process.communicate(timeout=EVENT_S)[0].split() == ["a", "b", "a"]
    assert process.returncode == 0


@pytest.mark.parametrize("text", ["a", "a:later", ":before", "a:before:x", "a:before:-1"])
def test_a_malformed_trigger_is_refused(text: str):
    with pytest.raises(InvalidSpec, match="allowed is name:before"):
        parse_trigger(text)


def test_a_trigger_is_read():
    assert parse_trigger("kube.patch.guests.status:after:3") == Trigger(
        "kube.patch.guests.status", "after", 3
    )


def test_an_unarmed_failpoint_is_one_shared_object():
    assert failpoint("a") is failpoint("b")
