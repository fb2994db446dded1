"""The snapshot in memory, brought forward step by step, is what a process sees that reads everything."""

import asyncio
import random
from pathlib import Path

import pytest
from support.stores import SqlitePlace
from support.vaults import NOW, Clock

from proxy.connectors.model import Tokens
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
SERVICES, NAMES = ("slack", "notion"), ("a", "b", "c")


def seen(vault: Vault) -> tuple[object, ...]:
    """All that can be asked of a snapshot, comparable between processes."""
    of = vault.snapshot
    places = {
        place: (found.connection_id, found.generation, found.access_token.reveal())
        for place, found in of.credentials.items()
    }
    lists = {
        service: [(one.connection, one.credential is None) for one in held.values()]
        for service, held in of.by_service.items()
        if held
    }
    return of.sequence, places, lists, {key: one.connection for key, one in of.held.items()}


async def _step(vault: Vault, chance: random.Random, clock: Clock) -> None:
    service, name = chance.choice(SERVICES), chance.choice(NAMES)
    clock.now += 1
    match chance.randrange(6):
        case 0 | 1 | 2:
            tokens = Tokens(Secret(f"token-{clock.now:.0f}"), None, clock.now + 3600)
            await vault.save_connection(service, name, tokens)
        case 3:
            await vault.remove(service, name)
        case 4:
            await vault.set_default(service, name)
        case _:
            await vault.freeze(service, name, frozen=chance.random() < 0.6)


@pytest.mark.parametrize("seed", range(3))
async def test_step_by_step_is_the_same_as_all_at_once(tmp_path: Path, seed: int) -> None:
    """Connecting, removing, defaults, freezing in any order: this process, one that follows and a new one agree (R89)."""
    chance, clock, place = random.Random(seed), Clock(NOW), SqlitePlace(tmp_path / "place")
    async with place.opened(clock=clock) as vault, place.opened(clock=clock) as follower:
        for turn in range(24):
            try:
                await _step(vault, chance, clock)
            except ConfigurationError:
                continue
            if turn % 3 == 0:
                await follower.catch_up()
                async with place.opened(clock=clock) as fresh:
                    assert seen(vault) == seen(fresh)
                assert seen(follower) == seen(vault)


async def test_changes_at_once_are_all_in_force_when_they_return(tmp_path: Path) -> None:
    """Whoever has made a change finds it in the snapshot, however many others make theirs at the same time."""
    clock, place = Clock(NOW), SqlitePlace(tmp_path / "place")
    async with place.opened(clock=clock) as vault:

        async def connect(name: str) -> None:
            await vault.save_connection("slack", name, Tokens(Secret(f"token-{name}")))
            assert vault.snapshot.find("slack", name) is not None

        await asyncio.gather(*(connect(f"c{number}") for number in range(20)))
        assert len(vault.connections()) == 20
