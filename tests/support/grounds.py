"""Where a vault lies, SQLite or PostgreSQL, seen from outside: what tests read in it, spoil, hold up and copy.

Nothing here goes through the program under test: rows are read and written with the databases' own clients.
"""

import asyncio
import contextlib
import shutil
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg

from support.postgres import Database
from support.providers.real import Provider
from support.proxy import toml

SERVICE = "real"
SCHEMA = "connector_proxy"
CHANNEL = "connector_proxy_changes"
WRITER_LOCK = 0x636F6E6E70726F78
_EXPIRE = (
    "UPDATE connections SET expires_at = $1, sequence = (SELECT sequence FROM changes) "
    "WHERE name = COALESCE(CAST($2 AS TEXT), name)"
)
Rows = Sequence[Mapping[str, Any]]


class Ground(ABC):
    """A data folder with its settings file, ``config``; and the database that goes with it."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "proxy.toml"

    def configure(
        self,
        provider: Provider,
        *,
        endpoint: str | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        **oauth: Any,
    ) -> None:
        """Writes the settings: one service, ``real``, of ``provider``; ``endpoint``: a relay before its token URL."""
        services = self.folder / "services"
        services.mkdir(parents=True, exist_ok=True)
        (services / f"{SERVICE}.toml").write_text(provider.service_file(endpoint=endpoint, **oauth))
        secret = self.folder / "client-secret"
        secret.write_text(provider.client_secret)
        secret.chmod(0o600)
        tables: dict[str, dict[str, Any]] = {
            "services": {"directory": str(services), "enabled": [SERVICE]},
            "storage": {"data_dir": str(self.data_dir), **self.storage()},
            "registrations.real": {"client_id": provider.client_id, "client_secret": {"file": str(secret)}},
            "egress": {"allow_addresses": ["127.0.0.1/32"]},
            "log": {"format": "json", "level": "debug"},
        }
        for name, table in (settings or {}).items():
            tables.setdefault(name, {}).update(table)
        self.config.write_text(toml(tables))

    def storage(self) -> Mapping[str, Any]:
        """Further lines of ``[storage]``."""
        return {}

    @abstractmethod
    async def fetch(self, statement: str, *params: object) -> Rows:
        """Rows of one statement with ``$1`` parameters."""

    @abstractmethod
    async def change(self, *statements: tuple[Any, ...]) -> None:
        """Statements with their parameters, in one transaction."""

    @abstractmethod
    def holding_writes(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Nobody else's writing transaction begins inside the block."""

    @abstractmethod
    async def integrity(self) -> str:
        """``ok``, or what the database says is wrong with it."""

    @abstractmethod
    async def clone(self, folder: Path) -> Self:
        """A copy of data folder and database, made while they are in use; its settings lead to the copy."""

    @abstractmethod
    async def files(self) -> bytes:
        """All that the database keeps, as far as it can be had in bytes."""

    async def expire(self, name: str | None = None, *, ago: float = 5.0) -> int:
        """The access token of one connection, or of all, has ended; the sequence number of that change."""
        ended = round((time.time() - ago) * 1000)
        await self.change(
            ("UPDATE changes SET sequence = sequence + 1",),
            (
                _EXPIRE,
                ended,
                name,
            ),
        )
        return int((await self.fetch("SELECT sequence FROM changes"))[0]["sequence"])

    async def connection(self, name: str = "main") -> Mapping[str, Any]:
        """State, cause, generation, and what its lease says, of one connection."""
        rows = await self.fetch(
            "SELECT c.connection_id, c.state, c.cause, c.generation, c.expires_at, r.fence, r.owner, "
            "r.attempt_id, r.unknowns, r.failures, r.retry_at, r.last_error FROM connections c "
            "LEFT JOIN refreshes r ON r.connection_id = c.connection_id WHERE c.name = $1",
            name,
        )
        return rows[0]

    def _copied(self, folder: Path) -> tuple[Path, str]:
        """The data folder but for the database, copied; and the settings' text, leading there."""
        shutil.copytree(
            self.data_dir,
            folder / "data",
            ignore=shutil.ignore_patterns("vault.db*", "server.json", "*.lock"),
        )
        return folder, self.config.read_text().replace(str(self.data_dir), str(folder / "data"))


