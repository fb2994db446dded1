"""Everybody at once on an expired token, in several processes: the one mistake that kills connections for good."""

from collections.abc import Callable

from support.grounds import Ground
from support.instances import Instances
from support.providers.toolkit import Toolkit
from support.storm import storm


async def test_a_storm_is_one_token_request_a_round(
    ground: Ground, toolkit: Toolkit, instances: Instances, report: Callable[[str], None]
) -> None:
    """4 processes x 50 callers on an expired token, 8 times: 8 token requests, no failed call, alive (R110, R183).

    `make chaos` does it a hundred times on each store.
    """
    ground.configure(toolkit)
    seen = await storm(ground, toolkit, instances, rounds=8)
    report(f"storm on {ground.name}: {seen}")
    assert seen.wrong == []
    assert not seen.failed, seen
    assert seen.rounds == seen.token_requests == 8, seen
    assert seen.calls == 8 * 4 * 50
    assert seen.is_alive, seen
