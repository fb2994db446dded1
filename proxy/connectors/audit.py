"""Audit rows: who changed or revealed what, and when (R157). They never hold a secret."""

import itertools
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.connectors.rows import to_json, to_ms
from proxy.connectors.store import Asked, Transaction

KEEP_DAYS = 90
Mark = tuple[int, str]  # of a row: its time in milliseconds and its id, which order rows
LAST: Mark = (2**62, "")
_DAY_MS = 86_400_000
_NUMBERS = itertools.count()  # keeps this process's rows of one millisecond in order


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row; ``at`` in seconds since the epoch, ``subject`` a connection (``slack@work``) or a key's id.

    ``audit_id`` tells rows of one millisecond apart.
    """

    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, object]
    audit_id: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A row that is to be written."""

    actor: str
    action: str
    subject: str
    detail: Mapping[str, object]


async def record(
    transaction: Transaction,
    at: float,
    *,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, object],
) -> None:
    """Add a row, in the transaction of what it tells about."""
    await record_each(transaction, at, [Note(actor, action, subject, detail)])


async def record_each(transaction: Transaction, at: float, notes: Sequence[Note]) -> None:
    """Add rows in this order, in the transaction of what they tell about."""
    if notes:
        await transaction.execute_each(*(_added(at, note) for note in notes))


def _added(at: float, note: Note) -> Asked:
    return (
        "INSERT INTO audit (audit_id, at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)",
        f"{to_ms(at):013x}{next(_NUMBERS):08x}{secrets.token_hex(6)}",
        to_ms(at),
        note.actor,
        note.action,
        note.subject,
        to_json(dict(note.detail)),
    )


async def read(
    transaction: Transaction, *, since: float = 0.0, before: Mark = LAST, limit: int = 1000
) -> tuple[AuditEntry, ...]:
    """Rows from ``since`` (seconds since the epoch) on and before the row ``before``, newest first."""
    rows = await transaction.fetch(
        "SELECT audit_id, at, actor, action, subject, detail FROM audit WHERE at >= $1 "
        "AND (at < $2 OR (at = $2 AND audit_id < $3)) ORDER BY at DESC, audit_id DESC LIMIT $4",
        to_ms(since),
        *before,
        limit,
    )
    return tuple(
        AuditEntry(
            row["at"] / 1000,
            row["actor"],
            row["action"],
            row["subject"],
            json.loads(row["detail"]),
            row["audit_id"],
        )
        for row in rows
    )


async def prune(transaction: Transaction, now: float, days: int = KEEP_DAYS) -> int:
    """Drop rows older than ``days``; how many there were."""
    return await transaction.execute("DELETE FROM audit WHERE at < $1", to_ms(now) - days * _DAY_MS)
