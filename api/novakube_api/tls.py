"""The process's certificate: waited for at start, taken again when it was rotated."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from novakube_kit.errors import InvalidSpec, Retryable

FILES = ("tls.crt", "tls.key", "ca.crt")
CHECK_INTERVAL_S = 5.0
log = logging.getLogger(__name__)


def stamp(directory: Path) -> tuple[int, ...] | None:
    """Modification times of the three files, None while one is missing."""
    try:
        return tuple((directory / name).stat().st_mtime_ns for name in FILES)
    except FileNotFoundError:
        return None


def wait_for_files(directory: Path, deadline_s: float) -> None:
    """Blocks (before the event loop runs) until the certificate is there.

    Raises:
        Retryable: it did not appear; the message says who makes it.
    """
    end = time.monotonic() + deadline_s
    while stamp(directory) is None:
        if time.monotonic() > end:
            raise Retryable(
                f"no {', '.join(FILES)} in {directory} after {deadline_s:.0f} s: the operator "
                "issues them in Secret novakube-system/novakube-api-tls; is it running?",
                reason="NoCertificate",
            )
        time.sleep(0.2)


def server_context(directory: Path) -> ssl.SSLContext:
    """TLS of the HTTPS port; callers show Kubernetes tokens, not certificates.

    Raises:
        InvalidSpec: the pair is unreadable, or no pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    except (ssl.SSLError, OSError) as error:
        raise InvalidSpec(
            f"tls.crt and tls.key in {directory} cannot be used: {error}", reason="NoCertificate"
        ) from error
    return context


async def follow(
    directory: Path,
    context: ssl.SSLContext,
    changed: Callable[[], None],
    seen: tuple[int, ...] | None,
) -> None:
    """Loads a rotated certificate into the living context, for ever.

    Args:
        directory: with the three files.
        context: of the HTTPS port.
        changed: told after each load.
        seen: ``stamp`` taken before the context was first loaded, so that nothing is missed.
    """
    while True:
        await asyncio.sleep(CHECK_INTERVAL_S)
        now = stamp(directory)
        if now is None or now == seen:
            continue
        try:
            context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
            changed()
        except (ssl.SSLError, OSError) as error:
            # A half-written pair: the next round sees the whole one.
            log.warning("Certificate not loaded from %s: %s", directory, error)
            continue
        seen = now
        log.info("Certificate loaded again from %s", directory)
