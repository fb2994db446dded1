"""The SQLite store: one file in the data folder, one thread that writes, one that reads.

WAL with ``synchronous=FULL``: a commit that was acknowledged survives kill -9 and power loss
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.connectors.folder import prepare_file, prepare_folder
from proxy.connectors.place import LatestNote, place_of, recognise
from proxy.connectors.sqlite_handle import BUSY_MS, Handle, execute, fetch, run
from proxy.connectors.store import Asked, Row, Store, Transaction, migrate
from proxy.errors import StateError, StoreError

FILE_NAME = "vault.db"
_SEQUENCE = "SELECT sequence FROM changes WHERE id = 1"
FULL_CHECK_BYTES = 16 * 2**20  # about a tenth of a second
_SCRUB_MS = 100


class _Statements(Transaction):
    """A transaction: statements with ``$1`` parameters, run one by one on a handle."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def execute(self, statement: str, *params: object) -> int:
        return await self._handle.run(lambda connection: execute(connection, statement, *params))

    async def fetch(self, statement: str, *params: object) -> Sequence[Row]:
        return await self._handle.run(lambda connection: fetch(connection, statement, *params))

    async def fetch_each(self, *asked: Asked) -> tuple[Sequence[Row], ...]:
        """One hop to the handle's thread for all of them: a hop costs more than a statement."""
        return await self._handle.run(lambda connection: tuple(fetch(connection, *one) for one in asked))

    async def execute_each(self, *asked: Asked) -> tuple[int, ...]:
        return await self._handle.run(lambda connection: tuple(execute(connection, *one) for one in asked))


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK").close()


class SqliteStore(Store):
    """See :class:`proxy.connectors.store.Store`; made by :meth:`open`."""

    def __init__(self, path: Path, notices: tuple[str, ...]) -> None:
        self.notices = notices
        self._path = path
        self._writer = Handle(path, name="vault-write", read_only=False)
        self._reader = Handle(path, name="vault-read", read_only=True)
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
        self, handle: Handle, begin: str, commit: Callable[[sqlite3.Connection], None]
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
    def _begin(handle: Handle, connection: sqlite3.Connection, statement: str) -> None:
        handle.refuse_replaced()
        connection.execute(statement).close()

    def _look(
        self, connection: sqlite3.Connection, seen: int, asked: Sequence[Asked]
    ) -> tuple[int, tuple[Sequence[Row], ...]]:
        self._begin(self._reader, connection, "BEGIN")
        try:
            found = _read_sequence(connection)
            rows = () if found == seen else tuple(fetch(connection, *one) for one in asked)
        finally:
            _rollback(connection)
        return found, rows

    def _commit(self, connection: sqlite3.Connection) -> None:
        _commit(connection)
        with contextlib.suppress(OSError, sqlite3.Error):  # it is committed; the note may come later
            self._take_note(_read_sequence(connection))

    def _take_note(self, sequence: int, *, durably: bool = False) -> None:
        if sequence > self._noted or durably:
            self._note.raise_to(sequence, durably=durably)
            self._noted = max(sequence, self._noted)

    async def look(self, seen: int, *asked: Asked) -> tuple[int, tuple[Sequence[Row], ...]]:
        """One hop to the reading thread."""
        while True:
            async with self._reading:
                looked = await self._reader.run(lambda connection: self._look(connection, seen, asked))
            if looked[0] >= self._noted:
                return looked
            async with self.transaction() as transaction:  # an older state was put back under us
                await recognise(transaction, self._noted)

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


def _check(connection: sqlite3.Connection) -> None:
    """In full where that is a matter of milliseconds (R146)."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    size = pages * connection.execute("PRAGMA page_size").fetchone()[0]
    check = "integrity_check" if size <= FULL_CHECK_BYTES else "quick_check"
    problems = [row[0] for row in connection.execute(f"PRAGMA {check}(1)").fetchall()]
    if problems != ["ok"]:
        raise StoreError(f"the file is damaged ({check} failed): restore a backup", reason="corrupt")


def _commit(connection: sqlite3.Connection) -> None:
    run(connection, "COMMIT", ()).close()


def _read_sequence(connection: sqlite3.Connection) -> int:
    row: tuple[Any, ...] = connection.execute(_SEQUENCE).fetchone()
    return int(row[0])


def _checkpoint(connection: sqlite3.Connection) -> bool:
    connection.execute(f"PRAGMA busy_timeout = {_SCRUB_MS}").close()  # it holds up writers while it waits
    try:
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}").close()
    return busy == 0
