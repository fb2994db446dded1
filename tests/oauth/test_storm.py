"""Everybody at once on an expired token, in several processes: the one mistake that kills connections for good."""

from collections.abc import Callable

import pytest
from support.grounds import Ground
from support.instances import Instances
from support.providers.toolkit import Toolkit
from support.storm import Storm, storm


def _is_whole(seen: Storm, rounds: int) -> None:
    assert seen.wrong == []
    assert not seen.failed, seen
    assert seen.rounds == seen.token_requests == rounds, seen
    assert seen.calls == rounds * 4 * 50
    assert seen.is_alive, seen


async def test_a_storm_is_one_token_request_a_round(
    ground: Ground, toolkit: Toolkit, instances: Instances, report: Callable[[str], None]
) -> None:
    """4 processes x 50 callers on an expired token, 8 times: 8 token requests, no failed call, alive (R110, R183)."""
    ground.configure(toolkit)
    seen = await storm(ground, toolkit, instances, rounds=8)
    report(f"storm on {ground.name}: {seen}")
    _is_whole(seen, 8)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_hundred_storms(
    ground: Ground, toolkit: Toolkit, instances: Instances, report: Callable[[str], None]
) -> None:
    """The same a hundred times; `make chaos` holds this one too (R110)."""
    ground.configure(toolkit)
    seen = await storm(ground, toolkit, instances, rounds=100)
    report(f"storm on {ground.name}: {seen}")
    _is_whole(seen, 100)