class SqliteGround(Ground):
    """``vault.db`` in the data folder."""

    name = "sqlite"

    @property
    def file(self) -> Path:
        return self.data_dir / "vault.db"

    @contextlib.contextmanager
    def _open(self) -> Any:
        connection = sqlite3.connect(self.file, timeout=10, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()

    async def fetch(self, statement: str, *params: object) -> Rows:
        with self._open() as connection:
            return [dict(row) for row in connection.execute(statement.replace("$", "?"), params)]

    async def change(self, *statements: tuple[Any, ...]) -> None:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, *params in statements:
                connection.execute(statement.replace("$", "?"), params)
            connection.execute("COMMIT")

    @contextlib.asynccontextmanager
    async def holding_writes(self) -> AsyncIterator[None]:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    async def integrity(self) -> str:
        with self._open() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            return ", ".join(
                [*found, *("foreign key" for _ in connection.execute("PRAGMA foreign_key_check"))]
            )

    async def clone(self, folder: Path) -> Self:
        folder, text = self._copied(folder)
        copy = type(self)(folder)
        copy.config.write_text(text)
        with self._open() as source, copy._open() as target:
            source.backup(target)
        copy.file.chmod(0o600)
        return copy

    async def files(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.data_dir.glob("vault.db*")))


class PostgresGround(Ground):
    """A database of its own; the data folder holds nothing that matters."""

    name = "postgres"

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder)
        self.database = database

    def storage(self) -> Mapping[str, Any]:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = self.data_dir / "given.key"
        if not key.exists():
            key.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
            key.chmod(0o600)
        return {"database_url": self.database.url.reveal(), "master_key": {"file": str(key)}}

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.database.url.reveal(), timeout=10)
        try:
            await connection.execute(f"SET search_path = {SCHEMA}")
            yield connection
        finally:
            await connection.close(timeout=5)

    async def fetch(self, statement: str, *params: object) -> Rows:
        async with self._connected() as connection:
            return [dict(row) for row in await connection.fetch(statement, *params)]

    async def change(self, *statements: tuple[Any, ...]) -> None:
        async with self._connected() as connection, connection.transaction():
            for statement, *params in statements:
                await connection.execute(statement, *params)
            await connection.execute(f"NOTIFY {CHANNEL}")

    @contextlib.asynccontextmanager
    async def holding_writes(self) -> AsyncIterator[None]:
        async with self._connected() as connection, connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
            yield

    async def integrity(self) -> str:
        """PostgreSQL repairs itself at start; what it can be asked is whether every row can be read."""
        tables = await self.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", SCHEMA)
        for table in tables:
            await self.fetch(f"SELECT * FROM {table['tablename']}")  # noqa: S608  # the database's own name
        return "ok"

    async def clone(self, folder: Path) -> Self:
        folder, text = self._copied(folder)
        copy = type(self)(folder, await asyncio.to_thread(self.database.dumped))
        text = text.replace(self.database.url.reveal(), copy.database.url.reveal())
        copy.config.write_text(text)
        return copy

    async def files(self) -> bytes:
        tables = await self.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", SCHEMA)
        statements = [f"SELECT * FROM {table['tablename']}" for table in tables]  # noqa: S608  # its own names
        rows = [row for statement in statements for row in await self.fetch(statement)]
        values = [value for row in rows for value in row.values()]
        return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


async def settled(ground: Ground, name: str = "main", *, limit: float = 20.0) -> Mapping[str, Any]:
    """The connection's row once nobody refreshes it."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        row = await ground.connection(name)
        if row["owner"] is None:
            return row
        await asyncio.sleep(0.005)
    raise AssertionError(f"still being refreshed after {limit} s: {dict(await ground.connection(name))}")
