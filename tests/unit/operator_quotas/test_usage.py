"""What is counted incrementally equals a count of what there is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.v1alpha1.kinds import KINDS
from novakube_crds.v1alpha1.quota import QuotaLimits
from novakube_kit.objects import Object, parse
from novakube_operator.core.quota import DEFAULTS
from novakube_operator.core.quota_limits import per_instance
from novakube_operator.core.quota_usage import Usage

BY_PLURAL = {kind.plural: kind for kind in KINDS}
ANY: dict[str, Any] = {
    "guests": {"incarnation": 1, "hypervisor": "n1", "hostname": "h"},
    "ports": {"network": {"name": "net"}},
    "networks": {},
    "servergroups": {"policy": "affinity", "userID": "u1"},
    "securitygroups": {},
    "keypairs": {"userID": "u1", "publicKey": "k"},
}


def uid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def made(plural: str, number: int, spec: dict[str, Any] | None = None, *, second: int = 0,
         namespace: str = "a", status: dict[str, Any] | None = None, **meta: Any,
         ) -> Object[Any, Any]:  # fmt: skip
    metadata = {
        "name": f"o{number}", "uid": uid(number), "resourceVersion": str(number),
        "creationTimestamp": f"2030-01-01T00:00:{second:02d}Z", **meta,
    }  # fmt: skip
    if BY_PLURAL[plural].namespaced:
        metadata["namespace"] = namespace
    body = {"metadata": metadata, "spec": {**ANY[plural], **(spec or {})}, "status": status or {}}
    return parse(BY_PLURAL[plural], body)


def guest(number: int, instance: int, cores: int = 1, memory: int = 64, user: str | None = None
          ) -> Object[Any, Any]:  # fmt: skip
    identity = {"namespace": "a", "name": f"i{instance}", "uid": uid(instance),
                "id": uid(instance), "userID": user}  # fmt: skip
    spec = {"instance": identity, "vcpus": cores, "memoryMiB": memory}
    return made("guests", number, spec, namespace="novakube-node-n1")


def test_two_guests_of_an_instance_are_one_instance() -> None:
    usage, small, large = Usage(), guest(1, 9, 1, 64, "u"), guest(2, 9, 4, 32, "u")
    for item in (small, large):
        usage.changed("guests", None, item)
    used = usage.used("a")
    assert (used.instances, used.cores, used.memory_mib) == (1, 4, 64)
    assert usage.used_by_user("a")["u"].cores == 4
    usage.changed("guests", large, None)
    assert usage.used("a").cores == 1
    usage.changed("guests", small, None)
    assert usage.used("a").instances == 0
    assert usage.used_by_user("a") == {}
    assert usage.charged(uid(9)) is None


def test_older_ones_are_ahead() -> None:
    usage = Usage()
    old, new = made("networks", 2, second=1), made("networks", 1, second=2)
    for item in (new, old):
        usage.changed("networks", None, item)
    assert (usage.ahead(old), usage.ahead(new)) == (0, 1)
    usage.changed("networks", old, None)
    assert usage.ahead(new) == 0


def test_what_was_accepted_is_ahead_of_what_was_not_yet() -> None:
    condition = {"type": "Ready", "status": "True", "reason": "Accepted",
                 "lastTransitionTime": "2030-01-01T00:00:00Z"}  # fmt: skip
    usage, first, second = Usage(), made("networks", 2), made("networks", 1)
    for item in (first, second):
        usage.changed("networks", None, item)
    assert usage.ahead(first) == 1
    accepted = made("networks", 2, status={"conditions": [condition]})
    usage.changed("networks", first, accepted)
    assert (usage.ahead(accepted), usage.ahead(second)) == (0, 1)


def test_ports_of_an_instance_are_ahead_and_charged_to_it() -> None:
    owner = [{"apiVersion": "v", "kind": "Instance", "name": "i", "uid": uid(9)}]
    usage, mine = Usage(), made("ports", 1, second=1)
    named = made("ports", 2, second=5, ownerReferences=owner, name="00000000-0")
    forged = made("ports", 3, second=6, ownerReferences=owner, name="other")
    for item in (mine, named, forged):
        usage.changed("ports", None, item)
    assert [usage.ahead(item) for item in (named, mine, forged)] == [0, 1, 2]
    assert usage.charged(uid(9)) == {"ports": 1}
    assert usage.used("a").ports == 3
    usage.changed("ports", named, None)
    assert usage.charged(uid(9)) is None


def test_rules_are_counted_with_the_groups_before() -> None:
    usage, rule = Usage(), {"direction": "ingress"}
    one = made("securitygroups", 1, {"rules": [rule, rule]})
    two = made("securitygroups", 2, {"rules": [rule]})
    for item in (one, two):
        usage.changed("securitygroups", None, item)
    assert usage.rules_ahead(two) == 2
    assert usage.used("a").security_group_rules == 3
    usage.changed("securitygroups", one, made("securitygroups", 1))
    assert usage.rules_ahead(two) == 0


def test_key_pairs_are_the_users() -> None:
    usage, mine, other = Usage(), made("keypairs", 1), made("keypairs", 2, {"userID": "u2"})
    for item in (mine, other):
        usage.changed("keypairs", None, item)
    assert usage.ahead(other) == 0
    assert usage.count("keypairs", "u1") == 1
    assert usage.used("a").key_pairs == 0


@given(st.lists(st.tuples(
    st.sampled_from(["guests", "ports", "networks", "servergroups"]),
    st.integers(1, 6), st.integers(0, 3), st.booleans(),
), max_size=40))  # fmt: skip
def test_any_history_of_changes(steps: list[tuple[str, int, int, bool]]) -> None:
    usage, there = Usage(), {}
    for plural, number, second, come in steps:
        key, old = (plural, number), there.get((plural, number))
        if not come:
            new = None
        elif plural == "guests":
            new = old or guest(number, number % 3, 1 + second)
        else:
            new = old or made(plural, number, second=second)
        if old is None and new is None:
            continue
        usage.changed(plural, old, new)
        there.pop(key, None)
        if new is not None:
            there[key] = new
    guests = [item for (plural, _), item in there.items() if plural == "guests"]
    cores: dict[str, int] = {}
    for item in guests:
        one = item.spec.instance.uid
        cores[one] = max(cores.get(one, 0), item.spec.vcpus)
    used = usage.used("a")
    assert (used.instances, used.cores) == (len(cores), sum(cores.values()))
    for plural, count in (("ports", used.ports), ("networks", used.networks),
                          ("servergroups", used.server_groups)):  # fmt: skip
        items = [item for (kind, _), item in there.items() if kind == plural]
        assert count == len(items)
        ordered = sorted(items, key=lambda item: (item.created_at, item.uid))
        assert [usage.ahead(item) for item in ordered] == list(range(len(items)))


def test_limits_of_one_instance_are_named() -> None:
    spec = {"flavor": {"name": "f"}, "image": {"name": "i"}, "metadata": {"a": "1", "b": "2"},
            "files": [{"path": "/a", "content": "YWJj"}],
            "schedulerHints": {"group": ["g"]}}  # fmt: skip
    body = {"metadata": {"name": "i", "namespace": "a", "uid": uid(1), "resourceVersion": "1",
                         "creationTimestamp": "2030-01-01T00:00:00Z"}, "spec": spec}  # fmt: skip
    obj = parse(BY_PLURAL["instances"], body)
    assert per_instance(obj, DEFAULTS, 9) is None
    tight = QuotaLimits(metadata_items=1, injected_files=-1, injected_file_content_bytes=2,
                        injected_file_path_bytes=2, server_group_members=3)  # fmt: skip
    assert per_instance(obj, tight, 3) == (
        "quota exceeded: need 2 metadata items, the limit is 1; need 3 bytes of a file, the limit "
        "is 2; need 1 members of the server group, used 3 of 3 per object"
    )
