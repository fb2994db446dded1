"""What has to happen to connections without a caller asking for it."""

import asyncio
import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from proxy.connectors.model import Connection, Tokens
from proxy.connectors.refresh.journal import Entry, Journal
from proxy.connectors.refresh.lease import Claimed
from proxy.connectors.refresh.ledger import Ledger
from proxy.connectors.refresh.owner import Owner, is_dead, parse_owner
from proxy.connectors.refresh.settlement import Settlement
from proxy.connectors.refresh.ways import Way
from proxy.connectors.snapshot import Held
from proxy.connectors.vault import Vault
from proxy.errors import StateError, StoreError
from proxy.secret import Secret

TURN_S = 15.0
IDLE_S = 86_400.0  # a refresh token is used at least this often, so that it does not lapse (R126)
IDLE_A_TURN = 5  # after a long stop thousands may be due: 20 a minute catch up within the day


class Schedule:
    """See the module. ``start`` begins a refresh, ``is_busy`` tells of one that is under way here."""

    def __init__(
        self,
        vault: Vault,
        ledger: Ledger,
        settlement: Settlement,
        journal: Journal | None,
        *,
        owner: Owner,
        clock: Callable[[], float],
        start: Callable[[str], None],
        is_busy: Callable[[str], bool],
    ) -> None:
        self._vault = vault
        self._ledger = ledger
        self._settlement = settlement
        self._journal = journal
        self._owner = owner
        self._clock = clock
        self._start = start
        self._is_busy = is_busy

    async def run(self) -> None:
        """One turn after another, until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(TURN_S * random.uniform(0.8, 1.2))  # noqa: S311  # hosts are not to look together

    async def turn(self) -> None:
        """Look once; a store that fails is looked at again the next time."""
        try:
            if self._vault.is_copy:
                return
            await self._replay()
            await self._interrupted()
            self._idle()
        except (StoreError, StateError):
            return

    # --- the journal ------------------------------------------------------------------------------------

    async def _replay(self) -> None:
        """Save what an earlier process could not; what came too late is dropped (R118)."""
        if self._journal is None:
            return
        for entry in await self._journal.entries():
            held = self._vault.snapshot.held.get(entry.connection_id)
            if self._is_busy(entry.connection_id):
                continue  # it is ours, and will be saved where it was kept
            if held is not None and held.tokens is not None:
                await self._settlement.save(_claim_of(entry, held), entry.grant)
            await self._journal.drop(entry)

    # --- interrupted attempts ---------------------------------------------------------------------------

    async def _interrupted(self) -> None:
        """Attempts of processes that are gone, and such of unknown end whose second try is due (R117)."""
        for found in await self._ledger.unfinished():
            owner = None if found.owner is None else parse_owner(found.owner)
            is_over = found.owner is None or owner == self._owner or self._may_have_ended(owner)
            if is_over and not self._is_busy(found.connection_id):
                self._start(found.connection_id)

    def _may_have_ended(self, owner: Owner | None) -> bool:
        """Provably, or a process that cannot be looked up: a refresh here waits until its beats stop."""
        here = (self._owner.instance, self._owner.boot)
        return owner is None or (owner.instance, owner.boot) != here or is_dead(owner, self._owner)

    # --- idle connections -------------------------------------------------------------------------------

    def _idle(self) -> None:
        now = self._clock()
        due = [
            held.connection.connection_id for held in self._refreshable() if _is_idle(held.connection, now)
        ]
        for connection_id in random.sample(due, min(len(due), IDLE_A_TURN)):
            self._start(connection_id)

    def _refreshable(self) -> Iterable[Held]:
        for held in self._vault.snapshot.held.values():
            is_able = held.tokens is not None and held.tokens.refresh_token is not None
            if (
                is_able
                and held.connection.state == "active"
                and not self._is_busy(held.connection.connection_id)
            ):
                yield held


def _claim_of(entry: Entry, held: Held) -> Claimed:
    """The claim under which an answer was got, as far as saving it needs."""
    tokens = held.tokens or Tokens(Secret(""))
    return Claimed(
        fence=entry.fence,
        attempt_id=entry.attempt_id,
        connection=replace(held.connection, generation=entry.generation),
        tokens=tokens,
        way=Way("refresh", tokens.refresh_token or tokens.access_token, False, 0.0),
        unknowns=0,
        failures=0,
        begun_at=0.0,
    )


def _is_idle(connection: Connection, now: float) -> bool:
    """Its refresh token was not used for a day; a tenth of that is spread over the connections."""
    spread = zlib.crc32(connection.connection_id.encode()) / 2**32
    last = connection.updated_at if connection.issued_at is None else connection.issued_at
    return now - last >= IDLE_S * (1 - spread / 10)
