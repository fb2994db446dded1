"""Following a vault that changes, fails and comes back, with a clock that the test moves."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from structlog.testing import capture_logs

from proxy.connectors.snapshot import Snapshot
from proxy.errors import StoreError
from proxy.following import LATE_S, STALE_S, VaultFollower
from proxy.growth import AT_ONCE
from proxy.keys import KeyRecord

KEY = KeyRecord("k1", "one", b"\0" * 32, ("*",))


class Vault:
    """A vault whose store answers or fails as the test says."""

    def __init__(self) -> None:
        self.snapshot = Snapshot(1, keys={"k1": KEY})
        self.next: Snapshot | None = None
        self.broken = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.fault: Exception | None = None
        self.most: int | None = None
        self.used: list[Mapping[str, float]] = []
        self.kept_days = self.ended_days = 0
        self.observed: list[Mapping[tuple[str, ...], int]] = []
        self.called: list[Mapping[tuple[str, ...], int]] = []
        self.head_read = asyncio.Event()
        self.call_begun = asyncio.Event()
        self.listeners: list[Callable[[], None]] = []

    async def catch_up(self) -> None:
        self._fail()
        if self.next is not None:
            self.snapshot, self.next = self.next, None

    async def changed(self, seen: int, poll_s: float) -> int:
        await asyncio.sleep(poll_s / 25)
        return seen

    def listen(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    async def touch_keys(self, used: Mapping[str, float]) -> None:
        await self.may_write.wait()
        self._fail()
        if len(self.used) == self.most:
            raise StoreError("the disk is full", reason="full")
        self.used.append(used)

    async def add_observed(self, counts: Mapping[tuple[str, ...], int]) -> None:
        self._fail()
        self.observed.append(counts)

    async def add_key_calls(self, counts: Mapping[tuple[str, ...], int]) -> None:
        self._fail()
        self.called.append(counts)
        self.call_begun.set()
        await self.may_write.wait()

    async def prune_audit(self, days: int) -> int:
        self._fail()
        self.kept_days = days
        return 0

    async def prune_ended(self, days: int) -> int:
        self._fail()
        self.ended_days = days
        return 0

    async def audit_head(self) -> tuple[int, str] | None:
        self.head_read.set()
        return 7, "ab" * 32

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault
        if self.broken:
            raise StoreError("the disk reports an error", reason="io")


class Scene:
    """A follower of a vault, and what it told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.vault = Vault()
        self.changes = 0
        self.told = asyncio.Event()
        self.on_change_fault: Exception | None = None
        self.uses = {"k1": 5.0}
        self.observed: Mapping[tuple[str, ...], int] = {}
        self.follower = VaultFollower(
            self.vault,
            on_change=self._changed,
            take_uses=lambda: self.uses,
            observed=lambda: self.observed,
            key_calls=lambda: self.observed,
            clock=lambda: self.now,
        )

    def _changed(self) -> None:
        if self.on_change_fault is not None:
            raise self.on_change_fault
        self.changes += 1
        self.told.set()

    def look(self) -> None:
        asyncio.run(self.follower.look())


def test_only_changes_are_told() -> None:
    """Looking at an unchanged vault costs the data path nothing; a new snapshot is told once."""
    scene = Scene()
    scene.look()
    assert scene.changes == 0
    scene.vault.next = Snapshot(2)
    scene.look()
    scene.look()
    assert (scene.changes, dict(scene.follower.keys)) == (1, {})


def test_what_this_process_changes_itself_waits_for_no_look() -> None:
    """A key revoked on the dashboard is refused before the page says so (R89)."""
    scene = Scene()
    scene.vault.snapshot = Snapshot(2)
    for listener in scene.vault.listeners:
        listener()
    assert (scene.changes, dict(scene.follower.keys)) == (1, {})
    scene.look()
    assert scene.changes == 1


def test_keys_outlive_an_outage_but_not_for_ever() -> None:
    """A vault away for a minute keeps its keys in force and is not ready; after five minutes they stop (R153)."""
    scene = Scene()
    scene.look()
    scene.vault.broken = True
    scene.now += 60
    scene.look()
    assert (dict(scene.follower.keys), scene.follower.is_late, scene.changes) == ({"k1": KEY}, True, 0)
    scene.now += STALE_S
    scene.look()
    scene.look()
    assert (dict(scene.follower.keys), scene.changes) == ({}, 1)


def test_a_vault_that_comes_back_is_trusted_again() -> None:
    """The first good look after an outage puts the keys of that moment in force (R150, R153)."""
    scene = Scene()
    scene.vault.broken = True
    scene.now += STALE_S + 1
    scene.look()
    scene.vault.broken = False
    scene.look()
    assert (dict(scene.follower.keys), scene.follower.is_late, scene.changes) == ({"k1": KEY}, False, 2)


def test_a_short_failure_is_no_outage() -> None:
    """One busy moment of the store changes neither readiness nor keys."""
    scene = Scene()
    scene.vault.broken = True
    scene.now += LATE_S - 1
    scene.look()
    assert (scene.follower.is_late, scene.changes) == (False, 0)


