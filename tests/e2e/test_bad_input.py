"""Bad input as the Instance's user reads it: real agent, real libvirt, a real image server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from novakube_kit.kube import Json
from tests.deadlines import EVENT_S
from tests.e2e.cloud import LocalCloud, condition
from tests.e2e.images import Images
from tests.integration.images.conftest import qemu_image
from tests.integration.images.test_images import (
    backing_file,
    data_file,
    exbibyte,
    noise,
    plain_qcow2,
)
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)
GIB = 1 << 30


def instance(cloud: LocalCloud, namespace: str, name: str = "web", **spec: object) -> None:
    """An Instance of the namespace's parts, with the given fields in their stead."""
    usual: Json = {
        "flavor": {"name": "e2e"},
        "image": {"name": "guest"},
        "networks": [{"network": {"name": "net"}}],
    }
    cloud.make("Instance", name, usual | spec, namespace)


def image(cloud: LocalCloud, namespace: str, url: str, name: str = "bad", **spec: object) -> None:
    """An Image behind a URL, declared as qcow2."""
    declared: Json = {"diskFormat": "qcow2", "source": {"url": url}}
    cloud.make("Image", name, declared | spec, namespace)


def nothing_claimed(cloud: LocalCloud, namespace: str) -> bool:
    """No Guest, Port or address in the namespace."""
    guests = [g for g in cloud.list("guests") if g["spec"]["instance"]["namespace"] == namespace]
    return not (guests or cloud.list("ports", namespace) or cloud.list("ipaddresses", namespace))


def failed_for(found: Json, reason: str) -> str:
    """What a user reads of an Instance in Error: one cause, said in each place; the message."""
    status = found["status"]
    assert (status["state"], status["vmState"]) == ("Error", "error")
    ready, stalled = condition(found, "Ready"), condition(found, "Stalled")
    assert (ready["status"], stalled["status"]) == ("False", "True")
    assert ready["reason"] == stalled["reason"] == status["fault"]["details"] == reason
    assert ready["message"] == stalled["message"] == status["fault"]["message"]
    assert condition(found, "Reconciling") == {}
    return str(ready["message"])


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("/status/404", "ImageNotFound", "answered 404 Not Found"),
        ("/to/http://127.0.0.1:6443/x", "ImageAddressForbidden", "127.0.0.1"),
        ("/to/http://localhost/x", "ImageAddressForbidden", "localhost leads to"),
        ("/to/http://169.254.169.254/x", "ImageAddressForbidden", "a link-local address"),
    ],
)
def test_image_url_that_does_not_give_the_image(
    cloud: LocalCloud, images: Images, namespace: str, path: str, reason: str, words: str
) -> None:
    image(cloud, namespace, images.url(path))
    before = cloud.node.traces()
    instance(cloud, namespace, image={"name": "bad"})
    text = failed_for(cloud.said("web", namespace, "Error", reason), reason)
    assert words in text
    assert cloud.node.domains() == sorted(d[7:] for d in before if d.startswith("domain "))
    assert not {t for t in cloud.node.traces() - before if not t.startswith("journal/")}


def test_image_url_on_loopback(cloud: LocalCloud, namespace: str) -> None:
    image(cloud, namespace, "http://127.0.0.1:6443/x")
    instance(cloud, namespace, image={"name": "bad"})
    found = cloud.said("web", namespace, "Error", "ImageAddressForbidden")
    assert "127.0.0.1 is a loopback address" in failed_for(found, "ImageAddressForbidden")


