"""What refreshing costs those who do not need it, and how much of it runs at once."""

import asyncio
from pathlib import Path

import pytest
from support.providers.scripted import held
from support.refreshing import LIFE, scene
from support.stores import SqlitePlace

from proxy.connectors.module import Connectors
from proxy.connectors.refresh.gates import AT_ONCE, AT_ONCE_A_SERVICE, Gates

pytestmark = pytest.mark.usefixtures("runner")


class Untouchable:
    """Stands in for the store: whoever looks at it fails the test."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the store was asked for {name}")


async def test_a_fresh_token_costs_no_store_lock_or_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 times the token and 1,000 times get_connection: no look into the store, no lock, no thread, no task (R131)."""
    async with scene(SqlitePlace(tmp_path / "place")) as on:
        await on.connect()
        connectors = Connectors(on.catalog, {}, on.first.source)

        def fail(*_: object, **__: object) -> object:
            raise AssertionError("a fresh token needs none of this")

        with monkeypatch.context() as patched:
            patched.setattr(on.first.vault, "_store", Untouchable())
            patched.setattr(asyncio.Lock, "acquire", fail)
            patched.setattr(type(asyncio.get_running_loop()), "run_in_executor", fail)
            patched.setattr(type(asyncio.get_running_loop()), "create_task", fail)
            first = on.first.ready()
            assert first is not None
            for _ in range(1000):
                assert on.first.ready() is first
                assert (await connectors.get_connection("scripted")).access_token == "old-0"
        assert on.spent() == []


async def test_a_service_that_refuses_everything_costs_no_store_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its one refresh a minute, refusals are answered from memory, and ordinary refreshes go on (R127)."""
    async with scene(SqlitePlace(tmp_path / "place")) as on:
        await on.connect()
        source, first = on.first.source, on.first.ready()
        assert first is not None
        newer = await source.refused(first)
        assert newer is not None
        assert await source.refused(newer) is None
        with monkeypatch.context() as patched:
            patched.setattr(on.first.vault, "_store", Untouchable())
            for _ in range(100):
                assert await source.refused(newer) is None
        on.clock.now += LIFE
        assert await on.first.token() == "access-2"


async def test_a_token_in_its_margin_starts_one_task(tmp_path: Path) -> None:
    """However many requests pass in the margin, one refresh is begun, and after its failure none until its wait is over."""
    gate = asyncio.Event()
    async with scene(SqlitePlace(tmp_path / "place")) as on:
        await on.connect()
        on.provider.answer(held(gate))
        on.clock.now += LIFE - 100
        before = len(asyncio.all_tasks())
        for _ in range(1000):
            assert on.first.ready() is not None
        assert len(asyncio.all_tasks()) == before + 1
        gate.set()
        await on.first.settled()
        assert len(on.spent()) == 1


async def test_many_tokens_that_end_together_make_no_storm(tmp_path: Path) -> None:
    """40 connections of one service are due at once: so many requests at a time and no more; a caller goes first (R124)."""
    gates = [asyncio.Event() for _ in range(40)]
    async with scene(SqlitePlace(tmp_path / "place")) as on:
        for number in range(40):
            await on.connect(number, name=f"c{number}")
        on.provider.answer(*(held(gate) for gate in gates))
        on.clock.now += LIFE - 100
        for number in range(40):
            assert on.first.source.ready("scripted", f"c{number}") is not None
        await on.provider.wait(AT_ONCE_A_SERVICE)
        await asyncio.sleep(0.1)
        assert len(on.spent()) == AT_ONCE_A_SERVICE
        on.clock.now += 100
        caller = asyncio.create_task(on.first.source.obtain("scripted", "c39"))
        await asyncio.sleep(0.5)  # until it waits, also on a slow machine
        gates[0].set()
        await on.provider.wait(AT_ONCE_A_SERVICE + 1)
        assert on.spent()[-1] == "spend-39", "whoever waits is served before what is only due"
        for gate in gates:
            gate.set()
        await caller
        await on.first.settled()
        assert len(on.spent()) == len(set(on.spent())) == 40


async def test_ten_thousand_wait_in_turn() -> None:
    """10,000 at once through the gates: never more than the bounds, all come through, hurried ones first (R124)."""
    gates, inside, most, order = Gates(), {"all": 0}, {"all": 0}, []

    async def one(service: str, name: str) -> None:
        async with gates.place(service, name):
            for key in ("all", service):
                inside[key] = inside.get(key, 0) + 1
                most[key] = max(most.get(key, 0), inside[key])
            await asyncio.sleep(0)
            order.append(name)
            for key in ("all", service):
                inside[key] -= 1

    tasks = [asyncio.create_task(one(f"s{n % 20}", f"c{n}")) for n in range(10_000)]
    await asyncio.sleep(0)
    gates.hurry("s19", "c9999")
    await asyncio.gather(*tasks)
    assert len(set(order)) == 10_000
    assert order.index("c9999") < 1000
    assert most.pop("all") <= AT_ONCE
    assert max(most.values()) <= AT_ONCE_A_SERVICE
    assert not any(inside.values())


async def test_one_who_gives_up_leaves_no_place_taken() -> None:
    """Tasks cancelled while they wait, or just as their turn comes, give their place to the next."""
    gates, entered = Gates(at_once=1, a_service=1), []

    async def one(name: str) -> None:
        async with gates.place("s", name):
            entered.append(name)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(one(f"c{n}")) for n in range(10)]
    await asyncio.sleep(0)
    for task in tasks[1:9]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(20):
        await one("last")
    assert entered == ["c0", "c9", "last"]
