"""PostgreSQL alone: a server that goes away, rights, limits, what is told and what never is (R147, R151)."""

import asyncio
import contextlib
import socket
import ssl
import struct
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from support.certificates import Authority
from support.postgres import Database, Pooler, Postgres

from proxy.connectors import postgres as postgres_module
from proxy.connectors import postgres_listen
from proxy.connectors.postgres import PostgresStore
from proxy.connectors.store import next_sequence
from proxy.errors import ConfigurationError, StateError, StoreError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
ROW = "INSERT INTO audit (audit_id, at, actor, action, subject, detail) VALUES ($1, 1, 'a', 'b', 'c', '{}')"
CANARY = "canary-8d1f-password"
SOON = 20.0  # of a busy machine


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server for this module, which tests stop and start; each leaves it running."""
    with Postgres() as one:
        yield one


@asynccontextmanager
async def opened(database: Database, url: Secret | None = None) -> AsyncIterator[PostgresStore]:
    """A store, closed afterwards."""
    store = await PostgresStore.open(url or database.url)
    try:
        yield store
    finally:
        await store.close()


async def put(store: PostgresStore, name: str) -> None:
    async with store.transaction() as writing:
        await writing.execute(ROW, name)


async def ids(store: PostgresStore) -> set[str]:
    async with store.snapshot() as reading:
        return {row["audit_id"] for row in await reading.fetch("SELECT audit_id FROM audit")}


async def change(store: PostgresStore) -> None:
    async with store.transaction() as writing:
        await next_sequence(writing)


async def soon(work: Callable[[], Awaitable[object]]) -> None:
    """Again and again until the store does it; it has nothing to wait for but the database's return."""
    async with asyncio.timeout(SOON):
        while True:
            with contextlib.suppress(StoreError):
                await work()
                return
            await asyncio.sleep(0.02)


async def asked(database: Database, statements: str) -> str:
    """What psql prints, without holding up the loop."""
    return await asyncio.to_thread(database.run, statements)


# --- a server that goes away ----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_server_that_was_away_is_used_again(
    own: Postgres, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped or killed: writing and reading fail as ``away`` at once, and work again once it is back (R147)."""
    monkeypatch.setattr(postgres_module, "_ANSWER_S", 60.0)  # no limit is what ends the wait
    monkeypatch.setattr(postgres_module, "_CONNECT_S", 60.0)
    database = own.database()
    async with opened(database) as store:
        await put(store, "before")
        await store.sequence()
        await asyncio.to_thread(getattr(own, end))
        try:
            for work in (lambda: put(store, "during"), store.sequence, lambda: put(store, "during")):
                with pytest.raises(StoreError) as caught:
                    async with asyncio.timeout(SOON):
                        await work()
                assert caught.value.reason == "away"
        finally:
            await asyncio.to_thread(own.start)
        await soon(lambda: put(store, "after"))
        await soon(store.sequence)
        assert await ids(store) == {"before", "after"}


async def test_a_server_that_hangs_fails_in_time(own: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers nothing (SIGSTOP) holds nobody up for longer than the limit, and is used again (R147)."""
    monkeypatch.setattr(postgres_module, "_ANSWER_S", 1.0)
    monkeypatch.setattr(postgres_module, "_CONNECT_S", 1.0)
    database = own.database()
    async with opened(database) as store:
        await put(store, "before")
        with own.frozen():
            for _ in range(3):
                with pytest.raises(StoreError) as caught:
                    async with asyncio.timeout(4.5):  # the limits as they are: 5 s and 8 s
                        await put(store, "during")
                assert caught.value.reason == "away"
        await soon(lambda: put(store, "after"))
        assert {"before", "after"} <= await ids(store)