@pytest.mark.parametrize(
    ("make", "declared", "reason", "words"),
    [
        (backing_file, "qcow2", "ImageUnsafe", "backing file"),
        (data_file, "qcow2", "ImageUnsafe", "data_file"),
        (exbibyte, "qcow2", "ImageTooLarge", str(1 << 60)),
        (plain_qcow2, "raw", "FormatMismatch", "declared as raw, but its bytes are qcow2"),
        (noise, "qcow2", "FormatMismatch", "declared as qcow2, but its bytes are raw"),
    ],
)
def test_image_that_is_not_what_it_should_be(
    cloud: LocalCloud, images: Images, namespace: str, tmp_path: Path,
    make: Callable[[Path], bytes], declared: str, reason: str, words: str,
) -> None:  # fmt: skip
    images.server.files[namespace] = make(tmp_path)
    image(cloud, namespace, images.url(f"/{namespace}"), diskFormat=declared)
    before = cloud.node.traces()
    instance(cloud, namespace, image={"name": "bad"})
    text = failed_for(cloud.said("web", namespace, "Error", reason), reason)
    assert words in text
    assert images.url(f"/{namespace}") in text
    assert not {t for t in cloud.node.traces() - before if not t.startswith("journal/")}


def test_image_of_another_checksum_and_the_right_one_set(
    cloud: LocalCloud, images: Images, namespace: str
) -> None:
    images.server.files["good"] = images.guest
    source = {"url": images.url("/good"), "checksum": f"sha256:{'1' * 64}"}
    image(cloud, namespace, "", source=source)
    instance(cloud, namespace, image={"name": "bad"})
    found = cloud.said("web", namespace, "Error", "ChecksumMismatch")
    digest = hashlib.sha256(images.guest).hexdigest()
    assert digest in failed_for(found, "ChecksumMismatch")
    assert "1" * 64 in condition(found, "Ready")["message"]
    cloud.patch("images", "bad", {"spec": {"source": {"checksum": f"sha256:{digest}"}}}, namespace)
    found = cloud.running("web", namespace)
    assert found["status"]["incarnation"] == 2
    assert "fault" not in found["status"]
    assert len(cloud.guests_of("web", namespace)) == len(cloud.list("ipaddresses", namespace)) == 1


def test_image_that_is_slow_comes_in_the_end(
    cloud: LocalCloud, images: Images, namespace: str
) -> None:
    images.server.files["good"] = images.guest
    images.close_gate()
    image(cloud, namespace, images.url("/gated/good"))
    with cloud.node.agent.settings(NOVAKUBE_IMAGE_STALLED_S="1"):
        instance(cloud, namespace, image={"name": "bad"})
        found = cloud.said(
            "web", namespace, "Building", "ImageUnreachable", "no byte for 1 s",
            f"of {len(images.guest)} bytes",
        )  # fmt: skip
        assert condition(found, "GuestReady")["reason"] == "ImageUnreachable"
        assert condition(found, "Reconciling")["status"] == "True"
        images.open_gate()
        cloud.running("web", namespace)


def test_image_that_is_always_cut_off_ends_at_the_build_deadline(
    cloud: LocalCloud, images: Images, namespace: str
) -> None:
    images.server.files["good"] = images.guest
    image(cloud, namespace, images.url("/short/good"))
    before = cloud.node.traces()
    with cloud.operator.settings(NOVAKUBE_BUILD_DEADLINE_S="20"):
        instance(cloud, namespace, image={"name": "bad"})
        words = f"of {len(images.guest)} bytes"
        cloud.said("web", namespace, "Building", "ImageTruncated", "ended early", words)
        found = cloud.said("web", namespace, "Error", "BuildTimeout", "no guest after 20 s")
        assert words in failed_for(found, "BuildTimeout")
        wait_until_sync(
            lambda: not cloud.guests_of("web", namespace), "the guest is given up", EVENT_S
        )
        assert cloud.node.traces() <= before


def test_flavor_too_small_as_the_image_declares(cloud: LocalCloud, namespace: str) -> None:
    image(cloud, namespace, "http://192.0.2.10/novakube-guest.qcow2", minDiskGiB=5)
    instance(cloud, namespace, image={"name": "bad"})
    found = cloud.said("web", namespace, "Error", "FlavorTooSmall")
    text = failed_for(found, "FlavorTooSmall")
    assert text == "flavor e2e has rootGiB 1, image bad needs minDiskGiB 5"
    assert condition(found, "FlavorReady")["reason"] == "FlavorTooSmall"
    assert nothing_claimed(cloud, namespace)


