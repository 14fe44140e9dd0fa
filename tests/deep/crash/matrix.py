"""The crash matrix: steps of an undisturbed run x moment x victim, and what must hold after.

``trace.json`` holds the steps (``python -m tests.deep.crash.trace`` writes it); the lane
fails when an undisturbed run has steps that the file lacks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deadlines import EVENT_S, READY_S
from tests.deep.crash.cloud import MAILBOX, NAMESPACE, CrashCloud, Json

OPERATIONS = ("create", "stop", "start", "reboot", "delete")
PROGRAMS = {"novakube_operator": "operator", "novakube_agent": "agent"}
"""Program whose steps are traced -> its name as a victim."""
VICTIMS = ("operator", "agent", "libvirtd", "kube-apiserver")
MOMENTS = ("before", "after")
TRACE = Path(__file__).with_name("trace.json")
NAME = "victim"
SETTLE_S = 2 * READY_S
"""A killed leader's Lease (15 s), a starting API server, an agent's backoff, on a busy machine."""
BEFORE = {"create": None, "stop": "Running", "start": "Stopped", "reboot": "Running",
          "delete": "Running"}  # fmt: skip
AFTER = {"create": "Running", "stop": "Stopped", "start": "Running", "reboot": "Running",
         "delete": None}  # fmt: skip
INSTANCE: Json = {
    "flavor": {"name": "crash"},
    "image": {"name": "crash"},
    "networks": [{"network": {"name": "crash"}}],
}
Trace = dict[str, dict[str, dict[str, int]]]
"""operation -> program -> step -> how often."""


@dataclass(frozen=True, slots=True)
class Case:
    """Kill ``victim`` when ``program`` is at the nth ``step`` of ``operation``."""

    operation: str
    program: str
    step: str
    nth: int
    moment: str
    victim: str

    @property
    def id(self) -> str:
        """Stable across runs."""
        return (
            f"{self.operation}-{PROGRAMS[self.program]}-{self.step}.{self.nth}-{self.moment}"
            f"-kill.{self.victim}"
        )


def read_trace() -> Trace:
    """The recorded trace."""
    trace: Trace = json.loads(TRACE.read_text())
    return trace


def cases(trace: Trace) -> Iterator[Case]:
    """Every case, the cheapest order first: operations follow one another on one Instance."""
    for program in PROGRAMS:
        steps = {op: list(_steps(trace, op, program)) for op in OPERATIONS}
        for round_ in range(max(len(found) for found in steps.values())):
            for operation in OPERATIONS:
                if round_ < len(steps[operation]):
                    step, nth = steps[operation][round_]
                    for moment in MOMENTS:
                        for victim in VICTIMS:
                            yield Case(operation, program, step, nth, moment, victim)


def _steps(trace: Trace, operation: str, program: str) -> Iterator[tuple[str, int]]:
    for step, count in sorted(trace[operation][program].items()):
        for nth in range(1, count + 1):
            yield step, nth


def wait_state(cloud: CrashCloud, state: str | None, deadline_s: float) -> None:
    """The Instance in a state; None: gone."""

    def reached() -> bool:
        found = cloud.get("instances", NAME, NAMESPACE)
        if found is None or state is None:
            return found is None and state is None
        return bool(found["status"]["state"] == state)

    cloud.until(f"instance {state or 'gone'}", reached, deadline_s)


def prepare(cloud: CrashCloud, operation: str) -> None:
    """The Instance as the operation needs it, the control plane and the node at work."""
    cloud.until_leads()
    wanted = BEFORE[operation]
    found = cloud.get("instances", NAME, NAMESPACE)
    if wanted is None and found is not None:
        cloud.delete("instances", NAME, NAMESPACE)
    elif wanted is not None and found is None:
        cloud.make("instances", NAME, INSTANCE, NAMESPACE)
        wait_state(cloud, "Running", SETTLE_S)
    if wanted is not None:
        power(cloud, wanted)
    wait_state(cloud, wanted, SETTLE_S)


def power(cloud: CrashCloud, wanted: str) -> None:
    """The effective wish by spec."""
    body = {"spec": {"powerState": wanted}}
    cloud.patch("instances", NAME, body, NAMESPACE)


def act(cloud: CrashCloud, operation: str, nonce: str) -> None:
    """Begins the operation."""
    match operation:
        case "create":
            cloud.make("instances", NAME, INSTANCE, NAMESPACE)
        case "stop" | "start":
            power(cloud, "Stopped" if operation == "stop" else "Running")
        case "reboot":
            spec = {"instance": {"name": NAME}, "action": "Reboot", "parameters": {"type": "Hard"},
                    "ttlSecondsAfterFinished": 600}  # fmt: skip
            cloud.make("instanceactions", f"reboot-{nonce}", spec, NAMESPACE)
        case _:
            cloud.delete("instances", NAME, NAMESPACE)


def settle(cloud: CrashCloud, operation: str, nonce: str) -> None:
    """Waits for what the operation must end in, whatever was killed."""
    if operation == "reboot":
        wait_action(cloud, f"reboot-{nonce}")
    wait_state(cloud, AFTER[operation], SETTLE_S)


def wait_action(cloud: CrashCloud, name: str) -> None:
    """The action ended: done, or interrupted (never repeated)."""

    def ended() -> str | None:
        status = (cloud.get("instanceactions", name, NAMESPACE) or {}).get("status", {})
        state = status.get("state")
        if state not in ("Succeeded", "Failed"):
            return None
        return f"{state} {status.get('reason', '')}".strip()

    outcome = cloud.until(f"action {name} ended", ended, SETTLE_S)
    assert outcome in ("Succeeded", "Succeeded Succeeded", "Failed Interrupted"), outcome


def check(cloud: CrashCloud, operation: str, clean: Json) -> None:
    """Nothing twice, nothing lost, nothing left.

    Args:
        cloud: settled.
        operation: the one that ended.
        clean: the node without any guest.
    """
    gone = AFTER[operation] is None
    seen: list[str] = []

    def holds() -> bool:
        seen[:] = list(problems(cloud, gone=gone, clean=clean))
        return not seen

    try:
        cloud.until(f"{operation} leaves all in order", holds, EVENT_S + READY_S)
    except AssertionError as error:
        raise AssertionError(f"{seen}\n{error}") from None


def problems(cloud: CrashCloud, *, gone: bool, clean: Json) -> Iterator[str]:
    """What is not as it must be at rest."""
    guests = cloud.list("guests", MAILBOX)
    wanted = 0 if gone else 1
    for plural, found in (
        ("guests", guests),
        ("ports", cloud.list("ports", NAMESPACE)),
        ("ipaddresses", cloud.list("ipaddresses", NAMESPACE)),
    ):
        if len(found) != wanted:
            yield f"{len(found)} {plural}, not {wanted}: {[o['metadata']['name'] for o in found]}"
    node = cloud.node()
    if gone:
        yield from (
            f"node: {key} {value}, not {clean[key]}"
            for key, value in node.items()
            if value != clean[key]
        )
        return
    names = [guest["metadata"]["name"] for guest in guests]
    if node["guests"] != names:
        yield f"node: guests {node['guests']}, not {names}"
    if len(node["domains"]) != 1:
        yield f"node: domains {node['domains']}"
    running = (cloud.get("instances", NAME, NAMESPACE) or {})["status"]["state"] == "Running"
    if node["qemu"] != int(running):
        yield f"node: {node['qemu']} QEMU processes"
    taps = [name for name in node["links"] if name.startswith("nkt")]
    if len(taps) != 1:
        yield f"node: taps {taps}"


def nonce() -> str:
    """Different at each call."""
    return f"{time.time_ns():x}"


def undisturbed(cloud: CrashCloud, operation: str) -> None:
    """One operation that nobody disturbs."""
    number = nonce()
    prepare(cloud, operation)
    act(cloud, operation, number)
    settle(cloud, operation, number)


def must_survive(cloud: CrashCloud, clean: Json, case: Case) -> None:
    """Kills the victim there; all must be in order afterwards."""
    prepare(cloud, case.operation)
    number = nonce()
    cloud.hold(case.program, f"{case.step}:{case.moment}:{case.nth}", number)
    try:
        act(cloud, case.operation, number)
        reached = cloud.reached(case.program)
        cloud.until(f"{case.program} at {case.step}", reached.exists, READY_S)
        old = cloud.kill(case.victim)
    finally:
        cloud.let_go(case.program)
    cloud.until_runs_again(case.victim, old)
    settle(cloud, case.operation, number)
    check(cloud, case.operation, clean)
