"""The PostgreSQL store: one database that any number of instances share.

Everything lies in the schema ``connector_proxy``, so that the database may hold other things too. Each
transaction names that schema and its limits itself (``SET LOCAL``), nothing is kept in a session and no
statement is prepared under a name: it works through a pooler that hands out connections by transaction.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from proxy.connectors.postgres_errors import FAILURES, spoils_connection, store_error
from proxy.connectors.postgres_listen import Listener
from proxy.connectors.postgres_url import DatabaseUrl
from proxy.connectors.reconnecting import Rest
from proxy.connectors.settled import settled
from proxy.connectors.store import Asked, Row, Store, Transaction, migrate
from proxy.errors import StateError, StoreError
from proxy.secret import Secret

SCHEMA = "connector_proxy"
CHANNEL = "connector_proxy_changes"
OLDEST_SERVER = 14
_READERS = 3
_CONNECT_S = 5.0
_ANSWER_S = 8.0  # longer than any limit that the server itself keeps
_CLOSE_S = 1.0
_IDLE_S = 120.0
_WRITER_LOCK = 0x636F6E6E70726F78  # "connprox": advisory locks count for one database

_LIMITS = (
    f"SET LOCAL search_path = {SCHEMA}, pg_temp; "  # pg_temp last: nothing there may pass for a table of ours
    "SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; "
    "SET LOCAL client_connection_check_interval = '1s'; "
)
_BEGIN_WRITING = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_LIMITS}"
    # whoever runs the server may ask for more than "on", never for less
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply'); "
    f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})"
)
_BEGIN_READING = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LIMITS}"
# tells the others when it was this transaction that counted a change
_COMMIT_WRITING = (
    f"SELECT pg_notify('{CHANNEL}', '') FROM changes "  # noqa: S608  # our own name
    "WHERE xmin = pg_current_xact_id_if_assigned()::xid; COMMIT"
)
_SERVER = (
    "SELECT current_setting('server_version_num')::integer AS version, pg_is_in_recovery() AS is_standby"
)
_ENCODING = "SELECT pg_encoding_to_char(encoding) AS name FROM pg_database WHERE datname = current_database()"
_HAS_SCHEMA = "SELECT 1 AS found FROM pg_namespace WHERE nspname = $1"
_HAS_VAULT = "SELECT 1 AS found FROM pg_tables WHERE schemaname = $1 AND tablename = 'changes'"
_INCARNATION = """SELECT
    has_function_privilege('pg_control_system()', 'EXECUTE') AS may_ask,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database_oid,
    'changes'::regclass::oid::bigint AS table_oid"""

_Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


class _Statements(Transaction):
    """A transaction: statements, run one by one on a connection."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def execute(self, statement: str, *params: object) -> int:
        try:
            status = await self._connection.execute(statement, *params)
        except FAILURES as error:
            raise store_error(error) from None
        count = status.rpartition(" ")[2]  # "UPDATE 3"; other statements touch no rows
        return int(count) if count.isdigit() else 0

    async def fetch(self, statement: str, *params: object) -> Sequence[Row]:
        try:
            return [dict(row) for row in await self._connection.fetch(statement, *params)]
        except FAILURES as error:
            raise store_error(error) from None


