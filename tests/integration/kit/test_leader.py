"""Leadership and requested tokens against the real API server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from novakube_kit.kube_aio import AioKube
from novakube_kit.leader import Deadlines, LeaderElection
from novakube_kit.resources import CONFIGMAPS, LEASES, ROLEBINDINGS, ROLES, SERVICEACCOUNTS
from novakube_kit.tokens import RequestedToken
from tests.deadlines import EVENT_S
from tests.fakes.clock import ManualClock
from tests.integration.apiserver import ApiServer
from tests.integration.conftest import access_to
from tests.waiting import wait_until

QUICK = Deadlines(lease_s=3, renew_s=2, retry_s=0.2)


@asynccontextmanager
async def standing(election: LeaderElection) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(election.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_candidates_hand_over(kube: AioKube, namespace: str):
    one = LeaderElection(kube, namespace, "operator", "one", deadlines=QUICK)
    two = LeaderElection(kube, namespace, "operator", "two", deadlines=QUICK)
    async with standing(two):
        async with standing(one):
            await wait_until(lambda: one.is_leader or two.is_leader, "a leader", EVENT_S)
            assert not (one.is_leader and two.is_leader)
        await wait_until(lambda: two.is_leader, "two leads alone", EVENT_S)
        lease = await kube.get(LEASES, "operator", namespace)
        assert lease["spec"]["holderIdentity"] == "two"
        assert lease["spec"]["leaseTransitions"] == two.epoch


async def test_a_dead_leader_is_followed_after_its_lease(kube: AioKube, namespace: str):
    async with AioKube(kube.access) as dying:
        one = LeaderElection(dying, namespace, "operator", "one", deadlines=QUICK)
        two = LeaderElection(kube, namespace, "operator", "two", deadlines=QUICK)
        async with standing(one):
            await wait_until(lambda: one.is_leader, "one leads", EVENT_S)
            async with standing(two):
                # Its connections are gone and nothing is given back, as after a crash.
                dying.patch = _never  # type: ignore[method-assign]
                await wait_until(lambda: two.is_leader, "two leads", EVENT_S)
                assert not one.is_leader
                assert two.epoch == one.epoch + 1


async def _never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def test_a_ten_minute_token_is_renewed_and_works(
    apiserver: ApiServer, kube: AioKube, namespace: str
):
    clock = ManualClock()
    await kube.create(SERVICEACCOUNTS, {"metadata": {"name": "node"}}, namespace)
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    await kube.create(ROLES, {"metadata": {"name": "node"}, "rules": [rule]}, namespace)
    binding = {
        "metadata": {"name": "node"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "node"},
        "subjects": [{"kind": "ServiceAccount", "name": "node", "namespace": namespace}],
    }
    await kube.create(ROLEBINDINGS, binding, namespace)
    source = RequestedToken(kube, namespace, "node", life_s=600, clock=clock)
    async with AioKube(access_to(apiserver).with_token(source)) as node:
        await node.list(CONFIGMAPS, namespace)
        first = await source.token()
        assert _life_s(first) == 600
        clock.advance(481)
        await node.list(CONFIGMAPS, namespace)
        await source.settled()
        second = await source.token()
        assert second != first
        await node.list(CONFIGMAPS, namespace)
    await source.close()


def _life_s(token: str) -> int:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims["exp"] - claims["iat"]
