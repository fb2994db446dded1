"""Steps of several refreshes that are committed together: each has its own outcome, and few commits do for many."""

import asyncio
from collections.abc import Sequence

import pytest
from support.stores import VaultPlace
from support.vaults import Clock, tokens_of

from proxy.connectors.audit import Note
from proxy.connectors.refresh.together import Decided, Moment, Step, Together
from proxy.connectors.store import Row
from proxy.errors import StoreError

pytestmark = pytest.mark.usefixtures("runner")
COUNT = "SELECT COUNT(*) AS n FROM audit WHERE action = $1"
PUT = "INSERT INTO notices (notice_id, at, body, attempts, next_at) VALUES ($1, $2, '{}', 0, 0)"


def step(name: str, *, put: str | None = None, fails: bool = False, announces: bool = False) -> Step[int]:
    """Counts what the audit has of ``seen``, and adds a row to it; ``put``: and a notice of that id."""

    def decide(rows: Sequence[Sequence[Row]], at: Moment) -> Decided[int]:
        if fails:
            raise ValueError(name)
        writes = () if put is None else ((PUT, put, round(at.now)),)
        return Decided(int(rows[0][0]["n"]), writes, (Note("test", "seen", name, {}),))

    return Step(name, ((COUNT, "seen"),), decide, announces)


async def test_steps_at_once_share_a_commit(place: VaultPlace) -> None:
    """Forty steps begun together take one commit and one number; all see the state before it, and it is there after."""
    async with place.opened() as vault, place.opened() as other:
        together, before = Together(vault, Clock()), vault.snapshot.sequence
        given = await asyncio.gather(
            *(together.do(step(f"c{at}", announces=at % 2 == 0)) for at in range(40))
        )
        assert given == [0] * 40
        assert vault.snapshot.sequence == before + 1 == await other.store.sequence()
        subjects = [entry.subject for entry in await other.audit() if entry.action == "seen"]
        assert sorted(subjects) == sorted(f"c{at}" for at in range(40))


async def test_a_connections_second_step_sees_its_first(place: VaultPlace) -> None:
    """Two steps of one connection never stand in one commit: the later one reads what the earlier one wrote."""
    async with place.opened() as vault:
        together = Together(vault, Clock())
        assert await asyncio.gather(*(together.do(step("same")) for _ in range(3))) == [0, 1, 2]


async def test_one_steps_fault_is_its_own(place: VaultPlace) -> None:
    """A row that makes no sense, or a statement that contradicts what is stored, fails the step that it belongs to."""
    async with place.opened() as vault:
        together = Together(vault, Clock())
        await together.do(step("first", put="taken"))
        good, bad, double = await asyncio.gather(
            together.do(step("good")),
            together.do(step("bad", fails=True)),
            together.do(step("double", put="taken")),
            return_exceptions=True,
        )
        assert good == 1
        assert isinstance(bad, ValueError)
        assert isinstance(double, StoreError)
        assert double.reason == "conflict"
        assert await together.do(step("after")) == 2


async def test_a_store_that_fails_is_told_to_all_of_a_group(
    place: VaultPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody of a group whose commit failed is told that it is stored; the next group is tried anew (R119)."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", tokens_of())
        together = Together(vault, Clock())

        def fails() -> object:
            raise StoreError("the disk reports an error", reason="io")

        with monkeypatch.context() as broken:
            broken.setattr(vault._store, "transaction", fails)
            told = await asyncio.gather(
                *(together.do(step(f"c{at}")) for at in range(5)), return_exceptions=True
            )
        assert all(isinstance(one, StoreError) for one in told)
        assert await together.do(step("c0")) == 0


async def test_who_is_cancelled_holds_nobody_up(place: VaultPlace) -> None:
    """A step whose asker left before its turn is not taken; those beside it are (R115)."""
    async with place.opened() as vault:
        together = Together(vault, Clock())
        leaving = asyncio.ensure_future(together.do(step("leaves")))
        staying = asyncio.ensure_future(together.do(step("stays")))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 0
        await together.settled()
        assert leaving.cancelled()
        assert [entry.subject for entry in await vault.audit() if entry.action == "seen"] == ["stays"]
