"""What has to happen to connections without a caller asking for it."""

import asyncio
import random
import zlib
from collections.abc import Callable, Iterable

from proxy.connectors.model import Connection
from proxy.connectors.refresh.ledger import Ledger
from proxy.connectors.refresh.owner import Owner, is_dead, parse_owner
from proxy.connectors.refresh.replay import Replay
from proxy.connectors.snapshot import Held
from proxy.connectors.vault import Vault
from proxy.errors import StateError, StoreError

TURN_S = 15.0
IDLE_S = 86_400.0  # a refresh token is used at least this often, so that it does not lapse (R126)
IDLE_A_TURN = 5  # after a long stop thousands may be due: 20 a minute catch up within the day


class Schedule:
    """See the module. ``start`` begins a refresh, ``is_busy`` tells of one that is under way here.

    ``turned`` is set once the first turn is over, however it went.
    """

    def __init__(
        self,
        vault: Vault,
        ledger: Ledger,
        replay: Replay,
        *,
        owner: Owner,
        clock: Callable[[], float],
        start: Callable[[str], None],
        is_busy: Callable[[str], bool],
    ) -> None:
        self._vault = vault
        self._ledger = ledger
        self._replay = replay
        self._owner = owner
        self._clock = clock
        self._start = start
        self._is_busy = is_busy
        self.turned = asyncio.Event()

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
            await self._replay.all(self._is_busy)
            await self._interrupted()
            self._idle()
        except (StoreError, StateError):
            return
        finally:
            self.turned.set()

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


def _is_idle(connection: Connection, now: float) -> bool:
    """Its refresh token was not used for a day; a tenth of that is spread over the connections."""
    spread = zlib.crc32(connection.connection_id.encode()) / 2**32
    last = connection.updated_at if connection.issued_at is None else connection.issued_at
    return now - last >= IDLE_S * (1 - spread / 10)
