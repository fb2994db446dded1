"""The vault's upkeep: which vault it is, rotation of its keys, and what an operator may know of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxy.connectors import causes, ended, notices, rotation
from proxy.connectors.audit import Note
from proxy.connectors.ended import ENDED
from proxy.connectors.model import Connection
from proxy.connectors.place import is_same_place
from proxy.connectors.rows import to_ms
from proxy.connectors.rowseals import GUARDED, Table
from proxy.connectors.seal import master_key
from proxy.connectors.store import next_sequence
from proxy.connectors.vault_tokens import TokenVault
from proxy.errors import StateError
from proxy.secret import Secret

_DAY_S = 86_400.0
BATCH = 50  # values re-encrypted in one commit: a few milliseconds in which other writers wait
_COUNTED = ("connections", "keys", "registrations", "flows", "notices", "audit")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to: the key in force, values re-encrypted, old keys removed.

    ``kept``: old keys that are still needed, with the number of values. ``resumed``: it went on with one that
    was cut off, and no new key was made.
    """

    data_key: str
    resealed: int
    removed: tuple[str, ...]
    kept: Mapping[str, int]
    resumed: bool


class UpkeepVault(TokenVault):
    """The part of the vault that looks after itself. ``_incarnation``: of the database that is open."""

    _incarnation: str

    @property
    def is_copy(self) -> bool:
        """This database is a copy of the vault's own one: nothing may be refreshed here."""
        return not self.is_own(self.snapshot.incarnation)

    @property
    def incarnation(self) -> str:
        """Of the database that is open: see ``Store.incarnation``."""
        return self._incarnation

    def is_own(self, stored: str) -> bool:
        """Whether an incarnation read from the database is that of the database itself."""
        return is_same_place(stored, self._incarnation)

    @property
    def copy_warning(self) -> str:
        """What to tell an operator of a copy."""
        return (
            "this vault is a copy, or an older state that was put back: its connections are frozen, so that "
            "they spend no refresh token of the original; living tokens serve until they expire. Where the "
            "original is out of use, say 'connector-proxy vault adopt'; accounts whose token it has renewed "
            "since then have to be connected again"
        )

    def connections(self) -> tuple[Connection, ...]:
        """All connections, by service, oldest first; those of a copy as frozen."""
        by_service = self.snapshot.by_service
        found = tuple(
            held.connection for service in sorted(by_service) for held in by_service[service].values()
        )
        if not self.is_copy:
            return found
        return tuple(
            replace(one, state="frozen", cause=causes.COPY) if one.state in {"active", "refreshing"} else one
            for one in found
        )

    async def adopt(self, *, actor: str = "operator") -> bool:
        """Make this database the original: it refreshes from now on. False when it was already."""
        if not self.is_copy:
            return False
        async with self._change(actor, "vault.adopt", "vault") as change:
            change.detail.update(before=self.snapshot.incarnation, now=self._incarnation)
            await change.transaction.execute(
                "UPDATE identity SET incarnation = $1, adopted_at = $2 WHERE id = 1",
                self._incarnation,
                to_ms(change.now),
            )
            await change.transaction.execute(
                "UPDATE refreshes SET owner = NULL"  # processes of the original hold nothing here
            )
            await notices.add(change.transaction, change.now, "vault.adopted", {})
        return True

    async def rotate(
        self,
        *,
        also_needed: Callable[[], Collection[str]] = tuple,
        keep_last: bool = False,
        batch: int = BATCH,
        on_progress: Progress = lambda _done, _all: None,
        actor: str = "operator",
    ) -> Rotated:
        """Move every sealed value under a new data key, while servers run; then remove the old keys (R137).

        It may be killed at any moment: calling it again goes on where it was.

        Args:
            also_needed: gives the ids of data keys that something outside of the database needs.
            keep_last: leave the key in force before, for what other hosts may hold under it.
            batch: values in one commit.
            on_progress: told values done and values in all, after each commit.
            actor: whom the audit names.

        Raises:
            StoreError, StateError: it stopped; nothing is lost, and it can be gone on with.
        """
        await self._data_keys.reload()
        last = self._data_keys.ring.active
        resealed = await self._reseal(batch, on_progress)
        resumed = resealed > 0
        if not resumed:
            async with self._change(actor, "vault.rotate", "vault") as change:
                await self._data_keys.make(change.transaction)
            await self._data_keys.reload()
            resealed = await self._reseal(batch, on_progress)
        async with self._change(actor, "vault.rotated", "vault") as change:
            kept_for_others = {*also_needed(), *({last} if keep_last else ())}
            removed = await rotation.retire(change.transaction, frozenset(kept_for_others))
            needed = await rotation.rows_by_key(change.transaction)
            active = self._data_keys.ring.active
            change.detail.update(data_key=active, resealed=resealed, removed=list(removed))
        await self._data_keys.reload()
        await self._erase()
        kept = {key_id: needed.get(key_id, 0) for key_id in self._data_keys.ring.keys if key_id != active}
        return Rotated(active, resealed, removed, kept, resumed)

    async def _reseal(self, batch: int, on_progress: Progress) -> int:
        async with self._store.snapshot() as reading:
            counts = await rotation.rows_by_key(reading)
        total = sum(count for key_id, count in counts.items() if key_id != self._data_keys.ring.active)
        work = rotation.Reseal()
        while True:
            await self._data_keys.reserve(batch)
            async with self._store.transaction() as transaction:
                ring = await self._data_keys.current(transaction)
                moved = await work.step(transaction, ring, batch)
            if not moved:
                return work.done
            on_progress(work.done, max(total, work.done))

    async def rewrap(self, new_master_key: Secret, *, actor: str = "operator") -> None:
        """Wrap the data keys with another master key, which every later start needs (R136).

        Raises:
            StateError: it is no master key, or the one in force.
        """
        master = master_key(new_master_key)
        if master.key_id == self._data_keys.master_id:
            raise StateError("this is the master key that the vault is sealed with already")
        async with self._change(actor, "vault.rewrap", "vault") as change:
            count = await self._data_keys.rewrap(change.transaction, master)
            change.detail.update(master_key=master.key_id, data_keys=count)
        self._data_keys.follow(master)
        await self._erase()

    async def prune_ended(self, days: int) -> int:
        """Drop rows of keys and admin tokens that ended more than ``days`` ago (see ``ended``); how many.

        A row that is not genuine stays, to be looked at.

        Raises:
            StoreError, StateError: it stopped, and goes on the next time.
        """
        before, total = to_ms(self._clock() - days * _DAY_S), 0
        for table in ENDED:
            async with self._store.snapshot() as reading:
                rows = await reading.fetch(*ended.found(table, before))
            row_id = GUARDED[table].row_id
            for some in ended.batches(rows):
                genuine = [str(row[row_id]) for row in some if await self._is_genuine(table, row)]
                total += await self._drop_ended(table, genuine, before)
        return total

    async def _drop_ended(self, table: Table, row_ids: Sequence[str], before: int) -> int:
        """One numbered, audited transaction; none of it where another instance was first."""
        what = ENDED[table]
        async with self._store.transaction() as transaction:
            counts = await transaction.execute_each(*(ended.dropped(table, one, before) for one in row_ids))
            gone = [one for one, count in zip(row_ids, counts, strict=True) if count]
            if not gone:
                return 0
            if what.also is not None:
                await transaction.execute_each(*((what.also, one) for one in gone))
            sequence = await next_sequence(transaction)
            note = Note("proxy", what.action, "*", {"count": len(gone), "ids": gone})
            await self.audit_log.record(transaction, self._clock(), note)
        await self.take_in(sequence)
        return len(gone)

    async def status(self) -> Mapping[str, Any]:
        """What an operator may know, as JSON values: versions, ids and counts, nothing secret."""
        async with self._store.snapshot() as reading:
            version = await reading.fetch("SELECT version FROM schema_version WHERE id = 1")
            identity = await reading.fetch("SELECT incarnation, adopted_at FROM identity WHERE id = 1")
            keys = await reading.fetch(
                "SELECT key_id, master_id, messages, is_active, created_at FROM data_keys ORDER BY created_at"
            )
            needed = await rotation.rows_by_key(reading)
            counts = {
                table: int((await reading.fetch(f"SELECT COUNT(*) AS n FROM {table}"))[0]["n"])  # noqa: S608  # our own names
                for table in _COUNTED
            }
        return {
            "store": self._incarnation.partition(":")[0],
            "schema": int(version[0]["version"]),
            "sequence": self.snapshot.sequence,
            "is_copy": self.is_copy,
            "incarnation": {"stored": identity[0]["incarnation"], "here": self._incarnation},
            "adopted_at": identity[0]["adopted_at"] / 1000,
            "master_key": self._data_keys.master_id,
            "data_keys": [
                {
                    "id": row["key_id"],
                    "active": bool(row["is_active"]),
                    "sealed": needed.get(row["key_id"], 0),
                    "messages": row["messages"],
                    "created_at": row["created_at"] / 1000,
                }
                for row in keys
            ],
            "counts": counts,
            "states": self.states(),
        }

    def states(self) -> Mapping[str, int]:
        """How many connections are in which state."""
        counts: dict[str, int] = {}
        for one in self.connections():
            counts[one.state] = counts.get(one.state, 0) + 1
        return counts
