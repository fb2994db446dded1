"""The short version of `make chaos`."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import PLACES
from rounds import SHORT, chaos


@pytest.mark.timeout(180)
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    tmp_path: Path, report: Callable[[str], None]
) -> None:
    """Killed at random and inside refreshes: restarted it goes on, or says honestly why not (R116, R117, R151).

    Both stores, a provider with a grace time and one without; `make chaos` does hundreds of rounds and more kinds.
    """
    seed = random.SystemRandom().randrange(10**6)
    tally = await chaos(SHORT, seed, tmp_path, lambda _: None)
    report(
        f"chaos, seed {seed}: {tally.rounds} kills, {tally.acknowledged} acknowledged writes, lost = {len(tally.losses)}"
    )
    assert tally.losses == [], f"seed {seed}"
    assert {what for what, _ in tally.rows} >= set(PLACES)
    assert tally.rounds == SHORT.random + SHORT.aimed
    strict = [
        row
        for (what, where), row in tally.rows.items()
        if what == "carried out, not answered" and "strict" in where
    ]
    assert all(set(row.outcomes) == {"interrupted"} for row in strict), "a kill inside the window was not one"
    lenient = [row for (_, where), row in tally.rows.items() if "grace" in where]
    assert all(set(row.outcomes) == {"active"} for row in lenient)
