"""One suite that every store passes; a store is added by adding its place to the fixture ``place``."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from support.stores import VaultPlace

from proxy.connectors.sqlite import SqliteStore
from proxy.connectors.store import MIGRATIONS, Store, migrate, next_sequence
from proxy.errors import StateError, StoreError

pytestmark = pytest.mark.usefixtures("runner")
Opener = Callable[[], AbstractAsyncContextManager[Store]]
AUDIT = (
    "INSERT INTO audit (audit_id, at, actor, action, subject, detail) VALUES ($1, $2, 'a', 'b', 'c', '{}')"
)


def _sqlite(folder: Path) -> Opener:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        store = await SqliteStore.open(folder)
        try:
            yield store
        finally:
            await store.close()

    return opened


@pytest.fixture
def opener(place: VaultPlace) -> Opener:
    """Opens the same database each time it is called; the test runs on every store."""
    return place.store


async def _ids(store: Store) -> list[str]:
    async with store.snapshot() as reading:
        return [
            row["audit_id"] for row in await reading.fetch("SELECT audit_id FROM audit ORDER BY audit_id")
        ]


async def test_a_commit_survives_closing(opener: Opener) -> None:
    """What a transaction wrote is there for the next opening; rows are addressed by column name."""
    async with opener() as store, store.transaction() as writing:
        assert await writing.execute(AUDIT, "one", 2**40) == 1
    async with opener() as store, store.snapshot() as reading:
        rows = await reading.fetch(
            "SELECT at, audit_id FROM audit WHERE at = $1 AND audit_id = $2", 2**40, "one"
        )
    assert [(row["audit_id"], row["at"]) for row in rows] == [("one", 2**40)]


async def test_parameters_may_repeat_and_change_order(opener: Opener) -> None:
    """``$2, $1, $2`` mean what they say."""
    async with opener() as store, store.snapshot() as reading:
        rows = await reading.fetch("SELECT $2 AS a, $1 AS b, $2 AS c", "one", "two")
    assert [tuple(row[name] for name in "abc") for row in rows] == [("two", "one", "two")]


async def test_an_exception_rolls_back(opener: Opener) -> None:
    """A block that raises leaves nothing, and the next one works."""
    async with opener() as store:

        async def change_my_mind() -> None:
            async with store.transaction() as writing:
                await writing.execute(AUDIT, "lost", 1)
                raise RuntimeError("changed my mind")

        with pytest.raises(RuntimeError, match="changed my mind"):
            await change_my_mind()
        async with store.transaction() as writing:
            await writing.execute(AUDIT, "kept", 1)
        assert await _ids(store) == ["kept"]


async def test_a_cancelled_transaction_rolls_back(opener: Opener) -> None:
    """A task cancelled between statements leaves nothing and no lock behind."""
    async with opener() as store:
        written = asyncio.Event()

        async def write() -> None:
            async with store.transaction() as writing:
                await writing.execute(AUDIT, "lost", 1)
                written.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store.transaction() as writing:
            await writing.execute(AUDIT, "kept", 1)
        assert await _ids(store) == ["kept"]


async def test_a_snapshot_sees_one_state(opener: Opener) -> None:
    """Commits made while a snapshot is open are not seen in it, and do not wait for it (R146)."""
    async with opener() as store:
        async with store.snapshot() as reading:
            before = await reading.fetch("SELECT COUNT(*) AS n FROM audit")
            async with store.transaction() as writing:
                await writing.execute(AUDIT, "new", 1)
            after = await reading.fetch("SELECT COUNT(*) AS n FROM audit")
        assert (before[0]["n"], after[0]["n"]) == (0, 0)
        assert await _ids(store) == ["new"]


async def test_a_conflict_is_told_as_one(opener: Opener) -> None:
    """A broken constraint is a StoreError of reason ``conflict`` that repeats no value."""
    async with opener() as store:

        async def put_twice() -> None:
            async with store.transaction() as writing:
                await writing.execute(AUDIT, "canary-value", 1)
                await writing.execute(AUDIT, "canary-value", 1)

        with pytest.raises(StoreError) as caught:
            await put_twice()
        assert (caught.value.reason, await _ids(store)) == ("conflict", [])
        assert "canary-value" not in str(caught.value)


async def test_two_handles_see_each_others_changes_in_order(opener: Opener) -> None:
    """Changes from 2 handles x 8 tasks: numbers are without gap or double, and both see the last (R148)."""
    async with opener() as one, opener() as two:

        async def change(store: Store, name: str) -> list[int]:
            numbers = []
            for at in range(5):
                async with store.transaction() as writing:
                    numbers.append(await next_sequence(writing))
                    await writing.execute(AUDIT, f"{name}-{at}", 1)
            return numbers

        jobs = [change(store, f"{id(store)}-{task}") for store in (one, two) for task in range(8)]
        numbers = sorted(number for part in await asyncio.gather(*jobs) for number in part)
        assert numbers == list(range(1, 81))
        assert (await one.sequence(), await two.sequence()) == (80, 80)
        assert len(await _ids(two)) == 80


async def test_a_look_tells_what_changed_and_reads_only_then(opener: Opener) -> None:
    """One call gives the latest change's number, and rows of that state unless it is the number known (R89)."""
    async with opener() as one, opener() as two:
        asked = ("SELECT audit_id FROM audit ORDER BY audit_id",), ("SELECT $1 + 1 AS n", 41)
        async with one.transaction() as writing:
            number = await next_sequence(writing)
            touched = await writing.execute_each(
                (AUDIT, "a", 1), (AUDIT, "b", 2), ("DELETE FROM audit WHERE at > 5",), ("DELETE FROM audit",)
            )
            await writing.execute_each((AUDIT, "c", 1), (AUDIT, "d", 2))
        assert touched == (1, 1, 0, 2)
        found, rows = await two.look(number - 1, *asked)
        assert (found, [[dict(row) for row in part] for part in rows]) == (
            number,
            [[{"audit_id": "c"}, {"audit_id": "d"}], [{"n": 42}]],
        )
        assert await two.look(number, *asked) == (number, ())


