"""What every test stands on."""

from __future__ import annotations

import asyncio

import hypothesis

# Properties assert facts; how long an example takes on a busy machine is none of them.
hypothesis.settings.register_profile("novakube", deadline=None, print_blob=True)
hypothesis.settings.load_profile("novakube")


def pytest_configure() -> None:
    """States that the main thread has no event loop.

    Unless that was said, asyncio makes one for whoever asks for the current loop, as the
    asyncio plugin does before it sets its own; nobody would close that loop.
    """
    asyncio.set_event_loop(None)
