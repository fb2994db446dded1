"""A place for a vault, in either kind of store, so that one test proves the same of both."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from proxy.catalog.model import Catalog
from proxy.connectors.masterkey import GivenKey, MasterKeySource
from proxy.connectors.postgres import SCHEMA, PostgresStore
from proxy.connectors.sqlite import FILE_NAME, SqliteStore
from proxy.connectors.store import Store
from proxy.connectors.vault import Vault
from proxy.secret import Secret
from support.postgres import Database
from support.vaults import CATALOG, MASTER, Clock


async def edit(folder: Path, *statements: str) -> None:
    """Statements behind an open SQLite vault's back, beside the loop: a write that the vault is at may need that to end."""

    def run() -> None:
        with closing(sqlite3.connect(folder / FILE_NAME, timeout=30, isolation_level=None)) as plain:
            for statement in statements:
                plain.execute(statement)

    await asyncio.to_thread(run)


class VaultPlace(Protocol):
    """Where a vault lies; each ``store`` or ``opened`` is another process's view of the same one."""

    kind: str
    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process of the program needs to use this vault."""
        ...

    async def connect(self) -> Store:
        """The store, open."""
        ...

    def run(self, statements: str) -> str:
        """Statements behind the vault's back; rows as lines, columns separated by ``|``."""
        ...

    def copied(self, folder: Path) -> "VaultPlace":
        """Another place with what is in this one now, also while it is in use."""
        ...

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """A store, closed afterwards."""
        store = await self.connect()
        try:
            yield store
        finally:
            await store.close()

    async def open(
        self,
        *,
        key: MasterKeySource | None = None,
        clock: Callable[[], float] | None = None,
        catalog: Catalog = CATALOG,
    ) -> Vault:
        """The vault over it."""
        return await Vault.over(
            await self.connect(), key or GivenKey(MASTER), catalog=catalog, clock=clock or Clock()
        )

    @asynccontextmanager
    async def opened(
        self,
        *,
        key: MasterKeySource | None = None,
        clock: Callable[[], float] | None = None,
        catalog: Catalog = CATALOG,
    ) -> AsyncIterator[Vault]:
        """A vault, closed afterwards."""
        vault = await self.open(key=key, clock=clock, catalog=catalog)
        try:
            yield vault
        finally:
            await vault.close()


class SqlitePlace(VaultPlace):
    """A data folder."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def environment(self) -> Mapping[str, str]:
        return {"CONNECTOR_PROXY_DATA_DIR": str(self.folder), "CONNECTOR_PROXY_MASTER_KEY": MASTER.reveal()}

    async def connect(self) -> Store:
        return await SqliteStore.open(self.folder)

    def run(self, statements: str) -> str:
        with closing(sqlite3.connect(self.folder / FILE_NAME, isolation_level=None)) as plain:
            rows = [row for part in statements.split(";") for row in plain.execute(part).fetchall()]
        return "".join("|".join("" if one is None else str(one) for one in row) + "\n" for row in rows)

    def copied(self, folder: Path) -> VaultPlace:
        folder.mkdir(mode=0o700)
        with (
            closing(sqlite3.connect(self.folder / FILE_NAME)) as plain,
            closing(sqlite3.connect(folder / FILE_NAME)) as copy,
        ):
            plain.backup(copy)
        (folder / FILE_NAME).chmod(0o600)
        return SqlitePlace(folder)


class PostgresPlace(VaultPlace):
    """A database, and a data folder for what is not kept in it."""

    kind = "postgresql"

    def __init__(self, database: "Database | Address", folder: Path) -> None:
        self.database = database
        self.folder = folder

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "CONNECTOR_PROXY_DATA_DIR": str(self.folder),
            "CONNECTOR_PROXY_DATABASE_URL": self.database.url.reveal(),
            "CONNECTOR_PROXY_MASTER_KEY": MASTER.reveal(),
        }

    async def connect(self) -> Store:
        return await PostgresStore.open(self.database.url)

    def run(self, statements: str) -> str:
        return self.database.run(f"SET search_path = {SCHEMA}; {statements}")

    def copied(self, folder: Path) -> VaultPlace:
        return PostgresPlace(self.database.dumped(), folder)


def place_of(environ: Mapping[str, str]) -> VaultPlace:
    """The place that ``environment`` of one tells a process about."""
    folder, url = Path(environ["CONNECTOR_PROXY_DATA_DIR"]), environ.get("CONNECTOR_PROXY_DATABASE_URL")
    return SqlitePlace(folder) if url is None else PostgresPlace(Address(Secret(url)), folder)


@dataclass(frozen=True)
class Address:
    """A database of which only the address is known."""

    url: Secret

    def run(self, statements: str) -> str:
        raise NotImplementedError("only the process that has the server")

    def dumped(self) -> Database:
        raise NotImplementedError("only the process that has the server")
