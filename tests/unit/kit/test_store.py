import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.base import ApiModel, Status
from novakube_crds.kind import Kind
from novakube_kit.errors import ApiUnavailable, InvalidSpec
from novakube_kit.kube import Json, WatchEvent
from novakube_kit.objects import parse
from novakube_kit.store import Store


class ThingSpec(ApiModel):
    size: int
    color: str = "red"


THING = Kind("Thing", "things", ThingSpec, Status, "A thing.")


def a_thing(name: str = "a", version: int = 1, *, uid: str = "u1", **more: Any) -> Json:
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2030-01-01T12:00:00Z",
        **more.pop("metadata", {}),
    }
    return {"metadata": metadata, "spec": {"size": 1, **more}}


def a_store(**options: Any) -> Store[ThingSpec, Status]:
    return Store(THING, indices={"color": lambda thing: [thing.spec.color]}, **options)


def test_objects_are_typed_and_drop_what_is_large():
    thing = parse(
        THING,
        a_thing(
            metadata={
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "k": "v"},
                "ownerReferences": [{"uid": "o"}],
                "deletionTimestamp": "2030-01-01T13:00:00Z",
                "managedFields": [{}],
            }
        ),
    )
    assert thing.key == ("ns", "a")
    assert (thing.spec.size, thing.status.observed_generation) == (1, -1)
    assert dict(thing.annotations) == {"k": "v"}
    assert thing.owner_uids == ("o",)
    assert thing.deleting
    assert thing.created_at.isoformat() == "2030-01-01T12:00:00+00:00"


def test_an_object_that_does_not_fit_names_the_field():
    with pytest.raises(InvalidSpec, match=r"Thing ns/a: size: Input should be a valid integer"):
        parse(THING, a_thing(size="many"))


def test_the_newer_version_wins_whichever_side_brings_it():
    store = a_store()
    store.observe(a_thing(version=9, color="blue"))
    store.handle(WatchEvent("MODIFIED", a_thing(version=8, color="green")))
    assert store.get("ns", "a").spec.color == "blue"
    store.handle(WatchEvent("MODIFIED", a_thing(version=10, color="green")))
    assert store.get("ns", "a").spec.color == "green"
    assert [thing.name for thing in store.by("color", "green")] == ["a"]
    assert store.by("color", "blue") == ()


def test_a_late_answer_does_not_bring_back_what_was_deleted():
    store = a_store()
    store.observe(a_thing(version=1))
    store.handle(WatchEvent("DELETED", a_thing(version=3)))
    assert store.observe(a_thing(version=2)) is None
    assert len(store) == 0
    store.observe(a_thing(version=4, uid="u2"))
    assert store.get("ns", "a").uid == "u2"


def test_a_deleted_event_of_an_older_namesake_leaves_the_new_one():
    store = a_store()
    store.observe(a_thing(version=5, uid="u2"))
    store.handle(WatchEvent("DELETED", a_thing(version=4, uid="u1")))
    assert store.by_uid("u2") is not None


def test_removing_the_last_finalizer_of_a_deleted_object_ends_it():
    store = a_store()
    store.observe(a_thing(version=1, metadata={"finalizers": ["f"]}))
    gone = a_thing(version=2, metadata={"deletionTimestamp": "2030-01-01T13:00:00Z"})
    assert store.observe(gone) is None
    assert store.get("ns", "a") is None


def test_own_writes_that_no_watch_told_are_dropped_by_a_later_list_only():
    store = a_store()
    store.observe(a_thing("old", 5, uid="u1"))
    store.observe(a_thing("new", 9, uid="u2"))
    store.retain(frozenset(), "7")
    assert [thing.name for thing in store] == ["new"]


def test_unreadable_objects_are_shown_and_heal():
    store = a_store()
    assert store.observe(a_thing(version=1, size="many")) is None
    assert "size" in store.unreadable["ns", "a"]
    store.observe(a_thing(version=2))
    assert store.unreadable == {}


def test_changes_are_told_with_old_and_new():
    seen: list[tuple[Any, Any]] = []
    store = a_store(changed=lambda *pair: seen.append(pair))
    store.observe(a_thing(version=1))
    store.observe(a_thing(version=2))
    store.forget("u1")
    shape = [tuple(one and one.resource_version for one in pair) for pair in seen]
    assert shape == [(None, "1"), ("1", "2"), ("2", None)]


@pytest.mark.looptime
async def test_waiting_for_a_version():
    store = a_store()
    asyncio.get_running_loop().call_later(1, store.observe, a_thing(version=3))
    asyncio.get_running_loop().call_later(2, store.observe, a_thing(version=5))
    await store.wait_for("ns", "a", "4", deadline_s=5)
    assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.01)
    with pytest.raises(ApiUnavailable, match="did not reach version 9"):
        await store.wait_for("ns", "a", "9", deadline_s=5)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["red", "blue", None]))),
    st.integers(),
)
def test_any_delivery_order_of_echoes_ends_in_the_same_store(writes: list, seed: int):
    """Own answers arrive in any order beside the watch's order; the end is the watch's."""
    events = []
    for version, (name, color) in enumerate(writes, start=1):
        kind = "DELETED" if color is None else "MODIFIED"
        events.append((kind, a_thing(name, version, uid=name + "1", color=color or "red")))
    deleted = {obj["metadata"]["uid"] for kind, obj in events if kind == "DELETED"}
    # A uid never comes back after its deletion.
    events = [
        event
        for position, event in enumerate(events)
        if not any(
            earlier[0] == "DELETED" and earlier[1]["metadata"]["uid"] == event[1]["metadata"]["uid"]
            for earlier in events[:position]
        )
    ]
    store, echoes = a_store(), [obj for kind, obj in events if kind == "MODIFIED"]
    random.Random(seed).shuffle(echoes)
    for kind, obj in events:
        if echoes:
            store.observe(echoes.pop())
        store.handle(WatchEvent(kind, obj))
    for obj in echoes:
        store.observe(obj)
    last = {obj["metadata"]["name"]: obj for kind, obj in events if kind == "MODIFIED"}
    want = {n: o["spec"]["color"] for n, o in last.items() if o["metadata"]["uid"] not in deleted}
    assert {thing.name: thing.spec.color for thing in store} == want
    for color in ("red", "blue"):
        assert {t.name for t in store.by("color", color)} == {n for n in want if want[n] == color}
