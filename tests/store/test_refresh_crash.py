"""kill -9 inside the refresh window: what the next process finds, and does."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from support.providers.scripted import error
from support.refreshing import LIFE, Scene, scene
from support.stores import SqlitePlace, VaultPlace

from proxy.errors import ReauthorizationRequired

pytestmark = pytest.mark.usefixtures("runner")
TESTS = Path(__file__).parents[1]
SENT = {"claimed": 0, "answered": 1, "saving": 1, "saved": 1}


async def killed_at(on: Scene, point: str) -> None:
    """Another process begins the refresh of the token, which has ended, and is killed at this point."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.crashing",
        point,
        on.provider.origin,
        str(on.clock()),
        cwd=TESTS,
        env={**os.environ, **on.place.environment},
    )
    assert await child.wait() == -signal.SIGKILL
    assert len(on.spent()) == SENT[point]


@pytest.mark.parametrize("point", ["claimed", "answered", "saving"])
async def test_killed_before_the_commit(tmp_path: Path, point: str) -> None:
    """The intent is there; the next process tries once, since the living token has ended, and goes on (R116, R117, R151)."""
    async with scene(SqlitePlace(tmp_path / "place")) as on:
        await on.connect()
        on.clock.now += LIFE
        await killed_at(on, point)
        assert on.row("fence, attempt_generation, unknowns") == ["1", "1", "0"]
        number = SENT[point] + 1
        assert await on.first.token() == f"access-{number}"
        assert on.spent() == ["spend-0"] * number
        assert on.row("generation, state", "connections") == ["2", "active"]


async def test_killed_before_the_commit_of_a_single_use_token(place: VaultPlace) -> None:
    """The provider does not take the spent token again: one request, one honest state, no loop (R117)."""
    async with scene(place) as on:
        await on.connect()
        on.clock.now += LIFE
        await killed_at(on, "answered")
        on.provider.answer(error("invalid_grant"))
        for _ in range(3):
            with pytest.raises(ReauthorizationRequired):
                await on.first.token()
        assert on.spent() == ["spend-0"] * 2
        assert on.row("state, cause", "connections") == ["reauthorization_required", "refresh_interrupted"]


async def test_killed_after_the_commit(place: VaultPlace) -> None:
    """What was committed is there: the next process serves it and asks nobody (R113, R151)."""
    async with scene(place) as on:
        await on.connect()
        on.clock.now += LIFE
        await killed_at(on, "saved")
        assert await on.first.token() == "access-1"
        assert on.spent() == ["spend-0"]
        assert on.row("owner, attempt_id") == ["", ""]