class PostgresStore(Store):
    """See :class:`proxy.connectors.store.Store`; made by :meth:`open`.

    Writers of all processes take turns on one advisory lock, as those of SQLite do on its file.
    """

    def __init__(self, address: DatabaseUrl) -> None:
        self.notices: tuple[str, ...] = ()
        self._address = address
        self._rest = Rest(time.monotonic)
        self._pool = asyncpg.create_pool(
            **_arguments(address),
            min_size=0,
            max_size=1 + _READERS,
            max_inactive_connection_lifetime=_IDLE_S,
            reset=_nothing,
        )
        self._writing = asyncio.Lock()
        self._reading = asyncio.Semaphore(_READERS)
        self._listener = Listener(CHANNEL, self._dial, self._tell)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._address.shown}>"

    @classmethod
    async def open(cls, url: Secret) -> Self:
        """Connect to the database and bring the schema forward, making it if there is none.

        Raises:
            ConfigurationError: ``url`` makes no sense.
            StateError: server, rights or schema do not allow to go on.
        """
        async with cls._made(url) as store:
            async with store.transaction() as transaction:
                await _prepare(transaction)
                await migrate(transaction)
            return store

    @classmethod
    async def exists(cls, url: Secret) -> bool:
        """Whether there is a vault in the database; nothing is changed. Raises as :meth:`open` does."""
        async with cls._made(url) as store:
            async with store.snapshot() as transaction:
                found = await transaction.fetch(_HAS_VAULT, SCHEMA)
            await store.close()
            return bool(found)

    @classmethod
    @asynccontextmanager
    async def _made(cls, url: Secret) -> AsyncIterator[Self]:
        """A store to be opened, closed again when that fails."""
        store = cls(DatabaseUrl.parse(url))
        try:
            _ = await store._pool  # connects nothing yet
            yield store
        except StoreError as error:
            await store.close()
            raise StateError(f"{store._address.shown}: {error}") from error
        except BaseException:
            await store.close()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Waits for the writers of all processes, at most 5 s; its statements see what they committed."""
        async with self._writing, self._block(_BEGIN_WRITING, _COMMIT_WRITING) as statements:
            yield statements

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """Waits for nobody; the state is the one of its first statement."""
        async with self._reading, self._block(_BEGIN_READING, "COMMIT") as statements:
            yield statements

    @asynccontextmanager
    async def _block(self, begin: str, commit: str) -> AsyncIterator[_Statements]:
        connection = await self._begun(begin)
        try:
            yield _Statements(connection)
            await settled(asyncio.ensure_future(_commit(connection, commit)))
        except BaseException as error:
            await self._leave(connection, error)
            raise
        await self._pool.release(connection)

    async def _begun(self, begin: str) -> _Connection:
        """A connection in a transaction. One that died unnoticed while it lay idle is replaced once."""
        retried = False
        while True:
            connection = await self._acquire()
            try:
                await connection.execute(begin)
            except FAILURES as error:
                _cut(connection)
                await self._pool.release(connection)
                failure = store_error(error)
                if failure.reason == "away" and not isinstance(error, TimeoutError) and not retried:
                    retried = True
                    continue
                if failure.reason == "away":
                    self._rest.failed()
                raise failure from None
            except BaseException:
                _cut(connection)
                await self._pool.release(connection)
                raise
            self._rest.worked()
            return connection

    async def _acquire(self) -> _Connection:
        if not self._rest.is_over:
            raise StoreError("the vault could not be used: the database does not answer", reason="away")
        try:
            return await self._pool.acquire()
        except FAILURES as error:
            self._rest.failed()
            raise store_error(error) from None

    async def _leave(self, connection: _Connection, error: BaseException) -> None:
        """Roll back; a connection of which nobody knows what it is at is cut, which rolls back as well."""
        try:
            if spoils_connection(error):
                _cut(connection)
            else:
                await connection.execute("ROLLBACK")
        except FAILURES:
            _cut(connection)
        except BaseException:
            _cut(connection)
            raise
        finally:
            await self._pool.release(connection)

    async def look(self, seen: int, *asked: Asked) -> tuple[int, tuple[Sequence[Row], ...]]:
        """In a transaction of its own."""
        async with self.snapshot() as transaction:
            rows = await transaction.fetch("SELECT sequence FROM changes WHERE id = 1")
            found = int(rows[0]["sequence"])
            return found, () if found == seen else await transaction.fetch_each(*asked)

    async def changed(self, seen: int, poll_s: float) -> int:
        """Told by NOTIFY, on a connection of its own; where that does not work, after ``poll_s``."""
        return await self._listener.wait(seen, poll_s)

    async def incarnation(self) -> str:
        """Cluster, database and table, by the numbers that PostgreSQL gave them: ``postgresql:C:D:T``.

        A dump restored, elsewhere or in place, has another table; a database made from this one as its
        template is another database. A copy of the whole cluster's files (a disk snapshot, pg_basebackup) has
        the same numbers: no server can tell. C is ``-`` where we may not ask for it.
        """
        async with self.snapshot() as transaction:
            found = (await transaction.fetch(_INCARNATION))[0]
            cluster = "-"
            if found["may_ask"]:
                told = await transaction.fetch("SELECT system_identifier FROM pg_control_system()")
                cluster = str(told[0]["system_identifier"])
        return f"postgresql:{cluster}:{found['database_oid']}:{found['table_oid']}"

    async def scrub(self) -> bool:
        """Nothing, and no promise: PostgreSQL does not overwrite what is erased.

        Old versions of rows stay in the table's file until VACUUM takes their space and another row is
        written there, and in the write-ahead log, on standbys and in backups for as long as their keepers
        say. Everywhere they are sealed: without the master key, which is not in the database, they are noise.
        """
        return True

    async def close(self) -> None:
        """Ends when transactions under way have; those that take long are cut, as is a server that hangs."""
        await self._listener.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._pool.close()
        except (*FAILURES, TimeoutError):
            self._pool.terminate()

    async def _dial(self) -> "asyncpg.Connection[asyncpg.Record]":
        try:
            return await asyncpg.connect(**_arguments(self._address))
        except FAILURES as error:
            raise store_error(error) from None

    async def _tell(self, payload: str) -> None:
        async with self.snapshot() as transaction:
            await transaction.fetch("SELECT pg_notify($1, $2)", CHANNEL, payload)


def _cut(connection: _Connection) -> None:
    """Close it without another word; the pool has taken it back where the other side was first."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _nothing(_: object) -> None:
    """A connection comes back with nothing to reset: all that was set was set for the transaction."""


def _arguments(address: DatabaseUrl) -> dict[str, Any]:
    return {
        "dsn": address.url.reveal(),
        "ssl": address.tls,
        "timeout": _CONNECT_S,
        "command_timeout": _ANSWER_S,
        "statement_cache_size": 0,
        "server_settings": {"application_name": address.application} if address.application else None,
    }


async def _commit(connection: _Connection, commit: str) -> None:
    try:
        status = await connection.execute(commit)
    except FAILURES as error:
        failure = store_error(error)
        if failure.reason == "away":
            raise StoreError(
                "the connection to the database broke during a commit: the change may have been kept",
                reason="unsure",
            ) from None
        raise failure from None
    if status != "COMMIT":  # a statement had failed and the block went on
        raise StoreError("the vault's transaction was lost")


async def _prepare(transaction: Transaction) -> None:
    server = (await transaction.fetch(_SERVER))[0]
    if server["version"] < OLDEST_SERVER * 10_000:
        raise StateError(
            f"the server is PostgreSQL {server['version'] // 10_000}; {OLDEST_SERVER} or newer is needed"
        )
    encoding = (await transaction.fetch(_ENCODING))[0]["name"]
    if encoding != "UTF8":
        raise StateError(f"the database's encoding is {encoding}; make one with ENCODING 'UTF8'")
    if not await transaction.fetch(
        _HAS_SCHEMA, SCHEMA
    ):  # not IF NOT EXISTS, which asks for the right all the same
        await transaction.execute(f"CREATE SCHEMA {SCHEMA}")
