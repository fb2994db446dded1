"""What a store has to do, and the schema that all stores share.

Statements are written once: ``$1`` parameters, times as integers (milliseconds since the epoch), JSON as
text, secrets as sealed blobs. To SQLite ``BYTEA`` is a type without conversion, ``BIGINT`` its integer.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from proxy.errors import StateError

Row = Mapping[str, Any]


class Transaction(Protocol):
    """Statements that count together or not at all."""

    async def execute(self, statement: str, *params: object) -> int:
        """Run one statement; the number of rows that it touched."""
        ...

    async def fetch(self, statement: str, *params: object) -> Sequence[Row]:
        """Run one statement; its rows, addressable by column name."""
        ...


class Store(Protocol):
    """A database. Methods raise ``StoreError`` when it fails, and work again once it does."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A writing transaction: committed and durable when the block ends, rolled back when it raises."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """A reading transaction that sees one state throughout."""
        ...

    async def sequence(self) -> int:
        """The number of the latest change of connections or keys, whichever process made it."""
        ...

    async def scrub(self) -> bool:
        """Make erased bytes disappear from the files; False when readers elsewhere held it up for now."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the files."""
        ...


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE changes (id INTEGER PRIMARY KEY CHECK (id = 1), sequence BIGINT NOT NULL)",
        "INSERT INTO changes (id, sequence) VALUES (1, 0)",
        """CREATE TABLE data_keys (
            key_id TEXT PRIMARY KEY,
            master_id TEXT NOT NULL,
            wrapped BYTEA NOT NULL,
            messages BIGINT NOT NULL DEFAULT 0,
            is_active INTEGER NOT NULL,
            created_at BIGINT NOT NULL)""",
        "CREATE UNIQUE INDEX data_keys_active ON data_keys (is_active) WHERE is_active = 1",
        "CREATE TABLE canary (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BYTEA NOT NULL)",
        """CREATE TABLE connections (
            connection_id TEXT PRIMARY KEY,
            service TEXT NOT NULL,
            name TEXT NOT NULL,
            is_default INTEGER NOT NULL,
            state TEXT NOT NULL,
            cause TEXT,
            account TEXT,
            scopes TEXT NOT NULL,
            config TEXT,
            metadata TEXT NOT NULL,
            scheme TEXT,
            access_token BYTEA NOT NULL,
            refresh_token BYTEA,
            access_key_id TEXT NOT NULL REFERENCES data_keys (key_id),
            refresh_key_id TEXT REFERENCES data_keys (key_id),
            expires_at BIGINT,
            generation BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL,
            sequence BIGINT NOT NULL,
            UNIQUE (service, name))""",
        "CREATE UNIQUE INDEX connections_default ON connections (service) WHERE is_default = 1",
        "CREATE INDEX connections_sequence ON connections (sequence)",
        """CREATE TABLE keys (
            key_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            digest BYTEA NOT NULL,
            permits TEXT NOT NULL,
            kind TEXT NOT NULL,
            root TEXT,
            networks TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT,
            last_used_at BIGINT,
            sequence BIGINT NOT NULL)""",
        "CREATE INDEX keys_sequence ON keys (sequence)",
        """CREATE TABLE audit (
            audit_id TEXT PRIMARY KEY,
            at BIGINT NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL)""",
        "CREATE INDEX audit_at ON audit (at)",
    ),
)
"""One entry a schema version, oldest first. Entries are never changed after a release, only added."""

OLDEST_RELEASE = 1
"""The oldest schema version whose code may still run on the newest schema; raised when a change contracts."""

_VERSION_TABLE = """CREATE TABLE IF NOT EXISTS schema_version (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, oldest_release INTEGER NOT NULL)"""


async def migrate(
    transaction: Transaction,
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
    oldest_release: int = OLDEST_RELEASE,
) -> int:
    """Bring the schema forward in the caller's transaction: a crash leaves the old or the new one.

    Returns:
        the version the schema has now; newer than ours when a newer release shares the database.

    Raises:
        StateError: a newer release has changed the schema so far that this one must not run on it.
    """
    await transaction.execute(_VERSION_TABLE)
    rows = await transaction.fetch("SELECT version, oldest_release FROM schema_version WHERE id = 1")
    version = int(rows[0]["version"]) if rows else 0
    if rows and int(rows[0]["oldest_release"]) > len(migrations):
        raise StateError(
            f"the vault's schema is version {version} and needs a release that knows at least version "
            f"{rows[0]['oldest_release']}; this one knows {len(migrations)}: install the newer release again"
        )
    if version >= len(migrations):
        return version
    for steps in migrations[version:]:
        for statement in steps:
            await transaction.execute(statement)
    await transaction.execute(
        "INSERT INTO schema_version (id, version, oldest_release) VALUES (1, $1, $2) "
        "ON CONFLICT (id) DO UPDATE SET version = excluded.version, oldest_release = excluded.oldest_release",
        len(migrations),
        oldest_release,
    )
    return len(migrations)


async def next_sequence(transaction: Transaction) -> int:
    """Announce a change: its number. The row stays locked until the commit, so numbers commit in order."""
    rows = await transaction.fetch(
        "UPDATE changes SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence"
    )
    return int(rows[0]["sequence"])