def test_a_fault_of_ours_is_an_outage_and_not_the_end() -> None:
    """An unexpected failure while following is logged once, stops the keys in time, and passes (R89, R140, R153)."""
    scene = Scene()

    async def told(change: Callable[[], None]) -> Mapping[str, KeyRecord]:
        scene.told.clear()
        change()
        await scene.told.wait()
        return dict(scene.follower.keys)

    def break_it() -> None:
        scene.vault.fault = KeyError("a secret")
        scene.now += STALE_S + 1

    def mend_it() -> None:
        scene.vault.fault = None

    async def story() -> None:
        following = asyncio.create_task(scene.follower.follow())
        assert await told(break_it) == {}
        assert await told(mend_it) == {"k1": KEY}
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    with capture_logs() as logged:
        asyncio.run(story())
    assert [one["event"] for one in logged] == [
        "vault_following_failed",
        "vault_unreadable",
        "vault_keys_suspended",
        "vault_readable_again",
    ]
    assert "a secret" not in str(logged)


def test_a_change_that_could_not_be_taken_over_is_told_again() -> None:
    """Until callers meet what the vault has, it is not called read, and is told at each look (R89)."""
    scene = Scene()
    scene.vault.next = Snapshot(2)
    scene.on_change_fault = RuntimeError("no table")
    scene.now += LATE_S + 1
    with pytest.raises(RuntimeError):
        scene.look()
    assert scene.follower.is_late
    scene.on_change_fault = None
    scene.look()
    assert (scene.changes, scene.follower.is_late) == (1, False)


def test_uses_are_written_and_a_failing_store_costs_only_them() -> None:
    """Last uses reach the vault; when it cannot take them, nothing else suffers."""
    scene = Scene()
    asyncio.run(scene.follower.write_uses())
    scene.vault.broken = True
    asyncio.run(scene.follower.write_uses())
    assert scene.vault.used == [{"k1": 5.0}]


def test_uses_of_many_keys_are_written_in_lots() -> None:
    """Other writers get their turn in between, and what a store did not take is written the next time, before it."""
    scene = Scene()
    scene.observed = {("k1", "slack", "GET", "/a"): 1}
    scene.uses = {f"k{number}": 5.0 for number in range(AT_ONCE * 2 + 1)}
    scene.vault.most = 1
    asyncio.run(scene.follower.write_uses())
    assert [len(one) for one in scene.vault.used] == [AT_ONCE]
    assert scene.vault.called == [scene.observed], "counts do not wait for last uses"
    scene.vault.most, scene.uses = None, {"k0": 6.0}
    asyncio.run(scene.follower.write_uses())
    assert [len(one) for one in scene.vault.used] == [AT_ONCE, AT_ONCE, 2]
    written = {key: when for one in scene.vault.used for key, when in one.items()}
    assert written == {**{f"k{number}": 5.0 for number in range(AT_ONCE * 2 + 1)}, "k0": 6.0}


def test_counts_whose_writing_takes_long_are_added_once() -> None:
    """Who stops waiting does not stop the commit, so what it added is known and never added again."""
    scene = Scene()
    call = ("k1", "slack", "GET", "/a")

    async def story() -> None:
        scene.vault.may_write.clear()
        scene.observed = {call: 2}
        first = asyncio.create_task(scene.follower.write_uses())
        await scene.vault.call_begun.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        scene.observed = {call: 3}
        second = asyncio.create_task(scene.follower.write_uses())
        await asyncio.sleep(0)
        scene.vault.may_write.set()
        await second

    asyncio.run(story())
    assert scene.vault.called == [{call: 2}, {call: 1}]


def test_the_end_does_not_wait_for_a_store_that_hangs() -> None:
    """What is under way when the server ends is cut off, and nothing of it is left running."""
    scene = Scene()

    async def story() -> None:
        scene.vault.may_write.clear()
        scene.observed = {("k1", "slack", "GET", "/a"): 2}
        await scene.follower.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_the_audit_is_dropped_by_age_and_its_head_is_logged() -> None:
    """At the start, and then daily: what is older than the setting goes, and the log keeps where the chain stands (R157)."""
    scene = Scene()

    async def once() -> None:
        task = asyncio.create_task(scene.follower.prune(123))
        await scene.vault.head_read.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with capture_logs() as told:
        asyncio.run(once())
    assert (scene.vault.kept_days, scene.vault.ended_days) == (123, 123)
    assert [(one["event"], one["head"]) for one in told] == [("audit_chain", "7:" + "ab" * 32)]


def test_what_was_observed_is_kept_once_even_if_the_store_fails() -> None:
    """Counts since the start are carried over as what they grew by; a store that fails gets them the next time."""
    scene = Scene()
    call, other = ("k1", "slack", "GET", "/a"), ("k1", "slack", "GET", "/b")

    def write() -> None:
        asyncio.run(scene.follower.write_uses())

    scene.observed = {call: 2}
    write()
    write()
    scene.vault.broken = True
    scene.observed = {call: 5, other: 1}
    write()
    scene.vault.broken = False
    scene.observed = {call: 6, other: 1}
    write()
    assert scene.vault.observed == scene.vault.called == [{call: 2}, {call: 4, other: 1}]
