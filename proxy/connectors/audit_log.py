"""The audit's rows in the store, each chained to the one before it in the transaction that it tells about.

Writing transactions of all processes take turns (``Store.transaction``), so the head that is read in one is
the last one there is. A head that is not genuine is followed all the same, because what happens has to be
written down; the row then says so for as long as it is kept, and ``verify`` tells of it.
"""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.connectors.audit import Note
from proxy.connectors.audit_chain import Chain, Chained, ChainFault, Head, Walk
from proxy.connectors.rows import to_json, to_ms
from proxy.connectors.store import Asked, Row, Store, Transaction

KEEP_DAYS = 400
BATCH = 500  # rows taken in or dropped in one commit: a few milliseconds in which other writers wait
_DAY_MS = 86_400_000
_NUMBERS = itertools.count()  # keeps this process's rows of one millisecond in order
_TRIES = 3

_COLUMNS = "number, audit_id, at, actor, action, subject, detail, chained, hash"
_HEAD = "SELECT number, hash, pruned, pruned_hash, begun_at, mac FROM audit_chain WHERE id = 1"
_LAST = "SELECT number, hash FROM audit WHERE number IS NOT NULL ORDER BY number DESC LIMIT 1"
_FIRST = "SELECT number FROM audit WHERE number IS NOT NULL ORDER BY number LIMIT 1"
_STATE = (
    "SELECT COUNT(*) AS n, COALESCE(MAX(number), 0) AS last, COALESCE(MIN(number), 1) AS first FROM audit "
    "WHERE number IS NOT NULL"
)
_LOOSE_STATE = "SELECT COUNT(*) AS n, MAX(at) AS last FROM audit WHERE number IS NULL"
_IS_OLD = "SELECT 1 AS found FROM audit WHERE at < $1 LIMIT 1"
_KEPT = "SELECT MIN(number) AS number FROM audit WHERE number IS NOT NULL AND at >= $1"
_LOOSE = "SELECT audit_id, at, actor, action, subject, detail FROM audit WHERE number IS NULL "
_AFTER = f"SELECT {_COLUMNS} FROM audit WHERE number > $1 AND number <= $2 ORDER BY number, audit_id LIMIT $3"  # noqa: S608  # our own names
_WRITTEN = ("audit_id", "at", "actor", "action", "subject", "detail", "chained")
_ADD = (
    f"INSERT INTO audit ({', '.join(_WRITTEN)}, number, hash) "  # noqa: S608  # our own names
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
_TAKE_IN = "UPDATE audit SET chained = $1, number = $2, hash = $3 WHERE audit_id = $4"
_PUT_HEAD = (
    "INSERT INTO audit_chain (id, number, hash, pruned, pruned_hash, begun_at, mac) "
    "VALUES (1, $1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET number = excluded.number, "
    "hash = excluded.hash, pruned = excluded.pruned, pruned_hash = excluded.pruned_hash, "
    "begun_at = excluded.begun_at, mac = excluded.mac"
)


Remembered = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a look over the whole chain found; times in seconds since the epoch.

    Args:
        begun_at: since when there is a chain.
        number, hash: of the last row; kept elsewhere, they prove later that nothing before it was put back.
        rows, pruned: rows there, and how many old ones before them were dropped.
        late: rows that came into the chain after they were written, by an older release or by somebody else.
        loose: rows that are not in the chain (yet), for the same reasons; ``loose_last`` the newest's time.
        faults: the first ones; ``fault_count`` of them in all.
    """

    begun_at: float
    number: int
    hash: str
    rows: int
    pruned: int
    late: int
    loose: int
    loose_last: float | None
    faults: tuple[ChainFault, ...]
    fault_count: int


@dataclass(frozen=True, slots=True)
class _Look:
    """The head, and what the database counts, at one moment."""

    head: Head
    is_genuine: bool
    chained: Row
    loose: Row


class AuditLog:
    """Writes, prunes and verifies the audit of one vault."""

    def __init__(self, key: bytes) -> None:
        self._chain = Chain(key)

    async def record(self, transaction: Transaction, at: float, note: Note) -> None:
        """Add a row, in the transaction of what it tells about."""
        await self.record_each(transaction, at, [note])

    async def record_each(self, transaction: Transaction, at: float, notes: Sequence[Note]) -> None:
        """Add rows in this order, in the transaction of what they tell about."""
        if not notes:
            return
        head, chained = await self._head(transaction, to_ms(at))
        added: list[Asked] = []
        for note in notes:
            row = {
                "audit_id": note.audit_id or f"{to_ms(at):013x}{next(_NUMBERS):08x}{secrets.token_hex(6)}",
                "at": to_ms(at),
                "actor": note.actor,
                "action": note.action,
                "subject": note.subject,
                "detail": to_json(dict(note.detail)),
                "chained": chained,
            }
            head, chained = self._after(head, row), "at_once"
            values = (*(row[column] for column in _WRITTEN), head.number, head.hash)
            added.append((_ADD, *values))
        await transaction.execute_each(*added, self._put(head))

    async def begin(self, store: Store, now: float) -> None:
        """See to it that there is a chain; rows of a vault from before there was one are taken in.

        Raises:
            StoreError: the store failed.
        """
        async with store.snapshot() as reading:
            head, last = await reading.fetch_each((_HEAD,), (_LAST,))
        if head or last:
            return
        async with store.transaction() as transaction:
            found, last = await transaction.fetch_each((_HEAD,), (_LAST,))
            if not found and not last:
                await transaction.execute_each(self._put(self._chain.empty(to_ms(now))))
        await self.take_in(store, now)

    async def take_in(self, store: Store, now: float) -> int:
        """Chain rows that an older release wrote, oldest first; how many there were."""
        total = 0
        while True:
            async with store.transaction() as transaction:
                rows = await transaction.fetch(f"{_LOOSE} ORDER BY at, audit_id LIMIT $1", BATCH)
                if rows:
                    await self._take_in(transaction, rows, to_ms(now))
            total += len(rows)
            if len(rows) < BATCH:
                return total

    async def _take_in(self, transaction: Transaction, rows: Sequence[Row], now: int) -> None:
        head, _ = await self._sound_head(transaction, now)
        changes: list[Asked] = []
        for found in rows:
            row = {**found, "chained": "late"}
            head = self._after(head, row)
            changes.append((_TAKE_IN, "late", head.number, head.hash, row["audit_id"]))
        await transaction.execute_each(*changes, self._put(head))

    async def prune(self, store: Store, now: float, days: int) -> int:
        """Drop rows older than ``days``, and keep a checkpoint of the last one; how many there were.

        Only the beginning of the chain is dropped: an old row that was taken in late goes with those around
        it. What is wrong with dropped rows is noted in a row of its own.
        """
        total = 0
        while True:
            async with store.transaction() as transaction:
                dropped = await self._prune(transaction, now, to_ms(now) - days * _DAY_MS)
            total += dropped
            if dropped < BATCH:
                return total

    async def _prune(self, transaction: Transaction, now: float, before: int) -> int:
        if not await transaction.fetch(_IS_OLD, before):
            return 0
        dropped = await transaction.execute("DELETE FROM audit WHERE number IS NULL AND at < $1", before)
        head, _ = await self._sound_head(transaction, to_ms(now))
        kept = (await transaction.fetch(_KEPT, before))[0]["number"]
        upto = head.number if kept is None else kept - 1
        rows = await transaction.fetch(_AFTER, head.pruned, upto, BATCH)
        if not rows:
            return dropped
        walk = Walk(self._chain, head.pruned, head.pruned_hash)
        walk.over(rows)
        await transaction.execute("DELETE FROM audit WHERE number <= $1", walk.number)
        await transaction.execute_each(self._put(replace(head, pruned=walk.number, pruned_hash=walk.hash)))
        if walk.count:
            detail = {"dropped": [str(fault) for fault in walk.faults], "count": walk.count}
            await self._note_fault(transaction, now, detail)
        return dropped + len(rows)

    async def verify(self, store: Store, remembered: Remembered | None = None) -> ChainReport:
        """Look at every row; servers may write meanwhile.

        Args:
            store: where the rows are.
            remembered: the last row's number and hash (hex) of an earlier report; has to be there still.

        Raises:
            StoreError: the store failed.
        """
        look = await self._look(store)
        walk = await self._walked(store, look.head)
        for _ in range(_TRIES):
            after = await self._look(store)
            if after.head.pruned == look.head.pruned:  # nothing was dropped under the walk
                break
            look, walk = after, await self._walked(store, after.head)
        head = look.head
        walk.compare(head, is_genuine=look.is_genuine, state=look.chained)
        if remembered is not None:
            walk.recall(head, *remembered, stored=await _hash_at(store, head, remembered[0]))
        last = look.loose["last"]
        return ChainReport(
            begun_at=head.begun_at / 1000,
            number=head.number,
            hash=head.hash.hex(),
            rows=walk.rows,
            pruned=head.pruned,
            late=walk.late,
            loose=int(look.loose["n"]),
            loose_last=None if last is None else last / 1000,
            faults=tuple(walk.faults),
            fault_count=walk.count,
        )

    async def head(self, store: Store) -> Remembered | None:
        """Number and hash (hex) of the last row, to be remembered elsewhere; None where it is not genuine."""
        async with store.snapshot() as reading:
            found = await reading.fetch(_HEAD)
        if not found or not self._chain.is_genuine(found[0]):
            return None
        return found[0]["number"], bytes(found[0]["hash"]).hex()

    async def _look(self, store: Store) -> "_Look":
        async with store.snapshot() as reading:
            found, chained, loose = await reading.fetch_each((_HEAD,), (_STATE,), (_LOOSE_STATE,))
        if not found:
            return _Look(
                replace(self._chain.empty(0), number=chained[0]["last"]), False, chained[0], loose[0]
            )
        return _Look(Head.of(found[0]), self._chain.is_genuine(found[0]), chained[0], loose[0])

    async def _walked(self, store: Store, head: Head) -> Walk:
        walk = Walk(self._chain, head.pruned, head.pruned_hash)
        while True:
            async with store.snapshot() as reading:  # a short one each: readers that stay hold others up
                rows = await reading.fetch(_AFTER, walk.number, head.number, BATCH)
            walk.over(rows)
            if len(rows) < BATCH:
                return walk

    # --- the head ---------------------------------------------------------------------------------------

    async def _head(self, transaction: Transaction, now: int) -> tuple[Head, Chained]:
        """The head to go on from; where it is not genuine, the rows that are there."""
        found = await transaction.fetch(_HEAD)
        if found and self._chain.is_genuine(found[0]):
            return Head.of(found[0]), "at_once"
        known = Head.of(found[0]) if found else self._chain.empty(now)
        last, first = await transaction.fetch_each((_LAST,), (_FIRST,))
        if not last:
            return replace(known, number=known.pruned, hash=known.pruned_hash), "after_fault"
        number, stored = last[0]["number"], bytes(last[0]["hash"] or b"")
        pruned = min(known.pruned, first[0]["number"] - 1)
        return replace(known, number=number, hash=stored, pruned=pruned), "after_fault"

    async def _sound_head(self, transaction: Transaction, now: int) -> tuple[Head, Chained]:
        """The same for what writes no row of its own: a head that is not genuine is noted first."""
        head, chained = await self._head(transaction, now)
        if chained == "at_once":
            return head, chained
        await self._note_fault(transaction, now / 1000, {})
        return await self._head(transaction, now)

    async def _note_fault(self, transaction: Transaction, now: float, detail: Mapping[str, object]) -> None:
        await self.record(transaction, now, Note("proxy", "audit.fault", "audit", detail))

    def _after(self, head: Head, row: Row) -> Head:
        number = head.number + 1
        return replace(head, number=number, hash=self._chain.hash_of(head.hash, number, row))

    def _put(self, head: Head) -> Asked:
        values = (head.number, head.hash, head.pruned, head.pruned_hash, head.begun_at)
        return (_PUT_HEAD, *values, self._chain.mac_of(head))


async def _hash_at(store: Store, head: Head, number: int) -> str | None:
    if number == head.pruned:
        return head.pruned_hash.hex()
    async with store.snapshot() as reading:
        rows = await reading.fetch("SELECT hash FROM audit WHERE number = $1", number)
    return bytes(rows[0]["hash"] or b"").hex() if rows else None
