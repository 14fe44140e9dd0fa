import asyncio
from pathlib import Path

import pytest

from novakube_kit.errors import ApiUnavailable, Forbidden
from novakube_kit.tokens import FILE_CHECK_S, FileToken, RequestedToken
from tests.fakes.clock import ManualClock
from tests.fakes.kube import FakeKube


async def test_a_rotated_file_is_read_again(tmp_path: Path):
    clock, file = ManualClock(), tmp_path / "token"
    file.write_text("one\n")
    source = FileToken(file, clock)
    assert await source.token() == "one"
    file.write_text("two")
    assert await source.token() == "one"
    clock.advance(FILE_CHECK_S)
    assert await source.token() == "two"
    file.write_text("three")
    source.invalidate()
    assert await source.token() == "three"


@pytest.mark.parametrize(("content", "want"), [(None, "No such file"), ("", "is empty")])
async def test_no_token_says_which_file(tmp_path: Path, content: str | None, want: str):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Forbidden, match=want) as raised:
        await FileToken(file).token()
    assert str(file) in raised.value.message


def a_requested_token(kube: FakeKube, clock: ManualClock) -> RequestedToken:
    return RequestedToken(kube, "ns", "novakube-node", life_s=600, clock=clock)


async def renewed(source: RequestedToken) -> str:
    """The token once the renewal that this call begins has ended."""
    await source.token()
    await source.settled()
    return await source.token()


async def test_a_token_is_renewed_at_80_percent_and_never_waited_for():
    kube, clock = FakeKube(), ManualClock()
    source = a_requested_token(kube, clock)
    first = await source.token()
    clock.advance(479)
    assert await renewed(source) == first
    clock.advance(2)
    assert await source.token() == first
    await source.settled()
    assert await source.token() != first
    assert len(kube.calls) == 2


async def test_the_old_token_is_used_while_renewal_fails_with_backoff():
    kube, clock = FakeKube(), ManualClock()
    source = a_requested_token(kube, clock)
    first = await source.token()
    kube.outage = ApiUnavailable("away")
    clock.advance(481)
    for _ in range(118):
        assert await renewed(source) == first
        clock.advance(1)
    assert 3 <= len(kube.calls) <= 12
    clock.advance(2)
    with pytest.raises(ApiUnavailable):
        await source.token()
    kube.outage = None
    assert await source.token() != first


async def test_callers_share_one_request():
    kube = FakeKube()
    source = a_requested_token(kube, ManualClock())
    tokens = await asyncio.gather(*[source.token() for _ in range(20)])
    assert len(set(tokens)) == 1
    assert kube.calls == [("create", "serviceaccounts/token")]


async def test_a_refused_token_is_replaced():
    kube = FakeKube()
    source = a_requested_token(kube, ManualClock())
    first = await source.token()
    source.invalidate()
    assert await source.token() != first


async def test_a_servers_shorter_life_counts():
    kube, clock = FakeKube(), ManualClock()
    kube.token_life_s = 100
    source = a_requested_token(kube, clock)
    first = await source.token()
    clock.advance(101)
    assert await source.token() != first
