"""Re-encryption: every sealed value of the vault moves under the data key in force, row by row (R137).

The work is in the rows themselves: a value whose key id is another one is still to be done. So it may be cut
off anywhere and gone on with later, by this process or another, while servers read and write.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proxy.connectors.datakeys import CANARY_PLACE
from proxy.connectors.identity import MARK_PLACE
from proxy.connectors.rows import token_place
from proxy.connectors.rowseals import GUARDED, SEAL, SEAL_KEY, row_place
from proxy.connectors.seal import Keyring, Place, SealBrokenError, key_id_of
from proxy.connectors.store import Row, Transaction
from proxy.connectors.vault_flows import flow_place
from proxy.connectors.vault_registrations import secret_place


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """Where sealed values are. ``key_column`` holds the ids of their keys; None for a table without."""

    table: str
    row_id: str
    column: str
    key_column: str | None
    place: Callable[[Row], Place]


SEALED = (
    SealedColumn(
        "connections",
        "connection_id",
        "access_token",
        "access_key_id",
        lambda row: token_place(row, "access_token"),
    ),
    SealedColumn(
        "connections",
        "connection_id",
        "refresh_token",
        "refresh_key_id",
        lambda row: token_place(row, "refresh_token"),
    ),
    SealedColumn("registrations", "registration_id", "client_secret", "secret_key_id", secret_place),
    SealedColumn("flows", "flow_id", "sealed", "sealed_key_id", flow_place),
    SealedColumn("identity", "id", "mark_key", "mark_key_id", lambda _: MARK_PLACE),
    *(
        SealedColumn(table, guarded.row_id, SEAL, SEAL_KEY, partial(row_place, table))
        for table, guarded in GUARDED.items()
    ),
    SealedColumn("canary", "id", "sealed", None, lambda _: CANARY_PLACE),
)
"""Every column that holds sealed values; a test compares it with the schema."""

JOURNAL = "refresh-journal"  # in the data folder: answers of providers that the store could not take
_Broken = set[tuple[str, str, object]]


@dataclass(slots=True)
class Reseal:
    """One pass over all sealed values; ``broken`` are those that do not open, which keep their key."""

    broken: _Broken = field(default_factory=set)
    done: int = 0

    async def step(self, transaction: Transaction, ring: Keyring, most: int) -> int:
        """Re-encrypt up to ``most`` values in the caller's transaction; 0 when none is left."""
        moved = 0
        for sealed in SEALED:
            for row in await self._rows(transaction, sealed, ring, most - moved):
                moved += await self._move(transaction, sealed, ring, row)
            if moved >= most:
                break
        self.done += moved
        return moved

    async def _rows(
        self, transaction: Transaction, sealed: SealedColumn, ring: Keyring, most: int
    ) -> list[Row]:
        if sealed.key_column is None:
            rows = await transaction.fetch(f"SELECT * FROM {sealed.table}")  # noqa: S608  # our own names
            rows = [row for row in rows if _key_of(row, sealed) != ring.active]
        else:
            rows = await transaction.fetch(
                f"SELECT * FROM {sealed.table} WHERE {sealed.key_column} <> $1 LIMIT $2",  # noqa: S608  # our own names
                ring.active,
                most + len(self.broken),
            )
        return [row for row in rows if _mark(sealed, row) not in self.broken][:most]

    async def _move(self, transaction: Transaction, sealed: SealedColumn, ring: Keyring, row: Row) -> int:
        place = sealed.place(row)
        try:
            plaintext = ring.open(bytes(row[sealed.column]), place)
        except SealBrokenError:
            self.broken.add(_mark(sealed, row))
            return 0
        values: dict[str, object] = {sealed.column: ring.seal(plaintext, place)}
        if sealed.key_column is not None:
            values[sealed.key_column] = ring.active
        changes = ", ".join(f"{name} = ${at}" for at, name in enumerate(values, 2))
        await transaction.execute(
            f"UPDATE {sealed.table} SET {changes} WHERE {sealed.row_id} = $1",  # noqa: S608  # our own names
            row[sealed.row_id],
            *values.values(),
        )
        return 1


def _mark(sealed: SealedColumn, row: Row) -> tuple[str, str, object]:
    return (sealed.table, sealed.column, row[sealed.row_id])


def _key_of(row: Row, sealed: SealedColumn) -> str:
    try:
        return key_id_of(bytes(row[sealed.column]))
    except SealBrokenError:
        return ""


async def rows_by_key(transaction: Transaction) -> Mapping[str, int]:
    """How many sealed values need each data key; keys that nothing needs are not in it."""
    counts: dict[str, int] = {}
    for sealed in SEALED:
        if sealed.key_column is None:
            rows = await transaction.fetch(f"SELECT * FROM {sealed.table}")  # noqa: S608  # our own names
            found = [(_key_of(row, sealed), 1) for row in rows]
        else:
            name = sealed.key_column
            rows = await transaction.fetch(
                f"SELECT {name} AS key_id, COUNT(*) AS n FROM {sealed.table} "  # noqa: S608  # our own names
                f"WHERE {name} IS NOT NULL GROUP BY {name}"
            )
            found = [(row["key_id"], int(row["n"])) for row in rows]
        for key_id, count in found:
            counts[key_id] = counts.get(key_id, 0) + count
    return counts


def keys_in(folder: Path) -> frozenset[str]:
    """The ids of the data keys that the files of a folder are sealed with, such as answers kept aside."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            with contextlib.suppress(SealBrokenError, FileNotFoundError):
                found.add(key_id_of(path.read_bytes()))
    return frozenset(found)


async def retire(transaction: Transaction, also_needed: frozenset[str]) -> tuple[str, ...]:
    """Remove the data keys that are not in force and that nothing needs; their ids."""
    needed = {*await rows_by_key(transaction), *also_needed}
    rows = await transaction.fetch("SELECT key_id FROM data_keys WHERE is_active = 0")
    removed = tuple(row["key_id"] for row in rows if row["key_id"] not in needed)
    for key_id in removed:
        await transaction.execute("DELETE FROM data_keys WHERE key_id = $1 AND is_active = 0", key_id)
    return removed
