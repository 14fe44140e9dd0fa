"""The operator's process with a leadership nobody gave it: its own epoch, no Lease."""

from __future__ import annotations

import asyncio
import logging

from novakube_kit.leader import LeaderElection
from novakube_operator import main

EPOCH = 1_000_000
log = logging.getLogger(__name__)


class Usurper(LeaderElection):
    """Believes that it leads from the start, and never looks at the Lease."""

    async def run(self) -> None:
        self.epoch = EPOCH
        assert self._changed is not None
        self._changed(True)
        log.warning("usurping")
        await asyncio.Event().wait()


if __name__ == "__main__":
    main.LeaderElection = Usurper  # type: ignore[misc]
    main.main()
