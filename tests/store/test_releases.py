"""Schema versions: killed migrations, and a release beside the next one on the same vault (R149)."""

import asyncio
import functools
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.stores import VaultPlace
from support.vaults import MASTER, NOW, Clock, key_record

from proxy.connectors import postgres, sqlite
from proxy.connectors.datakeys import DataKeys
from proxy.connectors.masterkey import GivenKey
from proxy.connectors.model import Tokens
from proxy.connectors.rows import key_of, open_tokens, seal_tokens, to_json
from proxy.connectors.schema import MIGRATIONS
from proxy.connectors.store import Row, Store, Transaction, migrate, next_sequence
from proxy.errors import StateError
from proxy.keys import KeyRecord
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")

# What release 1 knew, written out: it must go on working whatever later schemas add.
FIRST_CONNECTION = (
    "connection_id", "service", "name", "is_default", "state", "cause", "account", "scopes", "config",
    "metadata", "scheme", "access_token", "refresh_token", "access_key_id", "refresh_key_id", "expires_at",
    "generation", "created_at", "updated_at", "sequence",
)  # fmt: skip
FIRST_KEY = (
    "key_id", "name", "digest", "permits", "kind", "root", "networks", "created_at", "expires_at",
    "revoked_at", "sequence",
)  # fmt: skip


_SELECT_CONNECTIONS = f"SELECT {', '.join(FIRST_CONNECTION)} FROM connections WHERE sequence > $1"  # noqa: S608  # our own names


def _put(table: str, columns: Sequence[str], key: str) -> str:
    """The statement with which release 1 put a row."""
    values = ", ".join(f"${at}" for at in range(1, len(columns) + 1))
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns if name != key)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {changed}"  # noqa: S608  # our own names


class FirstRelease:
    """Release 1 at work on a store: its statements, with its columns only."""

    def __init__(self, store: Store, sealing: Any) -> None:
        self._store = store
        self._sealing = sealing

    async def save(self, name: str, token: str, *, generation: int = 1) -> None:
        async with self._store.transaction() as writing:
            sequence = await next_sequence(writing)
            found = await writing.fetch(
                "SELECT connection_id, name, is_default, generation, created_at FROM connections WHERE service = $1",
                "slack",
            )
            old = next((row for row in found if row["name"] == name), None)
            row: dict[str, Any] = {
                "connection_id": old["connection_id"] if old else f"con_{secrets.token_hex(8)}",
                "service": "slack", "name": name, "is_default": old["is_default"] if old else int(not found),
                "state": "active", "cause": None, "account": None, "scopes": "[]", "config": None,
                "metadata": "{}", "scheme": None, "expires_at": None,
                "generation": old["generation"] + 1 if old else generation,
                "created_at": old["created_at"] if old else 1, "updated_at": 1, "sequence": sequence,
            }  # fmt: skip
            row.update(seal_tokens(row, Tokens(Secret(token), Secret(f"{token}-refresh")), self._sealing))
            await writing.execute(
                _put("connections", FIRST_CONNECTION, "connection_id"), *(row[at] for at in FIRST_CONNECTION)
            )
            await writing.execute(
                "INSERT INTO audit (audit_id, at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)",
                secrets.token_hex(8), 1, "release 1", "connection.save", f"slack@{name}", "{}",
            )  # fmt: skip

    async def remove(self, name: str) -> None:
        async with self._store.transaction() as writing:
            await next_sequence(writing)
            await writing.execute("DELETE FROM connections WHERE service = $1 AND name = $2", "slack", name)

    async def add_key(self, record: KeyRecord) -> None:
        async with self._store.transaction() as writing:
            row = {
                "key_id": record.key_id, "name": record.name, "digest": record.digest,
                "permits": to_json(list(record.permits)), "kind": record.kind, "root": None, "networks": "[]",
                "created_at": 1, "expires_at": None, "revoked_at": None,
                "sequence": await next_sequence(writing),
            }  # fmt: skip
            await writing.execute(_put("keys", FIRST_KEY, "key_id"), *(row[at] for at in FIRST_KEY))

    async def tokens(self) -> Mapping[str, str]:
        async with self._store.snapshot() as reading:
            rows = await reading.fetch(_SELECT_CONNECTIONS, -1)
        return {row["name"]: self._open(row) for row in rows}

    def _open(self, row: Row) -> str:
        known = {**row, "issued_at": None, "refresh_expires_at": None}  # today's function asks for more
        return open_tokens(known, self._sealing).access_token.reveal()

    async def keys(self) -> Mapping[str, KeyRecord]:
        async with self._store.snapshot() as reading:
            rows = await reading.fetch(f"SELECT {', '.join(FIRST_KEY)} FROM keys WHERE sequence > $1", -1)  # noqa: S608  # our own names
        return {row["key_id"]: key_of({**row, "rate": None, "concurrency": None}) for row in rows}


