"""Reading what changed in the store since a snapshot was made, and no more than that (R89)."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.connectors.rows import CONNECTION_COLUMNS, KEY_COLUMNS
from proxy.connectors.rowseals import SEAL, SEAL_KEY
from proxy.connectors.store import Asked, Row, Store

_CONNECTIONS = f"SELECT {', '.join(CONNECTION_COLUMNS)} FROM connections WHERE sequence > $1"  # noqa: S608  # our own column names
_KEYS = f"SELECT {', '.join((*KEY_COLUMNS, SEAL, SEAL_KEY))} FROM keys WHERE sequence > $1"  # noqa: S608  # our own column names

_PLACE = (
    "SELECT c.sequence, i.incarnation, (SELECT COUNT(*) FROM connections) AS connections, "
    "(SELECT key_id FROM data_keys WHERE is_active = 1) AS active_key "
    "FROM changes c, identity i WHERE c.id = 1 AND i.id = 1"
)


class _SizedContainer(Container[str], Protocol):
    def __len__(self) -> int: ...


class Known(Protocol):
    """What is needed of a snapshot."""

    @property
    def sequence(self) -> int:
        """The number of the latest change in it; negative: nothing has been read yet."""
        ...

    @property
    def incarnation(self) -> str:
        """Of the vault that it was read from."""
        ...

    @property
    def held(self) -> _SizedContainer:
        """The ids of its connections."""
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What was read from the store: rows that are newer than the last snapshot, and the ids that are left.

    ``since`` negative: everything was read. ``connection_ids`` None: every connection of the last snapshot is
    still there.
    """

    sequence: int
    since: int
    incarnation: str
    connection_ids: frozenset[str] | None
    connections: tuple[Row, ...]
    key_ids: frozenset[str]
    keys: tuple[Row, ...]
    active_key: str | None


def _asked(since: int) -> tuple[Asked, ...]:
    return (
        (_PLACE,),
        (_CONNECTIONS, since),
        ("SELECT key_id FROM keys",),
        (_KEYS, since),
    )


async def read_changes(store: Store, known: Known) -> Changes | None:
    """What changed after a snapshot, None: nothing; everything if it is of a later state, or another vault's.

    One look at the store, unless connections were removed: then all ids are read, of one state with the rest.

    Raises:
        StoreError: the store cannot be read.
    """
    since = known.sequence
    if since >= 0:
        sequence, rows = await store.look(since, *_asked(since))
        if sequence == since:
            return None
        changes = _changes(since, rows)
        goes_on = since < sequence and changes.incarnation == known.incarnation
        if goes_on and _are_all_left(known, changes, rows):
            return changes
        since = since if goes_on else -1
    async with store.snapshot() as transaction:
        if since < 0:
            return _changes(since, await transaction.fetch_each(*_asked(since)))
        *rest, ids = await transaction.fetch_each(*_asked(since), ("SELECT connection_id FROM connections",))
    return _changes(since, rest, frozenset(row["connection_id"] for row in ids))


def _changes(since: int, rows: Sequence[Sequence[Row]], ids: frozenset[str] | None = None) -> Changes:
    (place, *_), connections, key_ids, keys = rows
    return Changes(
        int(place["sequence"]),
        since,
        str(place["incarnation"]),
        ids,
        tuple(connections),
        frozenset(row["key_id"] for row in key_ids),
        tuple(keys),
        None if place["active_key"] is None else str(place["active_key"]),
    )


def _are_all_left(known: Known, changes: Changes, rows: Sequence[Sequence[Row]]) -> bool:
    """None of the known connections is missing: counting them is enough to know."""
    new = sum(row["connection_id"] not in known.held for row in changes.connections)
    return len(known.held) + new == int(rows[0][0]["connections"])
