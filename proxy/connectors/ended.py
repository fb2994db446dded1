"""Rows of keys and admin tokens that ended long ago: programs that make one at each start leave very many.

A key that was revoked and has no end of its own stays: a backup from before has it in force, and a restore
asks the vault that it replaces which keys were revoked since. One whose end has passed is over in a backup
too; backups have no tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.connectors.rowseals import GUARDED, Table
from proxy.connectors.store import Asked, Row

BATCH = 100  # rows dropped in one commit


@dataclass(frozen=True, slots=True)
class Ended:
    """What of a table ended before ``$1`` (ms), and what refers to it. ``action``: as the audit names it."""

    action: str
    condition: str
    also: str | None = None


ENDED: Mapping[Table, Ended] = {
    "keys": Ended("key.prune", "expires_at < $1", "DELETE FROM observed WHERE key_id = $1"),
    "admin_tokens": Ended("token.prune", "(expires_at < $1 OR revoked_at < $1)"),
}


def found(table: Table, before: int) -> Asked:
    """The rows of a table that ended before then (ms)."""
    return (f"SELECT * FROM {table} WHERE {ENDED[table].condition} ORDER BY {GUARDED[table].row_id}", before)  # noqa: S608  # our own names


def dropped(table: Table, row_id: str, before: int) -> Asked:
    """The statement that drops such a row."""
    condition = f"{ENDED[table].condition} AND {GUARDED[table].row_id} = $2"
    return (f"DELETE FROM {table} WHERE {condition}", before, row_id)  # noqa: S608  # our own names


def batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Some at a time, so that nobody waits long meanwhile."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