async def test_opening_twice_changes_nothing(opener: Opener) -> None:
    """The schema is brought forward once; a second opening leaves version and data as they are (R149)."""
    async with opener() as store, store.transaction() as writing:
        await next_sequence(writing)
    async with opener() as store:
        assert await store.sequence() == 1
        async with store.snapshot() as reading:
            rows = await reading.fetch("SELECT version, oldest_release FROM schema_version")
        assert [(row["version"], row["oldest_release"]) for row in rows] == [(len(MIGRATIONS), 1)]


async def test_a_broken_migration_leaves_the_old_schema(opener: Opener) -> None:
    """A migration that fails half-way leaves version and tables as they were (R149)."""
    later = (*MIGRATIONS, ("CREATE TABLE half (id INTEGER)", "CREATE TABLE audit (id INTEGER)"))
    async with opener() as store:
        with pytest.raises(StoreError):
            async with store.transaction() as writing:
                await migrate(writing, later)
        async with store.snapshot() as reading:
            rows = await reading.fetch("SELECT version FROM schema_version")
        with pytest.raises(StoreError):
            async with store.snapshot() as reading:
                await reading.fetch("SELECT id FROM half")
        assert rows[0]["version"] == len(MIGRATIONS)


async def test_an_expanded_schema_is_shared_a_contracted_one_refused(opener: Opener) -> None:
    """A release runs on the schema of the next one until that says otherwise, then it says what to do (R149)."""
    later = (*MIGRATIONS, ("CREATE TABLE more (id INTEGER)",))
    async with opener() as store, store.transaction() as writing:
        assert await migrate(writing, later, oldest_release=len(MIGRATIONS)) == len(later)
    async with opener() as store, store.transaction() as writing:
        await writing.execute("UPDATE schema_version SET oldest_release = $1", len(later))
    with pytest.raises(StateError, match="install the newer release again"):
        async with opener():
            pytest.fail("an old release opened a schema that it cannot use")


async def test_scrub_succeeds_when_nobody_reads(opener: Opener) -> None:
    """Without other readers erased bytes go at once (R144)."""
    async with opener() as store:
        async with store.transaction() as writing:
            await writing.execute(AUDIT, "gone", 1)
        assert await store.scrub()


WRITER = """
    import asyncio, os, sys
    from support.stores import place_of

    async def main():
        store = await place_of(os.environ).connect()
        number = 0
        while True:
            number += 1
            async with store.transaction() as writing:
                await writing.execute(
                    "INSERT INTO audit (audit_id, at, actor, action, subject, detail) "
                    "VALUES ($1, $2, 'a', 'b', 'c', '{}')", f"{sys.argv[1]}-{number:06}", number)
            sys.stdout.write(f"{sys.argv[1]}-{number:06}\\n")
            sys.stdout.flush()

    asyncio.run(main())
"""


