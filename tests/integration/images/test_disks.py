"""Disk files by the real qemu-img, mkfs and mkswap."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from novakube_agent.hostops.disks import DiskStore
from novakube_agent.ports import CachedImage
from novakube_crds.v1alpha1.guest import GuestDisk, GuestImage
from novakube_kit.errors import HostBusy, HostFailure, InvalidSpec
from tests.integration.images.conftest import qemu_image, told

MIB = 1 << 20
ROOT = GuestDisk(
    role="root",
    device="vda",
    size_bytes=64 * MIB,
    image=GuestImage(url="http://images.example/a", disk_format="qcow2"),
)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> CachedImage:
    path = tmp_path / "cached"
    body = qemu_image(path, "qcow2", "32M")
    return CachedImage(path, "0" * 64, len(body), 32 * MIB, "qcow2")


def info(path: Path) -> dict[str, object]:
    words = ["qemu-img", "info", "--output=json", "-f", "qcow2", "--backing-chain", str(path)]
    return json.loads(subprocess.check_output(words))  # type: ignore[no-any-return]


async def test_root_is_an_overlay_that_outlives_cache_and_rename(
    store: DiskStore, image: CachedImage
) -> None:
    disk = await store.ensure("g-1", ROOT, image)
    image.path.unlink()
    await store.adopt("g-1", "g-2")
    await store.adopt("g-1", "g-2")
    chain = info(store.directory("g-2") / disk.path.name)
    assert [item["virtual-size"] for item in chain] == [64 * MIB, 32 * MIB]  # type: ignore[index]
    assert chain[0]["backing-filename-format"] == "qcow2"  # type: ignore[index]
    assert await store.existing("g-2") == {"vda"}
    assert await store.guests() == {"g-2"}


async def test_a_cache_on_another_file_system_is_copied_from(
    store: DiskStore, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        path = Path(other) / "cached"
        body = qemu_image(path, "qcow2", "32M")
        with pytest.raises(OSError, match="cross-device"):
            os.link(path, tmp_path / "link")
        disk = await store.ensure(
            "g-1", ROOT, CachedImage(path, "0" * 64, len(body), 32 * MIB, "qcow2")
        )
    assert [item["virtual-size"] for item in info(disk.path)] == [64 * MIB, 32 * MIB]  # type: ignore[index]
    names = {path.name for path in disk.path.parent.iterdir()}
    assert names == {"vda.qcow2", "vda.base"}


async def test_a_root_that_is_not_there_is_waited_for(tmp_path: Path, image: CachedImage) -> None:
    folder = tmp_path / "mounted-later"
    store = DiskStore(folder)
    shutil.rmtree(folder)
    with pytest.raises(HostBusy) as refused:
        await store.ensure("g-1", ROOT, image)
    assert refused.value.reason == "DisksUnusable"
    DiskStore(folder)
    assert (await store.ensure("g-1", ROOT, image)).path.exists()


async def test_a_disk_is_made_once(store: DiskStore, image: CachedImage) -> None:
    disk = await store.ensure("g-1", ROOT, image)
    disk.path.write_bytes(b"the guest's data")
    assert await store.ensure("g-1", ROOT, image) == disk
    assert disk.path.read_bytes() == b"the guest's data"


async def test_root_smaller_than_its_image(store: DiskStore, image: CachedImage) -> None:
    with pytest.raises(InvalidSpec) as caught:
        await store.ensure("g-1", ROOT.model_copy(update={"size_bytes": MIB}), image)
    assert caught.value.reason == "FlavorTooSmall"
    assert f"{MIB} bytes, but its image needs {32 * MIB}" in caught.value.message


async def test_root_of_size_zero_is_as_large_as_its_image(
    store: DiskStore, image: CachedImage
) -> None:
    disk = await store.ensure("g-1", ROOT.model_copy(update={"size_bytes": 0}), image)
    assert info(disk.path)[0]["virtual-size"] == 32 * MIB  # type: ignore[index]


@pytest.mark.parametrize(("role", "want"), [("ephemeral", "ext4 ephemeral0"), ("swap", "swap")])
async def test_ephemeral_and_swap_are_ready_to_use(store: DiskStore, role: str, want: str) -> None:
    disk = GuestDisk(role=role, device="vdb", size_bytes=16 * MIB)  # type: ignore[arg-type]
    file = await store.ensure("g-1", disk, None)
    assert file.format == "raw"
    assert file.path.stat().st_size == 16 * MIB
    lines = told("blkid", "-p", "-o", "export", str(file.path)).split()
    found = dict(line.split("=", 1) for line in lines)
    assert " ".join(filter(None, [found["TYPE"], found.get("LABEL")])) == want


async def test_blank_disk(store: DiskStore) -> None:
    disk = await store.ensure("g-1", GuestDisk(role="root", device="vda", size_bytes=MIB), None)
    assert info(disk.path)[0]["virtual-size"] == MIB  # type: ignore[index]


async def test_removal_leaves_nothing(store: DiskStore, image: CachedImage, tmp_path: Path) -> None:
    await store.ensure("g-1", ROOT, image)
    await store.remove("g-1")
    await store.remove("g-1")
    assert not list((tmp_path / "guests").iterdir())
    assert image.path.stat().st_nlink == 1


async def test_two_directories_are_never_merged(store: DiskStore, image: CachedImage) -> None:
    await store.ensure("g-1", ROOT, image)
    await store.ensure("g-2", ROOT, image)
    with pytest.raises(HostFailure, match="both g-1 and g-2"):
        await store.adopt("g-1", "g-2")
    with pytest.raises(HostFailure, match="no disks of g-3"):
        await store.adopt("g-3", "g-4")


async def test_names_are_no_paths(store: DiskStore) -> None:
    with pytest.raises(InvalidSpec):
        store.directory("../escape")


CHILD = """
import asyncio, sys
from pathlib import Path
from novakube_agent.hostops.disks import DiskStore
from novakube_agent.ports import CachedImage
from tests.integration.images.test_disks import ROOT, MIB
state = Path(sys.argv[1])
image = CachedImage(state / "cached", "0" * 64, 1, 32 * MIB, "qcow2")
store = DiskStore(state)
asyncio.run(getattr(store, sys.argv[2])("g-1", *([ROOT, image] if sys.argv[2] == "ensure" else [])))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("method", "point"),
    [
        ("ensure", "host.disk.root"),
        ("ensure", "host.run.qemu-img"),
        ("ensure", "host.disk.finish"),
        ("remove", "host.disk.remove"),
    ],
)
async def test_killed_at_any_step_it_converges(
    store: DiskStore, image: CachedImage, tmp_path: Path, method: str, point: str, moment: str
) -> None:
    if method == "remove":
        await store.ensure("g-1", ROOT, image)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        str(tmp_path),
        method,
        env=os.environ
        | {
            "NOVAKUBE_FAILPOINT": f"{point}:{moment}",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
    )
    assert await process.wait() == -9
    if method == "remove":
        await store.remove("g-1")
        assert await store.guests() == frozenset()
    else:
        disk = await store.ensure("g-1", ROOT, image)
        assert info(disk.path)[0]["virtual-size"] == 64 * MIB  # type: ignore[index]
        names = {path.name for path in disk.path.parent.iterdir()}
        assert names == {"vda.qcow2", "vda.base"}
