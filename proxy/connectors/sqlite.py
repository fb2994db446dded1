"""The SQLite store: one file in the data folder, one thread that writes, one that reads.

WAL with ``synchronous=FULL``: a commit that was acknowledged survives kill -9 and power loss
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from proxy.connectors.folder import prepare_file, prepare_folder
from proxy.connectors.place import LatestNote, place_of, recognise
from proxy.connectors.settled import settled
from proxy.connectors.store import Row, Transaction, migrate
from proxy.errors import StateError, StoreError, StoreReason

FILE_NAME = "vault.db"
_T = TypeVar("_T")
_PARAMETER = re.compile(r"\$(\d+)")
_SEQUENCE = "SELECT sequence FROM changes WHERE id = 1"
FULL_CHECK_BYTES = 16 * 2**20  # about a tenth of a second
_BUSY_MS = 5000
_SCRUB_MS = 100
_PRAGMAS = (
    f"PRAGMA busy_timeout = {_BUSY_MS}",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # erased rows are overwritten with zeros (R144)
    "PRAGMA temp_store = MEMORY",  # no temporary files beside the 0600 ones
    "PRAGMA trusted_schema = OFF",
    "PRAGMA journal_size_limit = 4194304",
)
_REASONS: tuple[tuple[str, StoreReason, str], ...] = (
    ("SQLITE_FULL", "full", "the disk is full"),
    ("SQLITE_IOERR", "io", "the disk reports an error"),
    ("SQLITE_READONLY", "readonly", "the file or its disk is read-only"),
    ("SQLITE_CANTOPEN", "io", "the file cannot be opened"),
    ("SQLITE_BUSY", "busy", "another process holds the vault's lock"),
    ("SQLITE_LOCKED", "busy", "another process holds the vault's lock"),
    ("SQLITE_CORRUPT", "corrupt", "the file is damaged: restore a backup"),
    ("SQLITE_NOTADB", "corrupt", "the file is not a database: restore a backup"),
    ("SQLITE_CONSTRAINT", "conflict", "the change contradicts what is stored"),
)
_LASTING = frozenset({"full", "io", "readonly", "corrupt"})


def store_error(error: sqlite3.Error) -> StoreError:
    """SQLite's own text may hold values (constraint names at best), so only its code is told."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    for prefix, reason, sentence in _REASONS:
        if name.startswith(prefix):
            return StoreError(f"the vault could not be used: {sentence} ({name})", reason=reason)
    return StoreError(f"the vault could not be used ({name})")