def test_flavor_too_small_for_the_size_found(
    cloud: LocalCloud, images: Images, namespace: str, tmp_path: Path
) -> None:
    images.server.files[namespace] = qemu_image(tmp_path / "three", "qcow2", "3G")
    image(cloud, namespace, images.url(f"/{namespace}"))
    before = cloud.node.traces()
    instance(cloud, namespace, image={"name": "bad"})
    text = failed_for(cloud.said("web", namespace, "Error", "FlavorTooSmall"), "FlavorTooSmall")
    assert str(3 * GIB) in text
    assert str(GIB) in text
    assert not {t for t in cloud.node.traces() - before if not t.startswith("journal/")}


@pytest.mark.parametrize(
    ("field", "value", "condition_type", "message"),
    [
        ("flavor", {"name": "x-{0}"}, "FlavorReady", "spec.flavor: flavor x-{0} does not exist"),
        ("image", {"name": "x"}, "ImageReady", "spec.image: image {0}/x does not exist"),
        ("networks", [{"network": {"name": "x"}}], "NetworkReady",
         "spec.networks[0].network: network {0}/x does not exist"),
    ],
)  # fmt: skip
def test_what_is_missing_is_waited_for(
    cloud: LocalCloud, namespace: str, field: str, value: object, condition_type: str, message: str
) -> None:
    wanted = value
    if field == "flavor":
        wanted = {"name": f"x-{namespace}"}
    instance(cloud, namespace, **{field: wanted})
    found = cloud.said("web", namespace, "Pending", "NotFound")
    assert condition(found, "Ready")["message"] == message.format(namespace)
    missing = condition(found, condition_type)
    assert (missing["status"], missing["reason"]) == ("False", "NotFound")
    assert condition(found, "Stalled") == {}
    assert nothing_claimed(cloud, namespace)
    if field == "flavor":
        small = {"vcpus": 1, "memoryMiB": 128, "rootGiB": 1}
        cloud.make("Flavor", f"x-{namespace}", small)
    elif field == "image":
        image(cloud, namespace, "http://192.0.2.10/novakube-guest.qcow2", "x")
    else:
        cloud.make("Network", "x", {}, namespace)
        cloud.said("web", namespace, "Pending", "NoSubnet", f"network {namespace}/x has no subnet")
        subnet = {"network": {"name": "x"}, "cidr": "10.61.0.0/24"}
        cloud.make("Subnet", "x-v4", subnet, namespace)
    cloud.running("web", namespace)