async def test_a_killed_server_keeps_what_was_acknowledged(own: Postgres) -> None:
    """Kill -9 of the server under 8 writers, three times: every acknowledged row is there, without a step (R151)."""
    database, acknowledged = own.database(), set[str]()
    async with opened(database) as store:

        async def write(task: str, enough: asyncio.Event) -> None:
            for number in range(100_000):
                await put(store, f"{task}-{number}")
                acknowledged.add(f"{task}-{number}")
                if len(acknowledged) >= wanted:
                    enough.set()

        for turn in range(3):
            wanted, enough = len(acknowledged) + 40, asyncio.Event()
            tasks = [asyncio.create_task(write(f"{turn}-{task}", enough)) for task in range(8)]
            await enough.wait()
            await asyncio.to_thread(own.kill)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(end) for end in ends} == {StoreError}
            await asyncio.to_thread(own.start)
            await soon(store.sequence)
        assert len(acknowledged) >= 120
        assert acknowledged <= await ids(store)


async def test_a_connection_lost_in_a_commit_is_told_as_unsure(own: Postgres) -> None:
    """Nobody knows how such a commit ended, so the error says that and not that nothing was kept."""
    database = own.database()
    database.run(
        "SET search_path = connector_proxy;"
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION dawdle()"
    )
    async with opened(database) as store:
        writing = asyncio.create_task(put(store, "unsure"))
        found = ""
        while not found:
            found = await asked(
                database,
                "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%COMMIT'",
            )
        await asked(database, f"SELECT pg_terminate_backend({found})")
        with pytest.raises(StoreError, match="may have been kept") as caught:
            await writing
        assert caught.value.reason == "unsure"


async def test_a_connection_that_died_while_idle_is_replaced(database: Database) -> None:
    """Connections that the server or a firewall cut while they lay idle cost no failed transaction (R147)."""
    async with opened(database) as store:
        await put(store, "one")
        for _ in range(3):
            await asked(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()",
            )
            await put(store, "again") if "again" not in await ids(store) else await store.sequence()
        assert await ids(store) == {"one", "again"}


# --- transactions ---------------------------------------------------------------------------------------


async def test_writers_take_turns_and_give_up_in_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer waits for another process's transaction, reads go on meanwhile; after the limit it is ``busy``."""
    monkeypatch.setattr(
        postgres_module, "_BEGIN_WRITING", postgres_module._BEGIN_WRITING.replace("lock_timeout = '5s'", "lock_timeout = '200ms'")
    )  # fmt: skip
    async with opened(database) as one, opened(database) as two:
        async with one.transaction() as writing:
            await writing.execute(ROW, "one")
            assert await ids(two) == set()
            with pytest.raises(StoreError) as caught:
                await put(two, "late")
            waiting = asyncio.create_task(put(two, "two"))
            await asyncio.wait([waiting], timeout=0.05)
            assert not waiting.done()
        await waiting
        assert (caught.value.reason, await ids(one)) == ("busy", {"one", "two"})