class _Handle:
    """One SQLite connection and the only thread that touches it; opened again after a lasting failure."""

    def __init__(self, path: Path, *, name: str, read_only: bool) -> None:
        self._path = path
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        return await settled(asyncio.get_running_loop().run_in_executor(self._thread, self._call, job))

    def _call(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._connection is None:
                self._connection = self._open()
                self._inode = self._path.stat().st_ino
            return job(self._connection)
        except OSError as error:
            raise StoreError(f"the vault's file cannot be used: {error.strerror}", reason="io") from None
        except sqlite3.Error as error:
            failure = store_error(error)
            if failure.reason in _LASTING:
                self._drop()  # after a failed write or fsync this handle's cache is not to be trusted (R150)
            raise failure from None

    def refuse_replaced(self) -> None:
        """Refuse a file that nobody finds under its name any more: what is written there would be lost."""
        try:
            replaced = self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            replaced = True
        if replaced:
            raise StoreError("the vault's file was replaced while it is in use: start again", reason="io")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_MS / 1000, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            for pragma in _PRAGMAS:
                connection.execute(pragma).close()
            _use_wal(connection)
            if self._read_only:
                connection.execute("PRAGMA query_only = ON").close()
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await settled(loop.run_in_executor(self._thread, self._drop))
        self._thread.shutdown(wait=False)


def _run(connection: sqlite3.Connection, statement: str, params: Sequence[Any]) -> sqlite3.Cursor:
    if not connection.in_transaction:  # opened again after a failure: what came before in the block is gone
        raise StoreError("the vault's transaction was lost", reason="io")
    return connection.execute(_PARAMETER.sub(r"?\1", statement), params)


def _fetch(connection: sqlite3.Connection, statement: str, params: Sequence[Any]) -> list[Row]:
    with contextlib.closing(_run(connection, statement, params)) as cursor:
        return [dict(row) for row in cursor.fetchall()]


class _Statements(Transaction):
    """A transaction: statements with ``$1`` parameters, run one by one on a handle."""

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle

    async def execute(self, statement: str, *params: object) -> int:
        def job(connection: sqlite3.Connection) -> int:
            with contextlib.closing(_run(connection, statement, params)) as cursor:
                return cursor.rowcount

        return await self._handle.run(job)

    async def fetch(self, statement: str, *params: object) -> Sequence[Row]:
        return await self._handle.run(lambda connection: _fetch(connection, statement, params))

    async def fetch_each(self, *asked: tuple[str, *tuple[object, ...]]) -> tuple[Sequence[Row], ...]:
        """One hop to the handle's thread for all of them."""
        return await self._handle.run(
            lambda connection: tuple(_fetch(connection, statement, params) for statement, *params in asked)
        )


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK").close()


class SqliteStore:
    """See :class:`proxy.connectors.store.Store`; made by :meth:`open`."""

    def __init__(self, path: Path, notices: tuple[str, ...]) -> None:
        self.notices = notices
        self._path = path
        self._writer = _Handle(path, name="vault-write", read_only=False)
        self._reader = _Handle(path, name="vault-read", read_only=True)
        self._note = LatestNote(path)
        self._noted = 0
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()

    @classmethod
    async def open(cls, data_dir: Path) -> "SqliteStore":
        """Open or create the vault's file in ``data_dir``, check it and bring its schema forward.

        Raises:
            StateError: folder, file, integrity or schema do not allow to go on.
        """
        path = data_dir / FILE_NAME
        notices = await asyncio.to_thread(lambda: prepare_folder(data_dir) + prepare_file(path))
        store = cls(path, notices)
        try:
            await store._writer.run(_check)
            async with store.transaction() as transaction:
                await migrate(transaction)
                await recognise(transaction, store._note.read())
        except StoreError as error:
            await store.close()
            raise StateError(f"{path}: {error}") from error
        except BaseException:
            await store.close()
            raise
        return store

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Takes SQLite's write lock at once, so that what is read in it stays true until the commit."""
        async with self._writing, self._block(self._writer, "BEGIN IMMEDIATE", self._commit) as statements:
            yield statements

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """Reads do not wait for writers: WAL gives them the state of the last commit."""
        async with self._reading, self._block(self._reader, "BEGIN", _commit) as statements:
            yield statements

    @asynccontextmanager
    async def _block(
        self, handle: _Handle, begin: str, commit: Callable[[sqlite3.Connection], None]
    ) -> AsyncIterator[_Statements]:
        try:
            await handle.run(lambda connection: self._begin(handle, connection, begin))
            yield _Statements(handle)
            await handle.run(commit)
        except BaseException:
            with contextlib.suppress(StoreError):
                await handle.run(_rollback)
            raise

    @staticmethod
    def _begin(handle: _Handle, connection: sqlite3.Connection, statement: str) -> None:
        handle.refuse_replaced()
        connection.execute(statement).close()

    def _look(self, connection: sqlite3.Connection) -> int:
        self._reader.refuse_replaced()
        return _read_sequence(connection)

    def _commit(self, connection: sqlite3.Connection) -> None:
        _commit(connection)
        with contextlib.suppress(OSError, sqlite3.Error):  # it is committed; the note may come later
            self._take_note(_read_sequence(connection))

    def _take_note(self, sequence: int, *, durably: bool = False) -> None:
        if sequence > self._noted or durably:
            self._note.raise_to(sequence, durably=durably)
            self._noted = max(sequence, self._noted)

    async def sequence(self) -> int:
        """One indexed read on the reading connection: about 20 us."""
        async with self._reading:
            found = await self._reader.run(self._look)
        if found < self._noted:  # an older state was put back under us
            async with self.transaction() as transaction:
                await recognise(transaction, self._noted)
                return int((await transaction.fetch(_SEQUENCE))[0]["sequence"])
        return found

    async def changed(self, seen: int, poll_s: float) -> int:
        """SQLite tells nobody of changes: look again after ``poll_s``."""
        await asyncio.sleep(poll_s)
        return seen

    async def incarnation(self) -> str:
        """The file's identity: see ``place``."""
        return await asyncio.to_thread(place_of, self._path)

    async def scrub(self) -> bool:
        """Write the log back and cut it to nothing, so that only zeroed pages remain of erased rows."""
        async with self._writing, self._reading:  # our own reader must not hold the log
            return await self._writer.run(_checkpoint)

    async def close(self) -> None:
        """The last handle to close writes the log back and removes it."""
        async with self._reading:
            await self._reader.close()
        async with self._writing:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._take_note, self._noted, durably=True)
            await self._writer.close()


def _use_wal(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreError("the vault's file system cannot keep a write-ahead log", reason="io")


def _check(connection: sqlite3.Connection) -> None:
    """In full where that is a matter of milliseconds (R146)."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    size = pages * connection.execute("PRAGMA page_size").fetchone()[0]
    check = "integrity_check" if size <= FULL_CHECK_BYTES else "quick_check"
    problems = [row[0] for row in connection.execute(f"PRAGMA {check}(1)").fetchall()]
    if problems != ["ok"]:
        raise StoreError(f"the file is damaged ({check} failed): restore a backup", reason="corrupt")


def _commit(connection: sqlite3.Connection) -> None:
    _run(connection, "COMMIT", ()).close()


def _read_sequence(connection: sqlite3.Connection) -> int:
    row: tuple[Any, ...] = connection.execute(_SEQUENCE).fetchone()
    return int(row[0])


def _checkpoint(connection: sqlite3.Connection) -> bool:
    connection.execute(f"PRAGMA busy_timeout = {_SCRUB_MS}").close()  # it holds up writers while it waits
    try:
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").close()
    return busy == 0
