"""A store and its contents in memory, kept in step: changes made here, and those of other processes (R89)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from proxy.connectors import audit, key_days, observed
from proxy.connectors.audit import About, AuditEntry
from proxy.connectors.audit_log import KEEP_DAYS, AuditLog, ChainReport, Remembered
from proxy.connectors.changes import read_changes
from proxy.connectors.datakeys import DataKeys
from proxy.connectors.rowseals import (
    SEAL_KEY,
    Refused,
)
from proxy.connectors.snapshot import Snapshot, advance
from proxy.connectors.store import Store, Transaction, next_sequence
from proxy.errors import StateError, StoreError

POLL_S = 0.25
_DAY_S = 86_400.0
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Change:
    """A change under way: its transaction, number and time (seconds), and what the audit will tell."""

    transaction: Transaction
    sequence: int
    now: float
    detail: dict[str, object] = field(default_factory=dict)


class LiveStore:
    """``snapshot`` is always one committed state of the store; it is replaced, never changed.

    ``audit_log``: for those who write audit rows in transactions of their own.
    """

    def __init__(self, store: Store, data_keys: DataKeys, clock: Clock, audit_log: AuditLog) -> None:
        self.snapshot = Snapshot()
        self.audit_log = audit_log
        self._store = store
        self._data_keys = data_keys
        self._clock = clock
        self._loading = asyncio.Lock()
        self._scrub_due = False
        self._listeners: list[Callable[[], None]] = []
        self._refused: set[Refused] = set()
        self._on_refused: Callable[[Refused], None] = lambda _: None

    @property
    def store(self) -> Store:
        """For those who keep tables of their own in it, such as leases and flows."""
        return self._store

    @property
    def data_keys(self) -> DataKeys:
        """What is sealed beside the vault's own rows is sealed with these."""
        return self._data_keys

    def change(self, actor: str, action: str, subject: str) -> AbstractAsyncContextManager[Change]:
        """A numbered, audited transaction; what it did is in the snapshot afterwards."""
        return self._change(actor, action, subject)

    def erase_soon(self) -> None:
        """Replaced secrets are to disappear from the files at the next look for changes (R144)."""
        self._scrub_due = True

    async def close(self) -> None:
        """Let go of the store."""
        await self._store.close()

    async def _load(self, at_least: int | None = None) -> None:
        """Read what changed; nothing to do where another has read as far as ``at_least`` meanwhile."""
        async with self._loading:
            if at_least is not None and self.snapshot.sequence >= at_least:
                return
            changes = await read_changes(self._store, self.snapshot)
            if changes is None:
                return
            used = {
                row[column] for row in changes.connections for column in ("access_key_id", "refresh_key_id")
            } | {row[SEAL_KEY] for row in changes.keys}
            ring = self._data_keys.ring
            if used - {None} - ring.keys.keys() or changes.active_key != ring.active:
                await self._data_keys.reload()
            self.snapshot = advance(self.snapshot, changes, self._data_keys.ring)
        for found in self.snapshot.refused.values():
            self._refuse(found)
        for listener in tuple(self._listeners):
            listener()

    def _refuse(self, found: Refused) -> None:
        """A row is not as this program wrote it: told once; see :meth:`tell_refused`."""
        if found not in self._refused:
            self._refused.add(found)
            self._on_refused(found)

    def tell_refused(self, listener: Callable[[Refused], None]) -> None:
        """Tell of each row that is not in force for its seal, of those found before too."""
        self._on_refused = listener
        for found in self._refused:
            listener(found)

    async def catch_up(self) -> None:
        """Take in what other processes changed since the last time; then erase what is still to be erased.

        Raises:
            StoreError: the store cannot be read; what is in memory stays in force.
        """
        await self._load()
        if self._scrub_due:
            await self._erase()  # a full disk forbids it, and is no reason to miss a revocation

    async def changed(self, seen: int, poll_s: float = POLL_S) -> int:
        """Wait until another process may have changed something; see :meth:`Store.changed`."""
        return await self._store.changed(seen, poll_s)

    def listen(self, listener: Callable[[], None]) -> None:
        """Tell of each change once it is in the snapshot; of this process's own before its call returns."""
        self._listeners.append(listener)

    async def watch(self, on_change: Callable[[], None], *, interval: float = POLL_S) -> None:
        """Follow changes until cancelled; ``on_change`` is called after each, also after this process's own.

        Whatever fails is tried again at the next turn.
        """
        self._listeners.append(on_change)
        seen = 0
        try:
            while True:
                try:
                    seen = await self.changed(seen, interval)
                    await self.catch_up()
                except (StoreError, StateError):
                    continue
                except Exception:  # noqa: BLE001  # a fault of ours must not hide later revocations
                    await asyncio.sleep(interval)
        finally:
            self._listeners.remove(on_change)

    @asynccontextmanager
    async def _change(self, actor: str, action: str, subject: str) -> AsyncIterator[Change]:
        """One numbered, audited transaction; what it did is in the snapshot afterwards."""
        async with self._store.transaction() as transaction:
            change = Change(transaction, await next_sequence(transaction), self._clock())
            yield change
            await self.audit_log.record(
                transaction, change.now, audit.Note(actor, action, subject, change.detail)
            )
        await self.take_in(change.sequence)

    async def take_in(self, sequence: int) -> None:
        """Bring a change committed here into the snapshot; where that fails, ``watch`` does later."""
        with contextlib.suppress(StoreError, StateError):  # it is committed all the same
            await self._load(sequence)

    async def _erase(self) -> None:
        """Make replaced or removed bytes disappear (R144); tried again later while readers hold them."""
        try:
            self._scrub_due = not await self._store.scrub()
        except StoreError:
            self._scrub_due = True

    async def record(self, actor: str, action: str, subject: str, detail: Mapping[str, object]) -> None:
        """An audit row for something that changes nothing here, such as a token revealed to a service key."""
        async with self._store.transaction() as transaction:
            note = audit.Note(actor, action, subject, detail)
            await self.audit_log.record(transaction, self._clock(), note)

    async def audit(
        self,
        *,
        since: float = 0.0,
        until: float | None = None,
        about: About = About(),  # noqa: B008  # frozen
        start: audit.Mark | None = None,
        oldest_first: bool = False,
        limit: int = 1000,
    ) -> tuple[AuditEntry, ...]:
        """Audit rows, newest first unless said; see :func:`proxy.connectors.audit.read`."""
        async with self._store.snapshot() as transaction:
            return await audit.read(
                transaction,
                since=since,
                until=until,
                about=about,
                start=start,
                oldest_first=oldest_first,
                limit=limit,
            )

    async def prune_audit(self, days: int = KEEP_DAYS) -> int:
        """Chain what an older release wrote, then drop audit rows older than ``days``; how many.

        Counts of what permits would have refused go with them; what keys did on earlier days is told.
        """
        await self.audit_log.take_in(self._store, self._clock())
        async with self._store.transaction() as transaction:
            await key_days.tell(transaction, self.audit_log, self._clock())
            await observed.forget(transaction, self._clock() - days * _DAY_S)
        return await self.audit_log.prune(self._store, self._clock(), days)

    async def audit_head(self) -> Remembered | None:
        """The chain's last row; see :meth:`AuditLog.head`."""
        return await self.audit_log.head(self._store)

    async def verify_audit(self, remembered: Remembered | None = None) -> ChainReport:
        """Look whether the audit is as it was written; see :meth:`AuditLog.verify`."""
        return await self.audit_log.verify(self._store, remembered)
