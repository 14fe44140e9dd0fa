"""What is read from an accepted image."""

from __future__ import annotations

import pytest

from novakube_crds.v1alpha1.instance import AcceptedImage, InstanceSpec
from novakube_operator.core.accept import NotAcceptable, check_supported, stop_timeout_s

UID = "00000000-0000-4000-8000-000000000001"


def image(**properties: str) -> AcceptedImage:
    return AcceptedImage(
        name="i", namespace="ns", uid=UID, id=UID, url="http://192.0.2.10/i", disk_format="raw",
        min_disk_gib=0, min_memory_mib=0, properties=properties,
    )  # fmt: skip


@pytest.mark.parametrize(("text", "want"), [("0", 0), ("5", 5), ("86400", 86400)])
def test_an_images_own_stop_timeout(text: str, want: int) -> None:
    assert stop_timeout_s(image(os_shutdown_timeout=text)) == want


def test_the_usual_stop_timeout_is_novas() -> None:
    assert stop_timeout_s(image()) == 60


@pytest.mark.parametrize("text", ["", "-1", "1.5", "86401", "soon", "\u0661"])
def test_a_stop_timeout_that_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(NotAcceptable, match="os_shutdown_timeout") as refused:
        stop_timeout_s(image(os_shutdown_timeout=text))
    assert refused.value.reason == "InvalidImageProperty"
    assert "0 to 86400" in refused.value.message


def test_two_disks_in_one_place_of_the_boot_order_are_refused() -> None:
    blank = {"source": "blank", "sizeGiB": 1}

    def spec(*places: int | None) -> InstanceSpec:
        devices = [blank | ({} if place is None else {"bootIndex": place}) for place in places]
        return InstanceSpec.model_validate(
            {"flavor": {"name": "f"}, "image": {"name": "i"}, "blockDevices": devices}
        )

    check_supported(spec(0, 1, -1, -1, None, None))
    with pytest.raises(NotAcceptable) as caught:
        check_supported(spec(None, 0, 0))
    assert caught.value.message == (
        "spec.blockDevices[2].bootIndex: 0 is also that of spec.blockDevices[1]"
    )