def test_kill_at_any_moment_loses_nothing_acknowledged(place: VaultPlace, runner: asyncio.Runner) -> None:
    """Kill -9 while writing: every acknowledged row is there, integrity is ok, no manual step (R151)."""
    acknowledged: set[str] = set()
    for turn, wanted in enumerate((1, 7, 23, 40)):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(turn)]
        environment = {"PYTHONPATH": ":".join(sys.path), **place.environment}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            assert writer.stdout is not None
            for _ in range(wanted):
                acknowledged.add(writer.stdout.readline().strip())
            writer.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in writer.stdout if line.endswith("\n"))

    async def found() -> set[str]:
        async with place.store() as store:
            return set(await _ids(store))

    assert len(acknowledged) >= 71
    assert acknowledged <= runner.run(found())
    if place.kind == "sqlite":
        assert place.run("PRAGMA integrity_check") == "ok\n"


FULL = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from proxy.connectors.sqlite import SqliteStore
    from proxy.errors import StoreError

    ROW = "INSERT INTO audit (audit_id, at, actor, action, subject, detail) VALUES ($1, 1, 'a', 'b', 'c', $2)"

    async def main():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = await SqliteStore.open(Path(sys.argv[1]))
        kept = []

        async def put(name):
            async with store.transaction() as writing:
                await writing.execute(ROW, name, "x" * 100_000)
            kept.append(name)

        await put("before")
        await store.sequence()
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        reasons = []
        for at in range(3):
            try:
                await put(f"refused-{at}")
            except StoreError as error:
                reasons.append(error.reason)
        async with store.snapshot() as reading:
            during = [row["audit_id"] for row in await reading.fetch("SELECT audit_id FROM audit")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await put("after")
        await store.close()
        print(reasons, during, kept)

    asyncio.run(main())
"""


def test_a_full_disk_is_an_error_that_passes(tmp_path: Path) -> None:
    """While files cannot grow writing fails with a reason and reading goes on; then both work again (R150)."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    reasons, rest = done.stdout.strip().split("] ", 1)
    assert set(reasons.strip("[").replace("'", "").split(", ")) <= {"full", "io"}
    assert rest == "['before'] ['before', 'after']"


async def test_sqlite_settings(tmp_path: Path) -> None:
    """WAL, synchronous=FULL, foreign keys and secure_delete are on for the handle that writes (R144, R146)."""
    async with _sqlite(tmp_path / "data")() as store, store.transaction() as writing:
        found = [
            (await writing.fetch(f"PRAGMA {name}"))[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        ]
    assert [next(iter(row.values())) for row in found] == ["wal", 2, 1, 1]


async def test_a_damaged_file_is_refused_at_start(tmp_path: Path) -> None:
    """A file that is no database, or fails the check, stops the start and asks for a backup (R146)."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "vault.db").write_bytes(os.urandom(8192))
    (folder / "vault.db").chmod(0o600)
    with pytest.raises(StateError, match="restore a backup"):
        await SqliteStore.open(folder)


async def test_a_page_torn_inside_is_found_at_start(tmp_path: Path) -> None:
    """Garbage in the middle of the file is found by the check at start, not in the first request (R146)."""
    folder = tmp_path / "data"
    async with _sqlite(folder)() as store:
        for at in range(200):
            async with store.transaction() as writing:
                await writing.execute(AUDIT, f"row-{at:06}", at)
        await store.scrub()
    path = folder / "vault.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 6000] = bytes(6000)
    path.write_bytes(content)
    with pytest.raises(StateError, match="restore a backup"):
        await SqliteStore.open(folder)


async def test_a_busy_database_is_waited_for(tmp_path: Path) -> None:
    """Another process's short write lock delays a commit and does not fail it (R146)."""
    async with _sqlite(tmp_path / "data")() as store:
        other = sqlite3.connect(tmp_path / "data" / "vault.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(_put(store, "waited"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        other.execute("COMMIT")
        await waiting
        other.close()
        assert await _ids(store) == ["waited"]


async def _put(store: Store, name: str) -> None:
    async with store.transaction() as writing:
        await writing.execute(AUDIT, name, 1)


async def test_a_caller_that_leaves_while_the_thread_works(tmp_path: Path) -> None:
    """Cancelled while SQLite waits for a lock: the work ends first, nothing of it stays, and the store goes on."""
    async with _sqlite(tmp_path / "data")() as store:
        other = sqlite3.connect(tmp_path / "data" / "vault.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(_put(store, "left"))
        await asyncio.wait([waiting], timeout=0.05)
        for _ in range(3):
            waiting.cancel()
            await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        other.execute("COMMIT")
        other.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await _put(store, "next")
        assert await _ids(store) == ["next"]
