"""A provider's answer that only the journal has: it is found before the spent token is sent again."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.providers.scripted import CLIENT_ID, CLIENT_SECRET, Scripted
from support.refreshing import (
    LIFE,
    Process,
    Scene,
    answered_without_store,
    catalog_of,
    journal,
    scene,
    without,
)
from support.stores import SqlitePlace, VaultPlace
from support.vaults import MASTER, Clock

from proxy import app, log
from proxy.assembly.inforce import catalog_of as services_of
from proxy.connectors.refresh.owner import Owner, this_process
from proxy.settings import load_settings

pytestmark = pytest.mark.usefixtures("runner")
GONE = replace(this_process(), start=this_process().start - 1)
SETTINGS = """[services]
directory = "services"
enabled = ["scripted"]
[registrations.scripted]
client_id = "{client_id}"
client_secret = {{ env = "SCRIPTED_SECRET" }}
[storage]
data_dir = "{folder}"
[data]
listen = ["127.0.0.1:0"]
[control]
listen = ["127.0.0.1:0"]
"""


async def left_by(on: Scene, owner: Owner) -> None:
    """This process has got an answer while the store was away, and was stopped: the journal has it."""
    async with on.process(owner=owner) as earlier:
        later, on.first = on.first, earlier
        async with answered_without_store(on):
            await earlier.refresher.close(grace_s=0.0)
        on.first = later
    assert len(journal(on.place)) == 1


@asynccontextmanager
async def interrupted(place: VaultPlace, owner: Owner = GONE) -> AsyncIterator[tuple[Scene, Process]]:
    """A new process on what that owner has left; the stored token has ended."""
    async with scene(place) as on:
        await left_by(on, owner)
        async with on.process() as later:
            yield on, later


def started(pid: int) -> int:
    """When that process was started, as the kernel tells it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def served_once(on: Scene) -> None:
    """One request was made in all, what it brought is stored, and nothing is left to save or to end."""
    assert on.spent() == ["spend-0"]
    assert on.row("generation, state", "connections") == ["2", "active"]
    assert on.row("owner, attempt_id") == ["", ""]
    assert journal(on.place) == []


async def test_a_caller_who_comes_before_anything_was_replayed(place: VaultPlace) -> None:
    """The first act of a new process is a call: it is given the journal's answer, nothing is spent (R110, R117, R118)."""
    async with interrupted(place) as (on, later):
        assert await asyncio.gather(later.token(), later.token()) == ["access-1"] * 2
        served_once(on)
        on.clock.now += LIFE
        assert await later.token() == "access-2"
        assert on.spent() == ["spend-0", "refresh-1"]


async def test_a_process_that_dies_while_others_wait_for_it(place: VaultPlace) -> None:
    """Who waits on its lease takes over what it left in the journal, not the token that it spent (R110, R118)."""
    child = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        owner = replace(this_process(), pid=child.pid, start=started(child.pid))
        async with interrupted(place, owner) as (on, later):
            waiting = asyncio.create_task(later.token())
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            assert not done
            child.kill()
            await child.wait()
            assert await waiting == "access-1"
            served_once(on)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_many_who_find_the_same_answer(place: VaultPlace) -> None:
    """Schedules and callers of several processes come upon it at once: it is saved once and spoils nothing (R110, R118)."""
    async with interrupted(place) as (on, later), on.process() as other:
        turns = (later.refresher.look(), other.refresher.look())
        tokens = await asyncio.gather(later.token(), other.token(), *turns)
        assert tokens[:2] == ["access-1"] * 2
        served_once(on)


async def test_a_store_that_is_busy_holds_up_no_start(tmp_path: Path) -> None:
    """A start waits for the journal a few seconds at most; the answer is saved when the store is there again (R118)."""
    async with interrupted(SqlitePlace(tmp_path / "place")) as (on, later):
        with closing(sqlite3.connect(on.place.folder / "vault.db", isolation_level=None)) as blocking:
            blocking.execute("BEGIN IMMEDIATE")
            schedule = asyncio.create_task(later.refresher.run())
            await later.refresher.begun(patience_s=0.1)
            assert len(journal(on.place)) == 1
            blocking.execute("ROLLBACK")
        await later.refresher.begun(patience_s=30)
        schedule.cancel()
        await asyncio.gather(schedule, return_exceptions=True)
        assert await later.token() == "access-1"
        served_once(on)


async def test_a_server_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it accepts a request, what the journal had is in the vault (R118)."""
    place = SqlitePlace(tmp_path / "place")
    async with Scripted().running() as provider:
        on = Scene(place, provider, catalog_of(provider), Clock(time.time() - 2 * LIFE), Clock(1000.0))
        async with on.process() as on.first:
            await left_by(on, GONE)
        (tmp_path / "services").mkdir()
        (tmp_path / "services" / "scripted.toml").write_text(provider.service_file())
        path = tmp_path / "proxy.toml"
        path.write_text(SETTINGS.format(client_id=CLIENT_ID, folder=place.folder))
        monkeypatch.setenv("SCRIPTED_SECRET", CLIENT_SECRET)
        monkeypatch.setenv("CONNECTOR_PROXY_MASTER_KEY", MASTER.reveal())
        settings = load_settings(path, os.environ)
        output = log.configure("json", "error")
        async with app.opened(settings, services_of(settings), output) as server:
            await server.start()
            served_once(on)
            assert await server.drain(10)


async def test_a_stop_while_the_store_is_away_and_all_threads_are_busy(place: VaultPlace) -> None:
    """An answer that comes during the stop is in the journal when the process ends, whoever was to write it (R115, R118)."""
    release = threading.Event()
    async with scene(place) as on:
        caller, gate = await on.under_way()
        with without(place, "connections"):
            busy = [asyncio.create_task(asyncio.to_thread(release.wait)) for _ in range(64)]
            try:
                closing_down = asyncio.create_task(on.first.refresher.close())
                gate.set()
                await closing_down
                assert await caller == "access-1"
                assert len(journal(place)) == 1
            finally:
                release.set()
                await asyncio.gather(*busy)
        async with on.process() as later:
            await later.refresher.look()
            assert await later.token() == "access-1"
        served_once(on)