@pytest.fixture
def as_release_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[VaultPlace], Any]:
    """Opens a store as release 1 does, which knows the first migration only."""

    @asynccontextmanager
    async def opened(place: VaultPlace) -> AsyncIterator[Store]:
        first = functools.partial(migrate, migrations=MIGRATIONS[:1], oldest_release=1)
        with monkeypatch.context() as past:
            for module in (sqlite, postgres):
                past.setattr(module, "migrate", first)
            store = await place.connect()
        try:
            yield store
        finally:
            await store.close()

    return opened


async def _version(place: VaultPlace) -> int:
    async with place.store() as store, store.snapshot() as reading:
        return int((await reading.fetch("SELECT version FROM schema_version"))[0]["version"])


async def test_two_releases_side_by_side(
    place: VaultPlace, as_release_one: Callable[[VaultPlace], Any]
) -> None:
    """On today's schema release 1 opens, reads and writes what it knows; each sees the other's changes (R149)."""
    record = key_record()[0]
    async with place.opened() as today, as_release_one(place) as store:
        first = FirstRelease(store, today.data_keys.ring)
        await today.save_connection("slack", "new", Tokens(Secret("xoxp-new"), Secret("r"), NOW + 60))
        await first.save("old", "xoxp-old")
        await first.add_key(record)
        assert await first.tokens() == {"new": "xoxp-new", "old": "xoxp-old"}
        await today.catch_up()
        assert {one.name: one.access_token.reveal() for one in _held(today)} == await first.tokens()
        assert (list(today.snapshot.keys), list(await first.keys())) == ([], [record.key_id])
        await (
            today.sign_rows()
        )  # a key that a release without seals made is in force once somebody vouches for it
        assert list(today.snapshot.keys) == [record.key_id]
        await first.save("new", "xoxp-renewed")  # a row that today's release made, renewed by the old one
        await today.save_connection("slack", "old", Tokens(Secret("xoxp-again")))
        await today.catch_up()
        wanted = {"new": "xoxp-renewed", "old": "xoxp-again"}
        assert {one.name: one.access_token.reveal() for one in _held(today)} == wanted == await first.tokens()
        assert {one.name: one.generation for one in today.connections()} == {"new": 2, "old": 2}
        await today.revoke_key(record.key_id)
        assert (await first.keys())[record.key_id].revoked_at is not None
        await first.remove("new")
        await today.remove("slack", "old")
        await today.catch_up()
        assert (await first.tokens(), today.connections()) == ({}, ())
    assert await _version(place) == len(MIGRATIONS)


async def test_two_releases_at_once(place: VaultPlace, as_release_one: Callable[[VaultPlace], Any]) -> None:
    """Both write at the same time, 4 tasks each: nothing is lost and numbers have no gap (R148, R149)."""
    async with place.opened() as today, as_release_one(place) as store:
        before = await store.sequence()
        first = FirstRelease(store, today.data_keys.ring)

        async def old(task: int) -> None:
            for at in range(4):
                await first.save(f"old-{task}-{at}", f"xoxp-old-{task}-{at}")

        async def new(task: int) -> None:
            for at in range(4):
                await today.save_connection(
                    "slack", f"new-{task}-{at}", Tokens(Secret(f"xoxp-new-{task}-{at}"))
                )

        await asyncio.gather(*(work(task) for task in range(4) for work in (old, new)))
        await today.catch_up()
        names = {f"{kind}-{task}-{at}" for kind in ("old", "new") for task in range(4) for at in range(4)}
        assert {one.name: one.access_token.reveal() for one in _held(today)} == {
            name: f"xoxp-{name}" for name in names
        }
        assert await store.sequence() == before + len(names)
        assert sum(one.is_default for one in today.connections()) == 1


async def test_a_vault_of_release_one_is_taken_over(
    blank: VaultPlace, as_release_one: Callable[[VaultPlace], Any]
) -> None:
    """Made by release 1 with connections and keys, opened by today's: all is there, and is brought forward (R149)."""
    record = key_record()[0]
    async with as_release_one(blank) as store:
        async with store.snapshot() as reading:
            assert (await reading.fetch("SELECT version FROM schema_version"))[0]["version"] == 1
        ring = await _first_ring(store)
        first = FirstRelease(store, ring)
        await first.save("work", "xoxp-old")
        await first.add_key(record)
        async with blank.opened() as today:  # while the old one is running, as in a rolling upgrade
            assert {one.name: one.access_token.reveal() for one in _held(today)} == {"work": "xoxp-old"}
            assert today.snapshot.keys.keys() == {record.key_id}
            assert not today.is_copy
            await first.save("work", "xoxp-newer")
            await today.catch_up()
            assert {one.name: one.access_token.reveal() for one in _held(today)} == {"work": "xoxp-newer"}
    assert await _version(blank) == len(MIGRATIONS)


