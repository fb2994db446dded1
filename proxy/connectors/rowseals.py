"""Seals on rows that say who may do what: a row changed behind the program's back is refused.

Keys, admin tokens, users, the first user's password and sessions hold no secret to encrypt, so each carries
a sealed value of nothing, whose place is all that the row grants: who can write to the database but has no
master key cannot make one. A data key seals it, so rotation renews it like everything sealed. What it does
not show: that a row was removed, or that an earlier, genuine state of it was put back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from proxy.connectors.rows import blob_of, to_json
from proxy.connectors.seal import Keyring, Place, SealBrokenError, key_id_of
from proxy.connectors.store import Asked, Row, Transaction
from proxy.errors import ConflictError, Fault

SEAL, SEAL_KEY = "row_seal", "row_seal_key_id"
Table = Literal["keys", "admin_tokens", "users", "admin", "sessions"]
Why: TypeAlias = Literal["unsigned", "changed"]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A table with seals: its primary key, and what else of a row is sealed. Notes of last uses are not."""

    row_id: str
    columns: tuple[str, ...]
    shown: str  # the column that names a row to a person


GUARDED: Mapping[Table, Guarded] = {
    "keys": Guarded(
        "key_id",
        (
            "name", "digest", "permits", "kind", "root", "networks", "created_at", "expires_at", "revoked_at",
            "rate", "concurrency",
        ),
        "key_id",
    ),
    "admin_tokens": Guarded(
        "token_id", ("name", "digest", "scopes", "created_at", "expires_at", "revoked_at"), "token_id"
    ),
    "users": Guarded("name", ("role", "email", "password", "created_at", "known_as"), "name"),
    "admin": Guarded("id", ("password", "changed_at"), "id"),
    "sessions": Guarded("session_digest", ("user_name", "created_at", "expires_at"), "user_name"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not in force. ``unsigned``: an older release wrote it, or somebody with no master key."""

    table: Table
    row: str
    why: Why

    def __str__(self) -> str:
        told = {
            "unsigned": "was not written by this release",
            "changed": "was changed outside of connector-proxy",
        }
        return (
            f"the row {self.row!r} of {self.table} {told[self.why]} and is not in force: "
            "'connector-proxy vault sign' shows such rows"
        )


def row_place(table: Table, row: Row) -> Place:
    """All that the row grants is its seal's place."""
    guarded = GUARDED[table]
    values = [_plain(row[name]) for name in (guarded.row_id, *guarded.columns)]
    return Place(table, to_json(values), SEAL)


def _plain(value: Any) -> Any:
    return bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else value


def why_refused(table: Table, row: Row, ring: Keyring) -> Why | None:
    """None for a genuine row."""
    blob = row[SEAL]
    if blob is None:
        return "unsigned"
    try:
        ring.open(blob_of(blob), row_place(table, row))
    except SealBrokenError:
        return "changed"
    return None


def refused(table: Table, row: Row, ring: Keyring) -> Refused | None:
    """None for a genuine row."""
    why = why_refused(table, row, ring)
    return None if why is None else Refused(table, str(_plain(row[GUARDED[table].shown])), why)


async def find(transaction: Transaction, table: Table, row_id: object) -> Row | None:
    """The row of that primary key."""
    rows = await transaction.fetch(f"SELECT * FROM {table} WHERE {GUARDED[table].row_id} = $1", row_id)  # noqa: S608  # our own names
    return rows[0] if rows else None


async def sign(transaction: Transaction, ring: Keyring, table: Table, row: Row) -> None:
    """Seal a row as it is."""
    blob = ring.seal(b"", row_place(table, row))
    await transaction.execute(
        f"UPDATE {table} SET {SEAL} = $1, {SEAL_KEY} = $2 WHERE {GUARDED[table].row_id} = $3",  # noqa: S608  # our own names
        blob,
        key_id_of(blob),
        row[GUARDED[table].row_id],
    )


async def write(
    transaction: Transaction,
    ring: Keyring,
    table: Table,
    row_id: object,
    change: Asked,
    *,
    whole: bool = False,
) -> int:
    """Change one row, or add it, and seal what it is then; how many rows were touched.

    ``whole``: everything that is sealed is given anew, so it does not matter what was there.

    Raises:
        ConflictError: the row is not genuine: to change it would be to vouch for it.
    """
    before = None if whole else await find(transaction, table, row_id)
    if before is not None and (fault := refused(table, before, ring)) is not None:
        raise ConflictError(Fault(fault.row, str(fault)))
    touched = await transaction.execute(*change)
    after = await find(transaction, table, row_id) if touched else None
    if after is not None:
        await sign(transaction, ring, table, after)
    return touched


async def write_if_genuine(
    transaction: Transaction, ring: Keyring, table: Table, row_id: object, change: Asked
) -> int:
    """The same for what only takes away: a row that is not genuine is changed too, and stays refused."""
    before = await find(transaction, table, row_id)
    is_genuine = before is not None and why_refused(table, before, ring) is None
    touched = await transaction.execute(*change)
    after = await find(transaction, table, row_id) if touched and is_genuine else None
    if after is not None:
        await sign(transaction, ring, table, after)
    return touched


async def all_refused(transaction: Transaction, ring: Keyring) -> tuple[tuple[Table, Row, Refused], ...]:
    """Every row that is not in force for its seal."""
    found: list[tuple[Table, Row, Refused]] = []
    for table, guarded in GUARDED.items():
        for row in await transaction.fetch(f"SELECT * FROM {table} ORDER BY {guarded.row_id}"):  # noqa: S608  # our own names
            fault = refused(table, row, ring)
            if fault is not None:
                found.append((table, row, fault))
    return tuple(found)


async def sign_first(transaction: Transaction, ring: Keyring, now_ms: int) -> Mapping[str, int] | None:
    """Seal the rows of a vault that comes from a release without seals; how many by table, None: it was done.

    That there are seals already, and the note of the first signing is gone, is no first start: then nothing
    is sealed.
    """
    if await transaction.fetch("SELECT 1 AS done FROM row_seals WHERE id = 1"):
        return None
    await transaction.execute("INSERT INTO row_seals (id, begun_at) VALUES (1, $1)", now_ms)
    counts: dict[str, int] = {}
    for table in GUARDED:
        if await transaction.fetch(f"SELECT 1 AS one FROM {table} WHERE {SEAL} IS NOT NULL LIMIT 1"):  # noqa: S608  # our own names
            return {}
    for table in GUARDED:
        rows = await transaction.fetch(f"SELECT * FROM {table}")  # noqa: S608  # our own names
        for row in rows:
            await sign(transaction, ring, table, row)
        if rows:
            counts[table] = len(rows)
    return counts
