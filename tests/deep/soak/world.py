"""Instances that random operations and kills meet, and what must hold while and after.

The model is what users ordered last of each Instance; at rest the cloud must be exactly that:
API, history, libvirt, addresses and quota are compared.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.deadlines import READY_S
from tests.deep.crash.cloud import MAILBOX, NAMESPACE, NODE, CrashCloud, Json
from tests.deep.crash.matrix import INSTANCE, VICTIMS, nonce

SLOTS = 6
LIMIT = 4
"""The Quota's; so there are often more Instances than may run."""
REST_S = 4 * READY_S
"""From the last kill to rest: a Lease, backoffs, and up to ``SLOTS`` guests on two cores."""
POWERS = ("Running", "Stopped", "Paused", "Suspended")
WEIGHTS = {
    "create": 8, "delete": 4, "power": 8, "reboot": 3, "lose-guest": 1, "kill": 6,
}  # fmt: skip
"""How often each is drawn."""


@dataclass
class World:
    """What was ordered; ``random`` draws what comes next."""

    cloud: CrashCloud
    random: random.Random
    wishes: dict[str, str] = field(default_factory=dict)
    """Name -> power state of the Instances that are to be there."""
    specs: dict[str, str] = field(default_factory=dict)
    """Name -> ``spec.powerState``; only a changed one is an order."""
    rebooted: set[str] = field(default_factory=set)
    """Names whose reboot since the last rest may have come after the last power order."""
    uids: dict[str, str] = field(default_factory=dict)
    """UID -> name of each Instance that was ever made."""
    actions: list[str] = field(default_factory=list)
    """Names of all reboots."""
    log: list[str] = field(default_factory=list)
    """Every step, for the message of a failure."""

    def prepare(self) -> None:
        """The Quota of the namespace."""
        body = {"apiVersion": "novakube.dev/v1alpha1", "kind": "Quota",
                "metadata": {"name": "quota"}, "spec": {"hard": {"instances": LIMIT}}}  # fmt: skip
        self.cloud.call("POST", self.cloud.path("quotas", "", NAMESPACE), body)

    def step(self) -> None:
        """One operation or kill."""
        what = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        free = [f"s{n}" for n in range(SLOTS) if f"s{n}" not in self.wishes]
        name = self.random.choice(free if what == "create" and free else [*self.wishes, ""])
        if what == "kill":
            self._kill()
        elif what == "create" and free:
            self._create(name)
        elif name:
            self.log.append(f"{what} {name}")
            {"delete": self._delete, "power": self._power, "reboot": self._reboot,
             "lose-guest": self._lose_guest, "create": self._power}[what](name)  # fmt: skip

    def _kill(self) -> None:
        victim = self.random.choice(VICTIMS)
        self.log.append(f"kill {victim}")
        self.cloud.kill(victim)

    def _create(self, name: str) -> None:
        self.log.append(f"create {name}")
        # The one of this name that was deleted goes first.
        self.cloud.until_gone("instances", name, NAMESPACE)
        made = self.cloud.make("instances", name, INSTANCE, NAMESPACE)
        self.uids[made["metadata"]["uid"]] = name
        self.wishes[name] = "Running"
        self.specs[name] = ""
        self.rebooted.discard(name)

    def _delete(self, name: str) -> None:
        self.cloud.delete("instances", name, NAMESPACE)
        del self.wishes[name]

    def delete_all(self) -> None:
        """Orders the end of all that is left."""
        for name in list(self.wishes):
            self.log.append(f"delete {name}")
            self._delete(name)

    def _power(self, name: str) -> None:
        possible = POWERS[1:] if self.wishes[name] == "Running" else ("Running",)
        wanted = self.random.choice(possible)
        if wanted == self.specs[name]:
            return  # no order: a reboot has overruled it meanwhile
        body = {"spec": {"powerState": wanted}}
        self.cloud.patch("instances", name, body, NAMESPACE)
        self.wishes[name] = self.specs[name] = wanted

    def _reboot(self, name: str) -> None:
        action = f"reboot-{nonce()}"
        spec = {"instance": {"name": name}, "action": "Reboot", "parameters": {"type": "Hard"},
                "ttlSecondsAfterFinished": 3600}  # fmt: skip
        self.cloud.make("instanceactions", action, spec, NAMESPACE)
        self.actions.append(action)
        self.rebooted.add(name)

    def _lose_guest(self, name: str) -> None:
        """Somebody deletes the Guest object and strips its finalizer: no order to destroy."""
        for guest in self.cloud.list("guests", MAILBOX):
            if guest["spec"]["instance"]["name"] == name:
                self.cloud.delete("guests", guest["metadata"]["name"], MAILBOX)

    # -- what must hold --------------------------------------------------------------------

    def always(self) -> None:
        """What no moment may break."""
        guests = self.cloud.list("guests", MAILBOX)
        made = {guest["spec"]["instance"]["uid"] for guest in guests}
        assert len(made) <= LIMIT, f"quota over-run: {sorted(made)}\n{self.story()}"
        # Two incarnations of one Instance have one address.
        held = {
            (item["address"], guest["spec"]["instance"]["uid"])
            for guest in guests
            if guest["spec"].get("teardown") is None
            for nic in guest["spec"]["nics"]
            for item in nic.get("addresses", ())
        }
        assert len(held) == len({address for address, _ in held}), f"{held}\n{self.story()}"

    def rest(self) -> None:
        """Waits until all is as ordered, then compares everything with everything."""
        seen: list[str] = []

        def holds() -> bool:
            self.always()
            self._give_up_unsaveable()
            seen[:] = list(self.problems())
            return not seen

        try:
            self.cloud.until("all as it was ordered", holds, REST_S)
        except AssertionError as error:
            raise AssertionError(f"{seen}\n{self.story()}\n{error}") from None
        self._settle()

    def _give_up_unsaveable(self) -> None:
        """Deletes guests that QEMU cannot save any more.

        QEMU 7.2 refuses every further save ("bdrv_inactivate_all() failed") of some guests whose
        save was cut short by the end of libvirtd. The order is retried, and given up only after
        minutes; that it is said is all that can be asked here.
        """
        for guest in self.cloud.list("guests", MAILBOX):
            name, status = guest["spec"]["instance"]["name"], guest.get("status", {})
            if status.get("reason") != "SuspendFailed" or name not in self.wishes:
                continue
            log = self.cloud.layout.node_dir(NODE) / "log" / "qemu" / f"{status['domainName']}.log"
            if log.read_text().rstrip().endswith("bdrv_inactivate_all() failed (-1)"):
                self.log.append(f"delete {name}, which QEMU cannot save")
                self._delete(name)

    def _settle(self) -> None:
        """What reboots left is what is wished from now on."""
        for item in self.cloud.list("instances", NAMESPACE):
            if not _waits(item):
                self.wishes[item["metadata"]["name"]] = item["status"]["state"]
        self.rebooted.clear()

    def story(self) -> str:
        """The last steps."""
        return "steps: " + "; ".join(self.log[-60:])

    def problems(self) -> Iterator[str]:
        """What is not as ordered."""
        found = {item["metadata"]["name"]: item for item in self.cloud.list("instances", NAMESPACE)}
        if found.keys() != self.wishes.keys():
            yield f"instances {sorted(found)}, not {sorted(self.wishes)}"
            return
        there = {name for name, item in found.items() if not _waits(item)}
        if len(there) != min(LIMIT, len(self.wishes)):
            yield f"{sorted(there)} are within the quota of {LIMIT}, of {sorted(found)}"
        for name in there:
            yield from self._power_state(name, found[name].get("status", {}))
        uids = {found[name]["metadata"]["uid"] for name in there}
        guests = self.cloud.list("guests", MAILBOX)
        yield from _compare("guests", [g["spec"]["instance"]["uid"] for g in guests], uids)
        yield from self._objects(uids)
        yield from self._node(guests, [found[name]["status"]["state"] for name in there])
        launched = {
            item["metadata"]["uid"]
            for item in found.values()
            if item["status"].get("launchedAt") is not None
        }
        yield from self._history({item["metadata"]["uid"] for item in found.values()}, launched)

    def _power_state(self, name: str, status: Json) -> Iterator[str]:
        """As ordered last, and as the effective wish tells."""
        state, wish = status.get("state"), status.get("wantedPowerState")
        allowed = {self.wishes[name]}
        if name in self.rebooted:
            # Orders that meet a dead operator are taken up in its order, the spec first.
            allowed.add("Running")
        if any(c["reason"] == "ImpossibleTransition" for c in status.get("conditions", [])):
            # Of two orders in a row only the later was seen, and it cannot be from there.
            allowed.add(str(wish))
        if state not in allowed or state != wish:
            yield f"{name} is {state}, not {sorted(allowed)}; the effective wish is {wish}"

    def _objects(self, uids: set[str]) -> Iterator[str]:
        ports = self.cloud.list("ports", NAMESPACE)
        owners = [owner["uid"] for port in ports for owner in port["metadata"]["ownerReferences"]]
        yield from _compare("ports", owners, uids)
        addresses = self.cloud.list("ipaddresses", NAMESPACE)
        if len(addresses) != len(uids):
            yield f"{len(addresses)} addresses for {len(uids)} instances"
        quota = self.cloud.get("quotas", "quota", NAMESPACE) or {}
        status = quota.get("status", {})
        used = status.get("used", {})
        if (used.get("instances"), used.get("ports")) != (len(uids), len(uids)):
            yield f"quota: used {used}, not {len(uids)}"
        if status.get("pending"):
            yield f"quota: still pending {status['pending']}"
        for name in self.actions:
            state = (self.cloud.get("instanceactions", name, NAMESPACE) or {}).get("status", {})
            if state.get("state") not in ("Succeeded", "Failed"):
                yield f"action {name} is {state}"

    def _node(self, guests: list[Json], states: list[str]) -> Iterator[str]:
        node = self.cloud.node()
        names = sorted(guest["metadata"]["name"] for guest in guests)
        if node["guests"] != names:
            yield f"node: guests {node['guests']}, not {names}"
        if len(node["domains"]) != len(names):
            yield f"node: domains {node['domains']} for {names}"
        on = sum(state in ("Running", "Paused") for state in states)
        if node["qemu"] != on:
            yield f"node: {node['qemu']} QEMU processes, not {on}"
        taps = [link for link in node["links"] if link.startswith("nkt")]
        if len(taps) != len(names):
            yield f"node: taps {taps} for {names}"

    def _history(self, existing: set[str], launched: set[str]) -> Iterator[str]:
        """Deleted ones have their end, those that are there have none; a launch is told."""
        rows = self._rows("select uid, terminated_at from instances")
        for uid, name in self.uids.items():
            ended = rows.get(uid, "no row")
            if uid in launched and ended is not None:
                yield f"history of {name} {uid}: {ended}, but it is there"
            if uid not in existing and ended is None:
                yield f"history of {name} {uid}: not ended, but it is gone"

    def _rows(self, query: str) -> dict[str, Any]:
        path = self.cloud.layout.local / "operator" / "history.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return dict(database.execute(query).fetchall())


def _waits(instance: Json) -> bool:
    conditions = instance.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["reason"] == "QuotaExceeded" for c in conditions)


def _compare(what: str, found: list[str], wanted: set[str]) -> Iterator[str]:
    if sorted(found) != sorted(wanted):
        yield f"{what} of {sorted(found)}, not of {sorted(wanted)}"