async def _first_ring(store: Store) -> Any:
    """The data keys that release 1 makes; the code is the same as today's."""
    return (await DataKeys.open(store, GivenKey(MASTER), Clock())).ring


def _held(vault: Any) -> list[Any]:
    return [
        _Shown(credential.connection, credential.access_token)
        for (_, name), credential in vault.snapshot.credentials.items()
        if name is not None
    ]


class _Shown:
    def __init__(self, name: str, access_token: Secret) -> None:
        self.name = name
        self.access_token = access_token


# --- killed while migrating -----------------------------------------------------------------------------


class Cut(Transaction):
    """A transaction that fails instead of the statement of that number."""

    def __init__(self, inner: Transaction, at: int) -> None:
        self._inner = inner
        self._left = at

    async def execute(self, statement: str, *params: object) -> int:
        if self._left == 0:
            raise RuntimeError("cut")
        self._left -= 1
        return await self._inner.execute(statement, *params)

    async def fetch(self, statement: str, *params: object) -> Sequence[Row]:
        return await self._inner.fetch(statement, *params)


async def test_a_migration_cut_anywhere_leaves_the_old_schema(
    blank: VaultPlace, as_release_one: Callable[[VaultPlace], Any]
) -> None:
    """Cut at each of their statements, the later migrations leave version 1 as it was; then they go through (R149)."""
    async with as_release_one(blank) as store:
        before = await _shape(store)
        steps = sum(map(len, MIGRATIONS[1:])) + 2  # the table of versions before it, the version after it
        for at in range(steps):
            with pytest.raises(RuntimeError, match="cut"):
                async with store.transaction() as writing:
                    await migrate(Cut(writing, at))
            assert await _shape(store) == before
        async with store.transaction() as writing:
            assert await migrate(Cut(writing, steps)) == len(MIGRATIONS)
        assert await _shape(store) != before


async def _shape(store: Store) -> tuple[int, frozenset[str]]:
    """Version, and which of all known tables there are."""
    tables = {
        statement.split()[2]
        for steps in MIGRATIONS
        for statement in steps
        if statement.startswith("CREATE TABLE")
    }
    there = set()
    for table in tables:
        try:
            async with store.snapshot() as reading:
                await reading.fetch(f"SELECT 1 AS one FROM {table}")  # noqa: S608  # our own names
            there.add(table)
        except Exception:  # noqa: BLE001, S112  # that table is not there
            continue
    async with store.snapshot() as reading:
        rows = await reading.fetch("SELECT version FROM schema_version")
    return int(rows[0]["version"]), frozenset(there)


KILLED = """
    import asyncio, os
    from proxy.connectors import postgres, sqlite
    from proxy.connectors.store import migrate
    from support.stores import place_of

    class Telling:
        def __init__(self, inner):
            self.fetch = inner.fetch
            self._inner = inner

        async def execute(self, statement, *params):
            done = await self._inner.execute(statement, *params)
            print(statement.split("(")[0].strip(), flush=True)
            input()
            return done

    async def slowly(transaction, *args):
        return await migrate(Telling(transaction), *args)

    postgres.migrate = sqlite.migrate = slowly

    async def main():
        await place_of(os.environ).connect()
        print("migrated", flush=True)
        input()

    asyncio.run(main())
"""


@pytest.mark.parametrize("at", [1, 8, 20])
async def test_a_first_start_killed_while_it_makes_the_schema(blank: VaultPlace, at: int) -> None:
    """Kill -9 after some statements: nothing is left of them, and the next start makes the vault (R149, R151)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(KILLED), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path), **blank.environment},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    for _ in range(at):
        line = await process.stdout.readline()
        assert line.strip() not in {b"", b"migrated"}
        process.stdin.write(b"\n")
    await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with blank.opened() as vault:
        await vault.save_connection("slack", "work", Tokens(Secret("xoxp-1")))
    assert await _version(blank) == len(MIGRATIONS)


async def test_a_schema_that_is_too_new_is_refused_clearly(
    blank: VaultPlace, as_release_one: Callable[[VaultPlace], Any]
) -> None:
    """Once a later release has contracted the schema, release 1 does not start and says what to install (R149)."""
    async with blank.store() as store, store.transaction() as writing:
        await writing.execute("UPDATE schema_version SET oldest_release = 2")
    with pytest.raises(StateError, match="install the newer release again"):
        async with as_release_one(blank):
            pytest.fail("release 1 opened a schema that it cannot use")
