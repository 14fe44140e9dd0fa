from __future__ import annotations

import hashlib
import ipaddress
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from novakube_agent.hostops.download import DownloadLimits
from novakube_agent.hostops.download_address import AddressPolicy
from novakube_agent.hostops.images import ImageCache, ImageSettings
from novakube_crds.v1alpha1.guest import GuestImage
from tests.integration.images.image_server import ADDRESS, ImageServer

POLICY = AddressPolicy(allowed=(ipaddress.ip_network(f"{ADDRESS}/32"),))


@pytest.fixture
async def server() -> AsyncIterator[ImageServer]:
    state = ImageServer()
    runner = web.AppRunner(state.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, ADDRESS, 0)
    await site.start()
    state.port = runner.addresses[0][1]
    yield state
    state.gate.set()
    await runner.cleanup()


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., ImageCache]:
    def make(policy: AddressPolicy = POLICY, **limits: object) -> ImageCache:
        virtual = limits.pop("max_virtual_bytes", 1 << 40)
        settings = {"min_free_bytes": 0, "stalled_s": 10.0} | limits
        return ImageCache(
            ImageSettings(
                tmp_path / "state",
                addresses=policy,
                download=DownloadLimits(**settings),  # type: ignore[arg-type]
                max_virtual_bytes=virtual,  # type: ignore[arg-type]
            )
        )

    return make


@pytest.fixture
def cache(make_cache: Callable[..., ImageCache]) -> ImageCache:
    return make_cache()


def qemu_image(path: Path, format_: str, size: str, *options: str) -> bytes:
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", format_, *options, str(path), size], check=True
    )
    return path.read_bytes()


def an_image(url: str, body: bytes | None = None, disk_format: str = "qcow2") -> GuestImage:
    digest = hashlib.sha256(body).hexdigest() if body is not None else None
    return GuestImage(url=url, sha256=digest, disk_format=disk_format)  # type: ignore[arg-type]


def unheard(percent: int) -> None:
    """For callers who do not care."""


def told(*command: str) -> str:
    """What a program says about a file."""
    return subprocess.check_output(command, text=True)
