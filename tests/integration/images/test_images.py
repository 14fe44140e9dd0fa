"""The image cache against a real HTTP server and real images."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from novakube_agent.hostops.download_address import AddressPolicy
from novakube_agent.hostops.images import ImageCache
from novakube_agent.hostops.images_store import UNUSED_S, ImageFiles
from novakube_kit.errors import ImageRejected, NovakubeError, Retryable
from tests.deadlines import EVENT_S
from tests.integration.images.conftest import an_image, qemu_image, told, unheard
from tests.integration.images.image_server import ImageServer
from tests.waiting import wait_until

MIB = 1 << 20


@pytest.fixture
def qcow2(tmp_path: Path, server: ImageServer) -> bytes:
    body = qemu_image(tmp_path / "good.qcow2", "qcow2", "64M")
    server.files["good"] = body
    return body


async def test_verified_image_is_cached_by_digest(
    cache: ImageCache, server: ImageServer, qcow2: bytes
) -> None:
    heard: list[int] = []
    image = an_image(server.url("/good"), qcow2)
    first = await cache.ensure(image, progress=heard.append)
    again = await cache.ensure(image, progress=unheard)
    assert first == again
    assert first.path.read_bytes() == qcow2
    assert (first.sha256, first.format) == (image.sha256, "qcow2")
    assert (first.size_bytes, first.virtual_size_bytes) == (len(qcow2), 64 * MIB)
    assert heard[-1] == 100
    assert len(server.requests) == 1


async def test_concurrent_callers_share_one_download(
    cache: ImageCache, server: ImageServer, qcow2: bytes
) -> None:
    image = an_image(server.url("/gated/good"), qcow2)
    callers = [asyncio.create_task(cache.ensure(image, progress=unheard)) for _ in range(3)]
    await wait_until(lambda: server.requests, "the request arrives", EVENT_S)
    callers[0].cancel()
    server.gate.set()
    done = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert done[1] == done[2]
    assert not isinstance(done[1], BaseException)
    assert len(server.requests) == 1


async def test_a_new_caller_after_all_were_cancelled_starts_anew(
    cache: ImageCache, server: ImageServer, qcow2: bytes
) -> None:
    image = an_image(server.url("/gated/good"), qcow2)
    lost = asyncio.create_task(cache.ensure(image, progress=unheard))
    await wait_until(lambda: server.requests, "the request arrives", EVENT_S)
    lost.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lost
    server.gate.set()
    assert (await cache.ensure(image, progress=unheard)).sha256 == image.sha256


@pytest.mark.parametrize(
    ("path", "want_error", "want_reason", "want_words"),
    [
        ("/status/404", ImageRejected, "ImageNotFound", "answered 404 Not Found"),
        ("/status/403", ImageRejected, "ImageAccessDenied", "answered 403"),
        ("/status/503", Retryable, "ImageUnreachable", "answered 503"),
        ("/to/http://127.0.0.1:1/x", ImageRejected, "ImageAddressForbidden", "loopback"),
        ("/to/http://localhost/x", ImageRejected, "ImageAddressForbidden", "localhost leads to"),
        ("/to/http://2130706433/x", ImageRejected, "InvalidURL", "2130706433"),
        ("/to/http://[::ffff:127.0.0.1]/x", ImageRejected, "ImageAddressForbidden", "loopback"),
        ("/to/http://169.254.169.254/x", ImageRejected, "ImageAddressForbidden", "link-local"),
        ("/to/file:///etc/passwd", ImageRejected, "InvalidURL", "only http and https"),
        ("/loop", NovakubeError, "ImageUnreachable", "redirects more than 5 times"),
    ],
)
async def test_servers_that_do_not_give_the_image(
    cache: ImageCache,
    server: ImageServer,
    path: str,
    want_error: type[NovakubeError],
    want_reason: str,
    want_words: str,
) -> None:
    with pytest.raises(want_error) as caught:
        await cache.ensure(an_image(server.url(path)), progress=unheard)
    assert caught.value.reason == want_reason
    assert want_words in caught.value.message
    assert not list((cache._files.root).glob("[!.]*"))


async def test_retry_after_is_honoured(cache: ImageCache, server: ImageServer) -> None:
    with pytest.raises(Retryable) as caught:
        await cache.ensure(an_image(server.url("/status/503")), progress=unheard)
    assert caught.value.after_s == 7


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"])
async def test_loopback_is_refused(cache: ImageCache, host: str) -> None:
    with pytest.raises(ImageRejected) as caught:
        await cache.ensure(an_image(f"http://{host}:9/x"), progress=unheard)
    assert caught.value.reason == "ImageAddressForbidden"


async def test_address_is_refused_without_an_exception_for_the_site(
    make_cache: Callable[..., ImageCache], server: ImageServer, qcow2: bytes
) -> None:
    with pytest.raises(ImageRejected) as caught:
        await make_cache(AddressPolicy()).ensure(an_image(server.url("/good")), progress=unheard)
    assert caught.value.reason == "ImageAddressForbidden"
    assert not server.requests


async def test_nobody_listens(cache: ImageCache) -> None:
    with pytest.raises(Retryable) as caught:
        await cache.ensure(an_image("http://127.0.0.2:9/x"), progress=unheard)
    assert caught.value.reason == "ImageUnreachable"


async def test_a_stalled_server_is_given_up(
    make_cache: Callable[..., ImageCache], server: ImageServer, qcow2: bytes
) -> None:
    with pytest.raises(Retryable) as caught:
        await make_cache(stalled_s=0.3).ensure(
            an_image(server.url("/slow/good"), qcow2), progress=unheard
        )
    assert caught.value.reason == "ImageUnreachable"
    assert f"after {len(qcow2) // 2} of {len(qcow2)} bytes" in caught.value.message


async def test_truncated_download_resumes_with_the_same_etag(
    cache: ImageCache, server: ImageServer, qcow2: bytes
) -> None:
    # Longer than what sockets buffer, so that some of it is on disk when the end comes.
    body = server.files["good"] = qcow2 + bytes(64 * MIB)
    server.etags["/cut/good"] = '"one"'
    image = an_image(server.url("/cut/good"), body)
    with pytest.raises(Retryable) as caught:
        await cache.ensure(image, progress=unheard)
    assert caught.value.reason in ("ImageTruncated", "ImageUnreachable")
    assert f"of {len(body)} bytes" in caught.value.message
    (part,) = cache._files.root.glob(".*.part")
    have = part.stat().st_size
    assert have > 0
    assert (await cache.ensure(image, progress=unheard)).path.read_bytes() == body
    assert server.requests[1] == ("/cut/good", f"bytes={have}-")


async def test_truncated_download_starts_again_when_the_etag_changed(
    cache: ImageCache, server: ImageServer, qcow2: bytes
) -> None:
    server.etags["/cut/good"] = '"one"'
    image = an_image(server.url("/cut/good"), qcow2)
    with pytest.raises(Retryable):
        await cache.ensure(image, progress=unheard)
    server.etags["/cut/good"] = '"two"'
    assert (await cache.ensure(image, progress=unheard)).path.read_bytes() == qcow2


async def test_without_checksum_an_unchanged_url_is_not_fetched_twice(
    cache: ImageCache, server: ImageServer, qcow2: bytes
) -> None:
    server.etags["/good"] = '"one"'
    first = await cache.ensure(an_image(server.url("/good")), progress=unheard)
    assert first.sha256 == hashlib.sha256(qcow2).hexdigest()
    assert await cache.ensure(an_image(server.url("/good")), progress=unheard) == first
    server.files["good"] = qcow2 + bytes(512)
    server.etags["/good"] = '"two"'
    assert await cache.ensure(an_image(server.url("/good")), progress=unheard) != first


async def test_other_checksum(cache: ImageCache, server: ImageServer, qcow2: bytes) -> None:
    with pytest.raises(ImageRejected) as caught:
        await cache.ensure(an_image(server.url("/good"), b"another"), progress=unheard)
    assert caught.value.reason == "ChecksumMismatch"
    assert hashlib.sha256(qcow2).hexdigest() in caught.value.message
    assert not list(cache._files.root.iterdir())


def data_file(tmp_path: Path) -> bytes:
    option = f"data_file={tmp_path / 'outside'}"
    return qemu_image(tmp_path / "image", "qcow2", "8M", "-o", option)


def backing_file(tmp_path: Path) -> bytes:
    return qemu_image(tmp_path / "image", "qcow2", "8M", "-u", "-b", "/etc/passwd", "-F", "raw")


def exbibyte(tmp_path: Path) -> bytes:
    body = bytearray(qemu_image(tmp_path / "image", "qcow2", "8M"))
    body[24:32] = struct.pack(">Q", 1 << 60)  # the header's size field
    return bytes(body)


def unknown_feature(tmp_path: Path) -> bytes:
    body = bytearray(qemu_image(tmp_path / "image", "qcow2", "8M"))
    body[72:80] = struct.pack(">Q", 1 << 40)
    return bytes(body)


def plain_qcow2(tmp_path: Path) -> bytes:
    return qemu_image(tmp_path / "image", "qcow2", "8M")


def noise(tmp_path: Path) -> bytes:
    return bytes(range(256)) * 1024


@pytest.mark.parametrize(
    ("make", "declared", "want_reason", "want_words"),
    [
        (backing_file, "qcow2", "ImageUnsafe", "backing file"),
        (data_file, "qcow2", "ImageUnsafe", "data_file"),
        (unknown_feature, "qcow2", "ImageUnsafe", "Unknown QCOW2 features"),
        (exbibyte, "qcow2", "ImageTooLarge", str(1 << 60)),
        (plain_qcow2, "raw", "FormatMismatch", "declared as raw, but its bytes are qcow2"),
        (plain_qcow2, "iso", "FormatMismatch", "declared as iso"),
        (noise, "qcow2", "FormatMismatch", "declared as qcow2, but its bytes are raw"),
        (noise, "vmdk", "FormatMismatch", "declared as vmdk"),
    ],
)
async def test_images_that_are_not_what_they_should_be(
    cache: ImageCache,
    server: ImageServer,
    tmp_path: Path,
    make: Callable[[Path], bytes],
    declared: str,
    want_reason: str,
    want_words: str,
) -> None:
    body = server.files["bad"] = make(tmp_path)
    with pytest.raises(ImageRejected) as caught:
        await cache.ensure(an_image(server.url("/bad"), body, declared), progress=unheard)
    assert caught.value.reason == want_reason
    assert want_words in caught.value.message
    assert server.url("/bad") in caught.value.message


async def test_raw_and_kernel_bytes_are_taken_as_they_are(
    cache: ImageCache, server: ImageServer, qcow2: bytes, tmp_path: Path
) -> None:
    body = server.files["raw"] = noise(tmp_path)
    found = await cache.ensure(an_image(server.url("/raw"), body, "raw"), progress=unheard)
    assert (found.format, found.virtual_size_bytes) == ("raw", len(body))
    kernel = await cache.ensure(
        an_image(server.url("/good"), qcow2, "aki"), progress=unheard, raw_file=True
    )
    assert kernel.path.read_bytes() == qcow2


async def test_foreign_format_is_converted(
    cache: ImageCache, server: ImageServer, tmp_path: Path
) -> None:
    body = server.files["disk"] = qemu_image(tmp_path / "disk.vmdk", "vmdk", "8M")
    found = await cache.ensure(an_image(server.url("/disk"), body, "vmdk"), progress=unheard)
    assert found.format == "qcow2"
    words = told("qemu-img", "info", "-f", "qcow2", str(found.path))
    assert "virtual size: 8 MiB" in words


async def test_larger_than_the_node_takes(
    make_cache: Callable[..., ImageCache], server: ImageServer, qcow2: bytes
) -> None:
    with pytest.raises(ImageRejected) as caught:
        await make_cache(max_bytes=1000).ensure(an_image(server.url("/good")), progress=unheard)
    assert caught.value.reason == "ImageTooLarge"
    assert f"at least {len(qcow2)} bytes" in caught.value.message


async def test_no_space(
    make_cache: Callable[..., ImageCache], server: ImageServer, qcow2: bytes
) -> None:
    with pytest.raises(Retryable) as caught:
        await make_cache(min_free_bytes=1 << 60).ensure(
            an_image(server.url("/good"), qcow2), progress=unheard
        )
    assert caught.value.reason == "NoSpace"
    assert str(len(qcow2)) in caught.value.message


async def test_eviction_takes_only_what_no_disk_uses(
    cache: ImageCache, server: ImageServer, qcow2: bytes, tmp_path: Path
) -> None:
    bodies = {name: qcow2 + name.encode() for name in ("used", "idle", "fresh")}
    server.files |= bodies
    server.files["kernel"] = b"kernel"
    paths = {}
    for name, body in bodies.items():
        image = an_image(server.url(f"/{name}"), body)
        paths[name] = (await cache.ensure(image, progress=unheard)).path
    kernel = an_image(server.url("/kernel"), b"kernel", "aki")
    paths["kernel"] = (await cache.ensure(kernel, progress=unheard, raw_file=True)).path
    (tmp_path / "disk.base").hardlink_to(paths["used"])
    for name in ("used", "idle", "kernel"):
        os.utime(paths[name], (0, 0))
    ImageFiles(paths["used"].parent).evict(UNUSED_S)
    assert {name for name, path in paths.items() if path.exists()} == {"used", "fresh", "kernel"}
