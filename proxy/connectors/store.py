"""What a store has to do; the schema that all stores share is in ``schema``.

Statements are written once: ``$1`` parameters, times as integers (milliseconds since the epoch), JSON as
text, secrets as sealed blobs. To SQLite ``BYTEA`` is a type without conversion, ``BIGINT`` its integer.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from proxy.connectors.schema import MIGRATIONS, OLDEST_RELEASE
from proxy.errors import StateError

Row = Mapping[str, Any]
Asked = tuple[str, *tuple[object, ...]]  # a statement and its parameters


class Transaction(Protocol):
    """Statements that count together or not at all."""

    async def execute(self, statement: str, *params: object) -> int:
        """Run one statement; the number of rows that it touched."""
        ...

    async def fetch(self, statement: str, *params: object) -> Sequence[Row]:
        """Run one statement; its rows, addressable by column name."""
        ...

    async def fetch_each(self, *asked: Asked) -> tuple[Sequence[Row], ...]:
        """The rows of several statements, each with its parameters; what no statement needs of another."""
        return tuple([await self.fetch(statement, *params) for statement, *params in asked])

    async def execute_each(self, *asked: Asked) -> tuple[int, ...]:
        """Run several statements in this order; how many rows each touched."""
        return tuple([await self.execute(statement, *params) for statement, *params in asked])


class Store(Protocol):
    """A database. Methods raise ``StoreError`` when it fails, and work again once it does."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A writing transaction: committed and durable when the block ends, rolled back when it raises.

        Only one runs at a time, over all processes: what is read in it stays true until the commit. After a
        statement in it failed, the block can only be left.
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """A reading transaction that sees one state throughout."""
        ...

    async def look(self, seen: int, *asked: Asked) -> tuple[int, tuple[Sequence[Row], ...]]:
        """The number of the latest change of connections or keys, whichever process made it.

        Where it is not ``seen``, also the rows of these statements, all of the state of that number.
        """
        ...

    async def sequence(self) -> int:
        """That number alone."""
        return (await self.look(-1))[0]

    async def changed(self, seen: int, poll_s: float) -> int:
        """Wait until another process may have changed something.

        Args:
            seen: what the last call returned, 0 the first time; so that nothing between two calls is missed.
            poll_s: after how many seconds to look all the same, where the database does not tell of changes.
        """
        ...

    async def incarnation(self) -> str:
        """Which database this is: the same text for as long as it is not copied, restored or cloned."""
        ...

    async def scrub(self) -> bool:
        """Make erased bytes disappear from the files; False when readers elsewhere held it up for now."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the files."""
        ...


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


NEXT_SEQUENCE = "UPDATE changes SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence"


async def next_sequence(transaction: Transaction) -> int:
    """Announce a change: its number. The row stays locked until the commit, so numbers commit in order."""
    rows = await transaction.fetch(NEXT_SEQUENCE)
    return int(rows[0]["sequence"])
