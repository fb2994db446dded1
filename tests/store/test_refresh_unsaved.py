"""Stores that fail around a refresh: nothing is spent without one, and nothing that was given is lost."""

import asyncio
import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest
from support.providers.scripted import busy
from support.refreshing import LIFE, Process, answered_without_store, journal, scene, without
from support.stores import SqlitePlace, VaultPlace

from proxy.connectors.model import Tokens
from proxy.connectors.seal import key_id_of
from proxy.errors import RefreshFailed
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


async def told(process: Process, outcome: str) -> None:
    """Until the process has reported this."""
    async with asyncio.timeout(10):
        while outcome not in process.outcomes:  # noqa: ASYNC110  # events are a list on purpose
            await asyncio.sleep(0.01)


async def test_nothing_is_spent_while_the_store_cannot_be_written(place: VaultPlace) -> None:
    """No intent can be stored: the living token serves, no request is made, then callers are told to wait (R119)."""
    async with scene(place) as on:
        await on.connect()
        with without(place, "refreshes"):
            on.clock.now += LIFE - 100
            assert on.first.ready() is not None
            await on.first.settled()
            assert await on.first.token() == "old-0"
            on.clock.now += 100
            with pytest.raises(RefreshFailed, match="cannot be written") as caught:
                await on.first.token()
            assert caught.value.retry_after is not None
        assert on.spent() == []
        assert on.first.outcomes[0] == "store_failed"
        on.clock.now += 2
        on.steady.now += 2
        assert await on.first.token() == "access-1"


async def test_an_answer_that_cannot_be_saved_is_served_and_saved_later(place: VaultPlace) -> None:
    """Callers are served from memory and a sealed journal holds it; once the store is back it is saved once (R118)."""
    async with scene(place) as on:
        async with answered_without_store(on):
            ready = on.first.ready()
            assert ready is not None
            assert ready.access_token == Secret("access-1")
            async with asyncio.timeout(20):
                while not journal(place):  # noqa: ASYNC110  # a thread writes it
                    await asyncio.sleep(0.01)
            (file,) = journal(place)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            blob = file.read_bytes()
            assert key_id_of(blob) == on.first.vault.data_keys.ring.active
            assert b"access-1" not in blob
            assert b"refresh-1" not in blob
        await told(on.first, "saved_late")
        assert journal(place) == []
        assert on.first.outcomes == ["refreshed_unsaved", "saved_late"]
        assert on.row("generation, state", "connections") == ["2", "active"]
        assert on.row("owner, attempt_id") == ["", ""]
        assert await on.first.token() == "access-1"
        on.clock.now += LIFE
        assert await on.first.token() == "access-2"
        assert on.spent() == ["spend-0", "refresh-1"]


async def test_an_answer_that_cannot_be_saved_survives_the_process(place: VaultPlace) -> None:
    """The process ends before the store is back: the next one replays the journal before anything is spent (R118)."""
    async with scene(place) as on:
        async with answered_without_store(on):
            async with asyncio.timeout(20):
                while not journal(place):  # noqa: ASYNC110  # a thread writes it
                    await asyncio.sleep(0.01)
            await on.first.refresher.close(grace_s=0.0)
        async with on.process() as later:
            await later.refresher.look()
            assert journal(place) == []
            assert await later.token() == "access-1"
            await later.refresher.look()
        assert on.spent() == ["spend-0"]
        assert on.row("generation", "connections") == ["2"]


async def test_a_process_that_is_stopped_while_saving_leaves_a_journal(tmp_path: Path) -> None:
    """Cut off in the middle of the commit: the answer is in the journal when the process is gone (R115, R118)."""
    place = SqlitePlace(tmp_path / "place")
    async with scene(place) as on:
        caller, gate = await on.under_way()
        with contextlib.closing(sqlite3.connect(place.folder / "vault.db", isolation_level=None)) as blocking:
            blocking.execute("BEGIN IMMEDIATE")
            gate.set()
            await asyncio.sleep(0.2)
            closing = asyncio.create_task(on.first.refresher.close(grace_s=0.0))
            await asyncio.sleep(0.1)
            blocking.execute("ROLLBACK")
        await closing
        await asyncio.gather(caller, return_exceptions=True)
        assert len(journal(place)) == 1
        async with on.process() as later:
            await later.refresher.look()
            assert await later.token() == "access-1"
        assert on.spent() == ["spend-0"]


async def test_a_journal_that_comes_too_late_is_dropped(place: VaultPlace) -> None:
    """The person has connected again since: the kept answer changes nothing and is forgotten (R118, R132)."""
    async with scene(place) as on:
        async with answered_without_store(on):
            await asyncio.sleep(0.1)
            await on.first.refresher.close(grace_s=0.0)
        assert len(journal(place)) == 1
        new = Tokens(Secret("old-new"), Secret("spend-new"), on.clock() + LIFE, on.clock())
        await on.first.vault.save_connection("scripted", "main", new, registration="scripted")
        async with on.process() as later:
            await later.refresher.look()
            assert journal(place) == []
            assert await later.token() == "old-new"


async def test_a_journal_of_a_removed_connection_is_dropped(place: VaultPlace) -> None:
    """Nothing comes back to life out of the journal (R118, R132)."""
    async with scene(place) as on:
        async with answered_without_store(on):
            await asyncio.sleep(0.1)
            await on.first.refresher.close(grace_s=0.0)
        await on.first.vault.remove("scripted", "main")
        async with on.process() as later:
            await later.refresher.look()
            assert (journal(place), later.vault.connections()) == ([], ())


async def test_a_damaged_journal_stops_nothing(tmp_path: Path) -> None:
    """Files that do not open stay where they are, and the others are replayed (R140)."""
    place = SqlitePlace(tmp_path / "place")
    async with scene(place) as on:
        async with answered_without_store(on):
            await asyncio.sleep(0.1)
            await on.first.refresher.close(grace_s=0.0)
        (file,) = journal(place)
        moved = file.with_name(file.name.replace(".1.att_", ".2.att_"))
        moved.write_bytes(file.read_bytes())
        (file.parent / "con_x.1.att_y").write_bytes(b"\x01short")
        (file.parent / "notes.txt").write_text("not ours")
        async with on.process() as later:
            await later.refresher.look()
            assert await later.token() == "access-1"
        assert [one.name for one in journal(place)] == sorted([moved.name, "con_x.1.att_y", "notes.txt"])


async def test_a_failure_that_cannot_be_noted(place: VaultPlace) -> None:
    """The store is away when the provider says no: nobody takes that attempt for one of unknown end later (R120)."""
    async with scene(place) as on:
        caller, gate = await on.under_way(busy(503, None))
        with without(place, "refreshes"):
            gate.set()
            with pytest.raises(RefreshFailed):
                await caller
        on.clock.now += 31
        on.steady.now += 31
        assert await on.first.token() == "access-1"
        assert on.row("owner, unknowns, fence") == ["", "0", "2"]
