"""What observing permits would have refused, counted: kept through restarts, added up over all instances."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.connectors.rows import to_ms
from proxy.connectors.store import Asked, Transaction

MOST = 2000  # rows, and one more for each key: of what comes then only the key is told
REST = ("other", "other", "other")
Place = tuple[str, ...]

_ADD = (
    "INSERT INTO observed (key_id, service, method, path, requests, first_at, last_at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (key_id, service, method, path) DO UPDATE SET "
    "requests = observed.requests + excluded.requests, last_at = excluded.last_at"
)
_LISTED = "SELECT * FROM observed WHERE key_id = $1 ORDER BY requests DESC, service, method, path"


@dataclass(frozen=True, slots=True)
class Observed:
    """Requests of one key of one shape: how many, the first and the last (seconds since the epoch).

    ``path`` is the shape that the metrics tell: ids are ``*``. Of those that were too many to be told apart
    all three are ``other``.
    """

    service: str
    method: str
    path: str
    requests: int
    first_at: float
    last_at: float

    @property
    def is_rest(self) -> bool:
        """Requests of several shapes."""
        return (self.service, self.method, self.path) == REST


async def add(transaction: Transaction, counts: Mapping[Place, int], now: float) -> None:
    """Add counts by (key id, service, method, path)."""
    rows = await transaction.fetch("SELECT key_id, service, method, path FROM observed")
    known: set[Place] = {(row["key_id"], row["service"], row["method"], row["path"]) for row in rows}
    wanted: dict[Place, int] = {}
    for place, count in counts.items():
        if place not in known and len(known) >= MOST:
            rest = (place[0], *REST)
            wanted[rest] = wanted.get(rest, 0) + count
        else:
            known.add(place)
            wanted[place] = wanted.get(place, 0) + count
    await transaction.execute_each(*(_added(place, count, to_ms(now)) for place, count in wanted.items()))


def _added(place: Place, count: int, now: int) -> Asked:
    values = (*place, count, now)
    return (_ADD, *values)


async def of_key(transaction: Transaction, key_id: str) -> tuple[Observed, ...]:
    """What a key's permits would have refused, most first."""
    return tuple(
        Observed(
            row["service"],
            row["method"],
            row["path"],
            int(row["requests"]),
            row["first_at"] / 1000,
            row["last_at"] / 1000,
        )
        for row in await transaction.fetch(_LISTED, key_id)
    )


async def forget(transaction: Transaction, before: float) -> int:
    """Drop what has not happened since ``before`` (seconds since the epoch); how many rows."""
    return await transaction.execute("DELETE FROM observed WHERE last_at < $1", to_ms(before))
