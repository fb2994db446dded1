"""Keeping step with the vault: what other processes change (R89), failing stores (R153), last uses."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from typing import Any, Protocol

from proxy import log
from proxy.connectors.snapshot import Snapshot
from proxy.errors import StateError, StoreError
from proxy.growth import AT_ONCE, Counts, Growth
from proxy.keys import KeyRecord

POLL_S = 0.25  # a key revoked elsewhere counts after this, where the store does not tell of changes
STALE_S = 300.0  # how long the keys of a vault that cannot be read stay in force
LATE_S = 5.0  # unread for longer: not ready
USE_WRITTEN_S = 10.0
USE_LIMIT_S = 2.0  # a database that hangs does not hold up the end of the server
_DAY_S = 86_400.0


class Followed(Protocol):
    """What is needed of a vault."""

    snapshot: Snapshot

    async def catch_up(self) -> None:
        """Take in what other processes changed; raises StoreError or StateError."""

    async def changed(self, seen: int, poll_s: float) -> int:
        """Wait until another process may have changed something; see :meth:`Store.changed`."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Tell of each change once it is in the snapshot; of this process's own before its call returns."""

    async def touch_keys(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used; raises StoreError."""

    async def add_observed(self, counts: Counts) -> None:
        """Add to what observing permits would have refused; raises StoreError."""

    async def add_key_calls(self, counts: Counts) -> None:
        """Add to what keys did today; raises StoreError."""

    async def prune_audit(self, days: int) -> int:
        """Drop audit rows older than that; raises StoreError."""

    async def prune_ended(self, days: int) -> int:
        """Drop keys and admin tokens that ended longer ago; raises StoreError or StateError."""

    async def audit_head(self) -> tuple[int, str] | None:
        """Number and hash of the audit's last row, None where somebody changed it; raises StoreError."""


class VaultFollower:
    """Follows one vault.

    Args:
        vault: see Followed.
        on_change: told after :attr:`keys` may have changed.
        take_uses: gives the uses of the vault's keys that were noted since it was last asked.
        observed: counts since the start of what observing permits would have refused.
        key_calls: likewise of what keys called.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        vault: Followed,
        *,
        on_change: Callable[[], None],
        take_uses: Callable[[], Mapping[str, float]],
        observed: Callable[[], Counts] = dict,
        key_calls: Callable[[], Counts] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._on_change = on_change
        self._take_uses = take_uses
        self._growing = (Growth(observed, vault.add_observed), Growth(key_calls, vault.add_key_calls))
        self._clock = clock
        self._uses: dict[str, float] = {}
        self._read_at = clock()
        self._seen: Snapshot | None = vault.snapshot
        self._failing = self._crashed = False
        self._suspended = False
        vault.listen(self._taken_in)

    @property
    def keys(self) -> Mapping[str, KeyRecord]:
        """The keys in force; none once the vault has been unreadable for too long to know of revocations."""
        return {} if self._suspended else self._vault.snapshot.keys

    @property
    def is_late(self) -> bool:
        """The vault could not be read for a while."""
        return self._clock() - self._read_at > LATE_S

    async def look(self) -> None:
        """Look once for changes; never raises for a store that fails."""
        try:
            await self._vault.catch_up()
        except (StoreError, StateError) as error:
            self._failed(str(error))
            return
        if self._suspended:
            self._suspended, self._seen = False, None
        self._taken_in()
        if self._failing:
            log.event("vault_readable_again")
        self._failing = self._crashed = False
        self._read_at = self._clock()

    def _taken_in(self) -> None:
        snapshot = self._vault.snapshot
        if snapshot is not self._seen:
            self._on_change()
            self._seen = snapshot  # afterwards: what could not be taken over is told again

    def _failed(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            log.event("vault_unreadable", level="error", reason=reason)
        if not self._suspended and self._clock() - self._read_at > STALE_S:
            self._suspended = True
            log.event("vault_keys_suspended", level="error", after_s=STALE_S)
            self._on_change()

    async def write_uses(self) -> None:
        """Write what is known of last uses, what was observed, and what keys called.

        Each has its own time. What is left then, or what a failing store does not take, is for the next time.
        """
        work = (self._write_last_uses(), *(one.carry() for one in self._growing))
        await asyncio.gather(*(_in_time(one) for one in work))

    async def _write_last_uses(self) -> None:
        self._uses |= self._take_uses()
        while some := dict(islice(self._uses.items(), AT_ONCE)):
            await self._vault.touch_keys(some)
            for key_id, when in some.items():
                if self._uses.get(key_id) == when:
                    del self._uses[key_id]

    async def close(self) -> None:
        """Write what was not written yet; what takes longer than its time is given up."""
        await self.write_uses()
        for one in self._growing:
            await one.close(USE_LIMIT_S)

    async def follow(self) -> None:
        """Look at each change that the store tells of, and every now and then, until cancelled.

        A fault of this program counts as a vault that cannot be read: what was revoked is not known then.
        """
        seen = 0
        while True:
            try:
                seen = await self._vault.changed(seen, POLL_S)
                await self.look()
            except Exception as error:  # noqa: BLE001  # without this loop no key would ever be revoked or suspended
                if not self._crashed:
                    self._crashed = True
                    log.crash("vault_following_failed", error)
                self._failed(f"a fault of this program ({type(error).__qualname__})")
                await asyncio.sleep(POLL_S)

    async def note_uses(self) -> None:
        """Write uses again and again, until cancelled."""
        while True:
            await asyncio.sleep(USE_WRITTEN_S)
            await self.write_uses()

    async def prune(self, days: int) -> None:
        """Drop what is older than ``days`` once a day, and log where the audit stands, until cancelled."""
        while True:
            with contextlib.suppress(StoreError, StateError):
                await self._vault.prune_audit(days)
                await self._vault.prune_ended(days)
                _tell_chain(await self._vault.audit_head())
            await asyncio.sleep(_DAY_S)


async def _in_time(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(StoreError, TimeoutError):
        async with asyncio.timeout(USE_LIMIT_S):
            await work


def _tell_chain(head: tuple[int, str] | None) -> None:
    """The log is kept elsewhere than the vault: it can show later what was put back."""
    if head is None:
        log.event("audit_chain_broken", level="error")
    else:
        log.event("audit_chain", head=f"{head[0]}:{head[1]}")