def test_user_data_over_64_kib(cloud: LocalCloud, namespace: str) -> None:
    manifest = (
        "apiVersion: novakube.dev/v1alpha1\nkind: Instance\nmetadata: {name: web}\n"
        "spec: {flavor: {name: e2e}, image: {name: guest}, userData: "
    )
    large = base64.b64encode(bytes(49152)).decode()
    apply = ("apply", "-n", namespace, "-f", "-")
    refused = cloud.kubectl_attempt(*apply, stdin=f"{manifest}{large}}}")
    assert refused.returncode != 0
    assert "user data is at most 65535 characters of base64 (64 KiB)" in refused.stderr
    secret = {"metadata": {"name": "boot"}, "data": {"userData": large}}
    cloud.admin.call("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    instance(cloud, namespace, userDataSecretRef={"name": "boot"})
    found = cloud.said("web", namespace, "Error", "UserDataTooLarge")
    text = failed_for(found, "UserDataTooLarge")
    where = f"spec.userDataSecretRef: secret {namespace}/boot"
    assert text == f"{where}: 49152 bytes are more than 65535 in base64"
    assert nothing_claimed(cloud, namespace)


def test_overlapping_pools_and_subnets(cloud: LocalCloud, namespace: str) -> None:
    subnet = "apiVersion: novakube.dev/v1alpha1\nkind: Subnet\nmetadata: {name: bad}\nspec: "
    pools = "[{start: 10.62.0.10, end: 10.62.0.20}, {start: 10.62.0.20, end: 10.62.0.30}]"
    spec = f"{{network: {{name: net}}, cidr: 10.62.0.0/24, pools: {pools}}}"
    refused = cloud.kubectl_attempt("apply", "-n", namespace, "-f", "-", stdin=subnet + spec)
    assert refused.returncode != 0
    assert "pools of spec.pools overlap" in refused.stderr
    cloud.make("Subnet", "twin", {"network": {"name": "net"}, "cidr": "10.60.0.128/25"}, namespace)

    def told() -> Json | None:
        found = cloud.get("subnets", "twin", namespace) or {}
        return found if condition(found, "Ready").get("status") == "False" else None

    found = wait_until_sync(told, "the overlapping subnet is refused", EVENT_S) or {}
    assert condition(found, "Stalled")["status"] == "True"
    assert "net-v4" in condition(found, "Ready")["message"]


def test_full_network(cloud: LocalCloud, namespace: str) -> None:
    cloud.make("Network", "small", {}, namespace)
    subnet = {"network": {"name": "small"}, "cidr": "10.63.0.0/30"}
    cloud.make("Subnet", "small-v4", subnet, namespace)
    cloud.until_ready("subnets", "small-v4", namespace)
    for name in ("one", "two"):
        instance(cloud, namespace, name, networks=[{"network": {"name": "small"}}])
        if name == "one":
            cloud.running("one", namespace)
    found = cloud.said("two", namespace, "Pending", "NetworkFull")
    told = condition(found, "NetworkReady")
    assert (told["status"], told["reason"]) == ("False", "NetworkFull")
    assert told["message"] == "network small is full: no free address in its subnet"
    assert cloud.guests_of("two", namespace) == []
    assert len(cloud.list("ipaddresses", namespace)) == 1
    cloud.delete("instances", "one", namespace)
    cloud.running("two", namespace)


@pytest.mark.parametrize(
    ("address", "reason", "words"),
    [
        ("10.99.0.5", "AddressOutsideSubnet",
         "address 10.99.0.5 is outside 10.60.0.0/24 of subnet net-v4"),
        ("10.60.0.255", "AddressOutsideSubnet",
         "the network's or broadcast address of 10.60.0.0/24"),
        ("10.60.0.1", "AddressInUse", "address 10.60.0.1 is the gateway of subnet net-v4"),
    ],
)  # fmt: skip
def test_address_that_cannot_be(
    cloud: LocalCloud, namespace: str, address: str, reason: str, words: str
) -> None:
    instance(cloud, namespace, networks=[{"network": {"name": "net"}, "address": address}])
    text = failed_for(cloud.said("web", namespace, "Error", reason), reason)
    assert text.startswith("spec.networks[0]: ")
    assert words in text
    assert nothing_claimed(cloud, namespace)


def test_two_instances_and_one_port(cloud: LocalCloud, namespace: str) -> None:
    cloud.make("Port", "mine", {"network": {"name": "net"}}, namespace)
    instance(cloud, namespace, "one", networks=[{"port": {"name": "mine"}}])
    address = cloud.running("one", namespace)["status"]["addresses"][0]["address"]
    instance(cloud, namespace, "two", networks=[{"port": {"name": "mine"}}])
    found = cloud.said("two", namespace, "Pending", "PortInUse")
    told = condition(found, "NetworkReady")
    assert told["message"] == "spec.networks[0].port: port mine belongs to instance one"
    assert cloud.guests_of("two", namespace) == []
    cloud.delete("instances", "one", namespace)
    assert cloud.running("two", namespace)["status"]["addresses"][0]["address"] == address
    cloud.delete("instances", "two", namespace)
    cloud.gone("instances", "two", namespace)
    cloud.delete("ports", "mine", namespace)
    cloud.gone("ports", "mine", namespace)
