"""One SQLite connection and the only thread that touches it: pragmas, statements, what failures mean."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from proxy.connectors.settled import settled
from proxy.connectors.store import Row
from proxy.errors import StoreError, StoreReason

BUSY_MS = 5000
_T = TypeVar("_T")
_PARAMETER = re.compile(r"\$(\d+)")
_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_MS}",
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


class Handle:
    """One SQLite connection and the only thread that touches it; opened again after a lasting failure."""

    def __init__(self, path: Path, *, name: str, read_only: bool) -> None:
        self._path = path
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``job`` gives, called in the thread.

        Raises:
            StoreError: SQLite or the file system failed.
        """
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
        connection = sqlite3.connect(self._path, timeout=BUSY_MS / 1000, isolation_level=None)
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
        """Let go of the file and end the thread."""
        loop = asyncio.get_running_loop()
        await settled(loop.run_in_executor(self._thread, self._drop))
        self._thread.shutdown(wait=False)


def run(connection: sqlite3.Connection, statement: str, params: Sequence[Any]) -> sqlite3.Cursor:
    """A statement's cursor; only inside of a transaction, so that none counts by itself."""
    if not connection.in_transaction:  # opened again after a failure: what came before in the block is gone
        raise StoreError("the vault's transaction was lost", reason="io")
    return connection.execute(_translated(statement), params)


@lru_cache(maxsize=512)
def _translated(statement: str) -> str:
    """With SQLite's form of parameters."""
    return _PARAMETER.sub(r"?\1", statement)


def fetch(connection: sqlite3.Connection, statement: str, *params: Any) -> list[Row]:
    """A statement's rows."""
    with contextlib.closing(run(connection, statement, params)) as cursor:
        return [dict(row) for row in cursor.fetchall()]


def execute(connection: sqlite3.Connection, statement: str, *params: Any) -> int:
    """How many rows a statement touched."""
    with contextlib.closing(run(connection, statement, params)) as cursor:
        return cursor.rowcount


def _use_wal(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreError("the vault's file system cannot keep a write-ahead log", reason="io")
