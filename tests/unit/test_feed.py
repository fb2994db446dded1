"""Requests for onlookers: bounded on every side, complete as far as it goes, and nothing while nobody looks."""

import asyncio
from contextlib import aclosing

import pytest

from proxy import feed
from proxy.accesslog import AccessEvent
from proxy.feed import Batch, Feed, FeedFullError, Tap
from proxy.forwarding.record import Spent

EVENT = AccessEvent(
    1_795_000_000.0, "r-1", "abcd1234", "slack", "work", "GET", "/slack/x?q=canary", 200, 0, 2, 0.01
)
SPENT = Spent(0.001, 0.0, 0.002, 0.003, 0.01)


def told(*numbers: int, missed: int = 0) -> Batch:
    return Batch([{"request_id": str(number)} for number in numbers], missed)


def ids(batch: Batch) -> list[str]:
    return [one["request_id"] for one in batch.requests]


async def test_a_tap_tells_in_batches_without_queries_and_counts_what_is_too_much() -> None:
    """A burst costs one bounded batch; no query value is in it, and the number of those left out is (R155)."""
    came: asyncio.Queue[Batch] = asyncio.Queue()
    tap = Tap(came.put_nowait)
    for _ in range(feed.PER_BATCH + 7):
        tap(EVENT, SPENT)
    batch = await came.get()
    assert (len(batch.requests), batch.missed) == (feed.PER_BATCH, 7)
    assert batch.requests[0]["path"] == "/slack/x"
    assert batch.requests[0]["spent"] == SPENT._asdict()
    assert "canary" not in str(batch)
    tap(EVENT, SPENT)
    tap.close()
    await asyncio.sleep(0)
    assert came.empty()


async def test_nothing_is_kept_while_nobody_looks_on() -> None:
    """Without onlookers nothing is remembered; the first one and the end of the last one are told."""
    heard: asyncio.Queue[bool] = asyncio.Queue()
    one = Feed(linger_s=0.0)
    one.on_watch = heard.put_nowait
    one.take(told(1))
    async with aclosing(one.watch(0, idle_s=60)) as seen:
        assert ids((await anext(seen))[1]) == []
        one.take(told(2, 3))
        assert ids((await anext(seen))[1]) == ["2", "3"]
        assert heard.get_nowait() is True
    assert await heard.get() is False
    assert not one.is_watched


async def test_whoever_comes_back_goes_on_where_it_was() -> None:
    """A browser that reconnects with the last number gets what happened meanwhile, once."""
    one = Feed()
    async with aclosing(one.watch(0, idle_s=60)) as seen:
        await anext(seen)
        one.take(told(1, 2))
        last, _ = await anext(seen)
    one.take(told(3))
    async with aclosing(one.watch(last, idle_s=60)) as seen:
        assert ids((await anext(seen))[1]) == ["3"]
    one.close()


async def test_whoever_is_slow_is_told_how_much_is_gone() -> None:
    """The memory has an end; what fell out of it is counted, as is what a worker left out."""
    one = Feed()
    async with aclosing(one.watch(0, idle_s=60)) as seen:
        await anext(seen)
        one.take(told(*range(feed.REMEMBERED + 30), missed=4))
        _, batch = await anext(seen)
        assert (len(batch.requests), batch.missed) == (feed.REMEMBERED, 34)
    one.close()


async def test_an_idle_feed_says_so_and_a_closed_one_ends() -> None:
    """Onlookers hear an empty batch now and then, so that a gone browser is noticed; closing lets all go."""
    one = Feed()
    async with aclosing(one.watch(0, idle_s=0.0)) as seen:
        assert ids((await anext(seen))[1]) == []
        assert ids((await anext(seen))[1]) == []
        one.close()
        with pytest.raises(StopAsyncIteration):
            await anext(seen)


async def test_onlookers_are_few() -> None:
    """One more than the limit is turned away, and has a place when another leaves."""
    one = Feed()
    seen = [one.watch(0, idle_s=60) for _ in range(feed.VIEWERS)]
    for each in seen:
        await anext(each)
    assert one.is_full
    with pytest.raises(FeedFullError):
        await anext(one.watch(0, idle_s=60))
    await seen.pop().aclose()
    assert not one.is_full
    for each in seen:
        await each.aclose()
    one.close()