async def test_a_caller_that_leaves_while_it_waits_leaves_nothing(database: Database) -> None:
    """Cancelled in the queue for the writers' lock: nothing of it is kept and nobody waits for it."""
    async with opened(database) as one, opened(database) as two:
        async with one.transaction() as writing:
            await writing.execute(ROW, "one")
            waiting = asyncio.create_task(put(two, "left"))
            await asyncio.wait([waiting], timeout=0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(SOON):
            await put(two, "two")
        assert await ids(one) == {"one", "two"}


async def test_a_commit_under_way_is_not_cancelled(database: Database) -> None:
    """A caller cancelled during the commit is told so after it, and the change is there."""
    async with opened(database) as store:
        for at in range(20):
            started = asyncio.Event()

            async def write(name: str, started: asyncio.Event) -> None:
                async with store.transaction() as writing:
                    await writing.execute(ROW, name)
                    started.set()

            task = asyncio.create_task(write(f"row-{at}", started))
            await started.wait()
            await asyncio.sleep(0)  # into the commit
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert len(await ids(store)) == 20


async def test_every_transaction_names_its_limits_itself(database: Database) -> None:
    """Durable whatever the database's default says, bounded in time, and nothing stays in the session (R147)."""
    names = (
        "synchronous_commit", "search_path", "statement_timeout", "lock_timeout",
        "idle_in_transaction_session_timeout", "transaction_isolation", "transaction_read_only",
    )  # fmt: skip
    look = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in names)
    for given, wanted in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        database.run(f"ALTER DATABASE {database.name} SET synchronous_commit = {given}")
        async with opened(database) as store:
            async with store.transaction() as writing:
                found = dict((await writing.fetch(look))[0])
            assert tuple(found.values()) == (
                wanted, "connector_proxy, pg_temp", "5s", "5s", "10s", "read committed", "off",
            )  # fmt: skip
            async with store._pool.acquire() as connection:
                rest = dict(await connection.fetchrow(look) or {})
            assert (rest["search_path"], rest["statement_timeout"], rest["synchronous_commit"]) == (
                '"$user", public', "0", given,
            )  # fmt: skip
            async with store.snapshot() as reading:
                found = dict((await reading.fetch(look))[0])
                assert (found["transaction_isolation"], found["transaction_read_only"]) == (
                    "repeatable read",
                    "on",
                )
            with pytest.raises(StoreError) as caught:
                async with store.snapshot() as reading:
                    await reading.execute(ROW, "never")
            assert caught.value.reason == "readonly"


LONG = 90.0  # a wait that no test sits out: what ends sooner was told


# --- changes are told -----------------------------------------------------------------------------------


async def proven(store: PostgresStore) -> int:
    """Wait until the store knows that changes are told; what it has seen."""
    seen = await store.changed(0, 0.01)
    async with asyncio.timeout(SOON):
        while not store._listener.is_proven:
            seen = await store.changed(seen, 0.01)
    return seen


async def test_changes_are_told_at_once(database: Database) -> None:
    """Another process's change ends the wait, long before its time; a write that changes nothing ends no wait (R89)."""
    async with opened(database) as one, opened(database) as two:
        seen = await proven(one)
        for _ in range(3):
            waiting = asyncio.create_task(one.changed(seen, LONG))
            await put(two, f"note-{seen}")
            await asyncio.wait([waiting], timeout=0.1)
            assert not waiting.done()
            await change(two)
            async with asyncio.timeout(SOON):
                seen = await waiting


async def test_a_change_between_two_waits_is_not_missed(database: Database) -> None:
    """What happens while a watcher is busy with the last change ends its next wait at once."""
    async with opened(database) as one, opened(database) as two:
        seen = await proven(one)
        before = await one.changed(seen, 0.01)
        await change(two)
        other = await one.changed(before, LONG)  # somebody else's wait takes the news too
        assert other != before
        async with asyncio.timeout(SOON):
            assert await one.changed(before, LONG) == other


async def test_a_listener_that_was_cut_off_listens_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection gone, everybody looks by themselves at once, and soon is told again (R89)."""
    monkeypatch.setattr(postgres_listen, "_AGAIN_S", 0.05)
    async with opened(database) as one, opened(database) as two:
        seen = await proven(one)
        waiting = asyncio.create_task(one.changed(seen, LONG))
        cut = await asked(
            database,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query ILIKE 'listen%'",
        )
        assert cut.strip() == "1"
        async with asyncio.timeout(SOON):
            assert await waiting != seen
        seen = await proven(one)
        waiting = asyncio.create_task(one.changed(seen, LONG))
        await change(two)
        async with asyncio.timeout(SOON):
            await waiting


async def test_where_nothing_is_told_it_is_looked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler that swallows notifications is found out, and watchers look as often as they asked (R89)."""
    monkeypatch.setattr(postgres_listen, "_PROOF_S", 0.05)
    async with opened(database) as store:

        async def lost(_: str) -> None:
            """What a pooler does with it."""

        monkeypatch.setattr(store._listener, "_tell", lost)
        seen = await store.changed(0, 0.01)
        await asyncio.wait([asyncio.ensure_future(store.changed(seen, 5.0))], timeout=0.15)
        assert not store._listener.is_proven
        began = time.monotonic()
        await store.changed(await store.changed(0, 0.01), 0.02)
        assert time.monotonic() - began < 0.5


