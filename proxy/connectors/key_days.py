"""What each key did in a day: counted while the day lasts, then a row of the audit for each key.

The audit is where that is looked up, exported and proven; here is only what is not over yet.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from proxy.connectors.audit import Note
from proxy.connectors.audit_log import AuditLog
from proxy.connectors.store import Asked, Row, Transaction

ACTION = "key.used"
MOST_A_DAY = 5000  # rows; of what comes then only the key is told
MOST_TOLD = 100  # in one row of the audit; the rest is one number
REST = ("-", "-", "other", "other")
Place = tuple[str, ...]  # key id, service, connection, class of the method, outcome

_COLUMNS = "day, key_id, service, connection, method, outcome"
_ADD = (
    f"INSERT INTO key_days ({_COLUMNS}, requests) VALUES ($1, $2, $3, $4, $5, $6, $7) "  # noqa: S608  # our own names
    f"ON CONFLICT ({_COLUMNS}) DO UPDATE SET requests = key_days.requests + excluded.requests"
)
_OVER = (
    "SELECT * FROM key_days WHERE day < $1 "
    "ORDER BY day, key_id, requests DESC, service, connection, method, outcome"
)


async def add(transaction: Transaction, log: AuditLog, counts: Mapping[Place, int], now: float) -> None:
    """Add counts to today; days before are over, and are told."""
    await tell(transaction, log, now)
    today = day_of(now)
    rows = await transaction.fetch("SELECT COUNT(*) AS n FROM key_days WHERE day = $1", today)
    is_full = int(rows[0]["n"]) + len(counts) > MOST_A_DAY
    wanted: dict[Place, int] = {}
    for place, count in counts.items():
        kept = (place[0], *REST) if is_full else place
        wanted[kept] = wanted.get(kept, 0) + count
    await transaction.execute_each(*(_added(today, place, count) for place, count in wanted.items()))


async def tell(transaction: Transaction, log: AuditLog, now: float) -> int:
    """Write the rows of days that are over; how many."""
    today = day_of(now)
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in await transaction.fetch(_OVER, today):
        by_key.setdefault((row["day"], row["key_id"]), []).append(row)
    if by_key:
        notes = [_note(day, key_id, rows) for (day, key_id), rows in by_key.items()]
        await log.record_each(transaction, now, notes)
        await transaction.execute("DELETE FROM key_days WHERE day < $1", today)
    return len(by_key)


def day_of(now: float) -> str:
    """The day in UTC, as ``2026-11-22``."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def _added(day: str, place: Place, count: int) -> Asked:
    values = (day, *place, count)
    return (_ADD, *values)


def _note(day: str, key_id: str, rows: list[Row]) -> Note:
    calls = {
        f"{row['service']}@{row['connection']} {row['method']} {row['outcome']}": int(row["requests"])
        for row in rows[:MOST_TOLD]
    }
    rest = sum(int(row["requests"]) for row in rows[MOST_TOLD:])
    detail = {"day": day, "requests": sum(calls.values()) + rest, "calls": calls}
    return Note("proxy", ACTION, key_id, {**detail, "more": rest} if rest else detail)
