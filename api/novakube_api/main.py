"""Entry point of novakube-api: wiring only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

import uvicorn

from novakube_api import app, tls
from novakube_api.agents import AgentClient
from novakube_api.settings import Settings, load
from novakube_kit.access import ClusterAccess, discover
from novakube_kit.errors import NovakubeError
from novakube_kit.kube_aio import AioKube
from novakube_kit.logging import configure_logging
from novakube_kit.version import answer_version

log = logging.getLogger(__name__)


async def serve(settings: Settings, access: ClusterAccess) -> None:
    """Serves until SIGTERM; open answers get 10 s to end.

    Raises:
        InvalidSpec: the certificate cannot be used.
    """
    seen = tls.stamp(settings.tls_dir)
    context = tls.server_context(settings.tls_dir)
    agents = AgentClient(settings.tls_dir, settings.agent_timeout_s)
    kube = AioKube(access)
    config = uvicorn.Config(
        app.build(kube, agents),
        host=settings.listen_host,
        port=settings.listen_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    config.load()
    config.ssl = context
    follower = asyncio.create_task(tls.follow(settings.tls_dir, context, agents.reload, seen))
    try:
        log.info("Serving on %s port %d", settings.listen_host, settings.listen_port)
        await uvicorn.Server(config).serve()
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
        await agents.close()
        await kube.close()


def main() -> None:
    """Runs the process; ends with 1 and one clear line when it cannot start."""
    answer_version("novakube-api")
    # uvicorn sends itself the signal again once it has ended; that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    configure_logging()
    try:
        settings = load()
        configure_logging(settings.log_level)
        tls.wait_for_files(settings.tls_dir, settings.tls_wait_s)
        asyncio.run(serve(settings, discover()))
    except NovakubeError as error:
        log.critical("Not started: %s: %s", error.reason, error.message)
        sys.exit(1)


if __name__ == "__main__":
    main()