@pytest.mark.system
async def test_behind_a_transaction_pooler(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stores behind PgBouncer with three connections: all works, and changes are looked for (R89, R147)."""
    monkeypatch.setattr(postgres_listen, "_PROOF_S", 0.2)
    database = postgres.database()
    with Pooler(postgres) as pooler:
        url = pooler.url(database.name)
        async with opened(database, url) as one, opened(database, url) as two:

            async def work(store: PostgresStore) -> None:
                for _ in range(10):
                    await change(store)
                    await store.sequence()

            await asyncio.gather(*(work(store) for store in (one, two) for _ in range(8)))
            assert await one.sequence() == await two.sequence() == 160
            seen = await one.changed(0, 0.05)
            for _ in range(10):
                began = time.monotonic()
                seen = await one.changed(seen, 0.05)
                assert time.monotonic() - began < 0.5
            assert not one._listener.is_proven


# --- rights, places, secrets ----------------------------------------------------------------------------


async def test_the_documented_grants_are_enough(postgres: Postgres) -> None:
    """CREATE on the database, or a schema of its own made for it, is all that the user needs."""
    first, second, third = (postgres.database(empty=True) for _ in range(3))
    postgres.sql("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN")
    first.run(
        f"REVOKE ALL ON DATABASE {first.name} FROM PUBLIC; GRANT CONNECT, CREATE ON DATABASE {first.name} TO plain"
    )
    second.run("CREATE SCHEMA connector_proxy AUTHORIZATION plain")
    for database in (first, second):
        url = postgres.url(database.name, user="plain")
        for _ in range(2):
            async with opened(database, url) as store:
                await change(store)
                await proven(store)
    with pytest.raises(StateError, match=r"docs/postgresql\.md"):
        await PostgresStore.open(postgres.url(third.name, user="plain"))


async def test_a_vault_is_looked_for_without_making_one(postgres: Postgres) -> None:
    """Commands that only look leave an empty database as it is."""
    empty = postgres.database(empty=True)
    assert not await PostgresStore.exists(empty.url)
    assert empty.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'connector_proxy'").strip() == "0"
    assert await PostgresStore.exists(postgres.database().url)


async def test_incarnations_differ_for_every_copy(postgres: Postgres) -> None:
    """A dump restored, elsewhere or in place, and a database made from a template are other ones; a restart is not."""
    original = postgres.database()
    async with opened(original) as store:
        known = await store.incarnation()
    for copy in (original.dumped(), postgres.database(like=original)):
        async with opened(copy) as store:
            assert await store.incarnation() != known
    original.run("VACUUM FULL")
    async with opened(original) as store:
        assert await store.incarnation() == known
    original.run(original.dump())
    async with opened(original) as store:
        assert await store.incarnation() != known


async def test_incarnations_where_the_cluster_may_not_be_asked(own: Postgres) -> None:
    """A provider may keep the cluster's number to itself: then database and table are told by theirs."""
    original = own.database(empty=True)
    own.sql(
        "DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN;"
        f"GRANT CREATE ON DATABASE {original.name} TO plain"
    )
    original.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    url = own.url(original.name, user="plain")
    async with opened(original, url) as store:
        known = await store.incarnation()
    assert known.startswith("postgresql:-:")
    async with opened(original, url) as store:
        assert await store.incarnation() == known
    copy = own.database(like=original)
    async with opened(copy, own.url(copy.name, user="plain")) as store:
        assert await store.incarnation() != known


async def test_what_cannot_be_opened_says_why_and_tells_no_password(postgres: Postgres) -> None:
    """Nobody there, no such database, no such user, no TLS, another encoding: each a sentence (R143)."""
    port = postgres.port
    here = f"127.0.0.1:{port}"
    postgres.sql(
        "DROP DATABASE IF EXISTS latin; CREATE DATABASE latin ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    )
    cases = {
        f"postgresql://postgres:{CANARY}@127.0.0.1:1/x": "does not answer",
        f"postgresql://postgres:{CANARY}@{here}/nowhere": "no database of that name",
        f"postgresql://nobody_{CANARY}:{CANARY}@{here}/postgres": "refuses the user or password",
        f"postgresql://postgres:{CANARY}@{here}/latin": "encoding is SQL_ASCII",
        f"postgresql://postgres:{CANARY}@{here}/postgres?sslmode=verify-full": "does not answer",
    }
    for url, said in cases.items():
        with pytest.raises(StateError, match=said) as caught:
            await PostgresStore.open(Secret(url))
        assert CANARY not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigurationError) as wrong:
        await PostgresStore.open(Secret(f"postgresql://u:{CANARY}@@{here}/x"))
    assert CANARY not in "".join(traceback.format_exception(wrong.value))
    url = f"postgresql://postgres:{CANARY}@{here}/{postgres.database().name}"
    store = await PostgresStore.open(Secret(url))
    assert CANARY not in repr(store)
    await store.close()


@asynccontextmanager
async def tls_front(context: ssl.SSLContext, port: int) -> AsyncIterator[int]:
    """A port that takes PostgreSQL's connections over TLS, for a server built without; connections are piped on."""

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(65536):
                target.write(content)
                await target.drain()
        target.close()

    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == struct.pack("!II", 8, 80877103)  # SSLRequest
            writer.write(b"S")
            await writer.start_tls(context)
            behind, ahead = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pipe(reader, ahead), pipe(behind, writer))
        writer.close()

    server = await asyncio.start_server(front, "localhost", 0, family=socket.AF_INET)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def test_the_server_is_verified_over_tls(postgres: Postgres, authority: Authority) -> None:
    """With verify-full a server whose certificate is not from the given roots, or for another name, is refused."""
    database = postgres.database()
    async with tls_front(authority.server("localhost"), postgres.port) as port:
        url = f"postgresql://postgres@localhost:{port}/{database.name}?sslmode=verify-full"
        async with opened(database, Secret(f"{url}&sslrootcert={authority.ca_file}")) as store:
            await put(store, "over TLS")
            await proven(store)
        for refused in (
            url,  # the system's roots
            f"{url}&sslrootcert=system",
            f"{url.replace('localhost', '127.0.0.1')}&sslrootcert={authority.ca_file}",
        ):
            with pytest.raises(StateError, match="does not answer"):
                await PostgresStore.open(Secret(refused))
    assert database.run("SELECT audit_id FROM connector_proxy.audit").split() == ["over", "TLS"]


async def test_statements_leave_no_values_in_errors(database: Database) -> None:
    """A value that fits no column, and one that is there already, are told without the value (R143)."""
    async with opened(database) as store:
        await put(store, CANARY)
        for statement, value in ((ROW, CANARY), (ROW, CANARY.encode()), ("UPDATE audit SET at = $1", CANARY)):
            with pytest.raises(StoreError) as caught:
                async with store.transaction() as writing:
                    await writing.execute(statement, value)
            assert CANARY not in "".join(traceback.format_exception(caught.value))
        assert await ids(store) == {CANARY}


async def test_a_failure_that_was_ignored_commits_nothing(database: Database) -> None:
    """A block that goes on after a failed statement ends in an error, not in half a change."""
    async with opened(database) as store:

        async def ignore() -> None:
            async with store.transaction() as writing:
                await writing.execute(ROW, "one")
                with pytest.raises(StoreError):
                    await writing.execute(ROW, "one")

        with pytest.raises(StoreError):
            await ignore()
        assert await ids(store) == set()
