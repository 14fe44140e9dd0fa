"""A process that does one thing with NodeNetwork, as an agent would, and ends (or is killed).

``python -m tests.integration.network.agent STATE_DIR PHYSICAL_NETWORKS < calls``: each line of
stdin is ``[method, arguments]``; each answer is one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from novakube_agent.hostops.network import NetworkSettings, NodeNetwork
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_kit.errors import NovakubeError


async def call(network: NodeNetwork, method: str, arguments: dict[str, Any]) -> Any:
    if method == "restore":
        nics = [GuestNic.model_validate(nic) for nic in arguments["nics"]]
        return await network.restore({"g-1": nics})
    if method == "present":
        return sorted(await network.present())
    nic = GuestNic.model_validate(arguments["nic"])
    if method == "ensure":
        return asdict(await network.ensure_nic("g-1", arguments.get("hostname", "web"), nic))
    return await network.remove_nic("g-1", nic)


async def main() -> None:
    settings = NetworkSettings(Path(sys.argv[1]), json.loads(sys.argv[2]))
    network = NodeNetwork(settings)
    for method, arguments in json.load(sys.stdin):
        try:
            answer = {"result": await call(network, method, arguments)}
        except NovakubeError as error:
            kind = type(error).__name__
            answer = {"error": kind, "reason": error.reason, "message": error.message}
        sys.stdout.write(json.dumps(answer) + "\n")
    network.close()


if __name__ == "__main__":
    asyncio.run(main())
