"""Which Instance takes a domain over, and what of the machine it keeps."""

from __future__ import annotations

from typing import Any

import pytest

from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.hypervisorreport import OrphanDomain, OrphanNic
from novakube_crds.v1alpha1.image import IMAGE
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_kit.errors import InvalidSpec
from novakube_kit.objects import Object, parse
from novakube_operator.core.adoption import as_plumbed, lost_addresses
from novakube_operator.core.takeover import (
    flavor_for,
    image_for,
    instance_for,
    networks_for,
)
from tests.fakes.host import a_nic, a_spec, uid

URL = "http://192.0.2.10/a.qcow2"
NIC = OrphanNic(
    port_uid=uid(7), mac="fa:16:3e:00:00:01", network_namespace="demo", network_name="net",
    network_uid=uid(900), addresses=["10.0.0.5", "fd00::5"],
)  # fmt: skip
DOMAIN = OrphanDomain(
    instance_id=uid(1), guest_uid=uid(2), incarnation=3, instance_namespace="demo",
    instance_name="web", instance_uid=uid(3), state="Running", vcpus=1, memory_mib=128,
    disk_bytes=1 << 30, image_url=URL, image_sha256="a" * 64, nics_known=True, nics=[NIC],
)  # fmt: skip


def an_object(kind: Any, name: str, spec: dict[str, Any], namespace: str = "", **status: Any):
    metadata = {"name": name, "namespace": namespace, "uid": uid(9), "resourceVersion": "1",
                "creationTimestamp": "2030-01-01T00:00:00Z"}  # fmt: skip
    return parse(kind, {"metadata": metadata, "spec": spec, "status": status})


def flavor(name: str, vcpus: int = 1, root: int = 1, **more: Any) -> Object[Any, Any]:
    return an_object(FLAVOR, name, {"vcpus": vcpus, "memoryMiB": 128, "rootGiB": root, **more})


def image(name: str, namespace: str = "demo", url: str = URL, sha256: str | None = None,
          visibility: str = "private") -> Object[Any, Any]:  # fmt: skip
    spec = {"diskFormat": "qcow2", "source": {"url": url}, "visibility": visibility}
    return an_object(IMAGE, name, spec, namespace, **({"sha256": sha256} if sha256 else {}))


FLAVORS = {
    "the one of its sizes": ([flavor("big", 2), flavor("tiny")], None, "tiny"),
    "the named one of several": ([flavor("tiny"), flavor("small")], "small", "small"),
    "another project's is not seen": (
        [flavor("tiny"), flavor("theirs", public=False, projects=["q"])], None, "tiny",
    ),
    "one of the project": ([flavor("ours", public=False, projects=["p"])], None, "ours"),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAVORS)
def test_the_flavor(case: str) -> None:
    flavors, wanted, found = FLAVORS[case]
    assert flavor_for(DOMAIN, flavors, wanted, "p") == found


@pytest.mark.parametrize(
    ("flavors", "wanted", "has"),
    [
        ([flavor("big", 2)], None, "no flavor of 1 vCPUs, 128 MiB memory, 1 GiB disks: make one"),
        ([flavor("tiny", root=2)], None, "there is no flavor"),
        ([flavor("b"), flavor("a")], None, "a, b; choose by --flavor"),
        ([flavor("big", 2)], "big", "flavor big is not that of the domain: 1 vCPUs"),
        ([], "none", "flavor none is not that of the domain"),
    ],
)
def test_no_flavor(flavors: list[Any], wanted: str | None, has: str) -> None:
    with pytest.raises(InvalidSpec, match=has):
        flavor_for(DOMAIN, flavors, wanted, None)


def test_disks_that_are_not_known_decide_nothing() -> None:
    domain = DOMAIN.model_copy(update={"disk_bytes": 0})
    assert flavor_for(domain, [flavor("tiny", root=9)], None, None) == "tiny"


IMAGES = {
    "by digest, whatever its URL": ([image("i", url="http://x/y", sha256="a" * 64)], None, "i"),
    "by URL before its digest is known": ([image("i"), image("j", url="http://x/y")], None, "i"),
    "its own before a public one": ([image("p", "lib", visibility="public"), image("i")], None,
                                    "i"),
    "the named one": ([image("i"), image("j")], "j", "j"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMAGES)
def test_the_image(case: str) -> None:
    images, wanted, found = IMAGES[case]
    assert image_for(DOMAIN, images, "demo", wanted) == {"name": found}


def test_an_image_of_another_namespace() -> None:
    images = [image("p", "lib", visibility="public"), image("secret", "lib")]
    assert image_for(DOMAIN, images, "demo", None) == {"namespace": "lib", "name": "p"}
    with pytest.raises(InvalidSpec, match="namespace demo sees no image lib/secret"):
        image_for(DOMAIN, images, "demo", "lib/secret")


@pytest.mark.parametrize(
    ("images", "wanted", "has"),
    [
        ([image("i", sha256="b" * 64)], None, f"no image {URL}: make one"),
        ([image("i", sha256="b" * 64)], "i", "image i is not that of the domain"),
        ([image("i"), image("j")], None, "choose by --image"),
    ],
)
def test_no_image(images: list[Any], wanted: str | None, has: str) -> None:
    with pytest.raises(InvalidSpec, match=has):
        image_for(DOMAIN, images, "demo", wanted)


def test_what_the_node_does_not_remember_has_to_be_named() -> None:
    known = {"image_url": "", "image_sha256": "", "nics_known": False, "nics": []}
    domain = DOMAIN.model_copy(update=known)
    with pytest.raises(InvalidSpec, match="give --image"):
        image_for(domain, [image("i")], "demo", None)
    assert image_for(domain, [image("i")], "demo", "i") == {"name": "i"}
    with pytest.raises(InvalidSpec, match="give --network"):
        networks_for(domain, "demo", [])
    assert networks_for(domain, "demo", ["none"]) == []
    assert networks_for(domain, "demo", ["a", "lib/b"]) == [("demo", "a"), ("lib", "b")]
    with pytest.raises(InvalidSpec, match="leave out --network"):
        networks_for(DOMAIN, "demo", ["a"])


@pytest.mark.parametrize(
    ("state", "wish"),
    [("Running", None), ("Paused", "Paused"), ("Saved", "Suspended"), ("Shutoff", "Stopped"),
     ("Crashed", "Stopped")],
)  # fmt: skip
def test_taking_over_changes_no_power_state(state: str, wish: str | None) -> None:
    domain = DOMAIN.model_copy(update={"state": state})
    networks = [("demo", "net"), ("lib", "shared")]
    body = instance_for(domain, "again", "tiny", {"name": "i"}, networks)
    assert body["spec"].get("powerState") == wish
    assert body["spec"]["networks"] == [
        {"network": {"name": "net"}}, {"network": {"namespace": "lib", "name": "shared"}},
    ]  # fmt: skip
    made = an_object(INSTANCE, "again", body["spec"], body["metadata"]["namespace"])
    assert (made.key, made.spec.id) == (("demo", "again"), DOMAIN.instance_id)


def test_a_nic_keeps_its_tap_by_its_mac() -> None:
    spec = a_spec(nics=[a_nic(1), a_nic(2)])
    kept = as_plumbed(spec, [NIC])
    assert [nic.port_uid for nic in kept.nics] == [NIC.port_uid, a_nic(2).port_uid]
    assert kept.model_copy(update={"nics": spec.nics}) == spec


def test_addresses_that_are_lost_are_told() -> None:
    address = {"address": "10.0.0.5", "subnet": {"uid": uid(1), "cidr": "10.0.0.0/24"}}
    nic = type(a_nic()).model_validate(a_nic().wire() | {"addresses": [address]})
    assert lost_addresses(a_spec(nics=[nic]), [NIC]) == ["fd00::5"]
