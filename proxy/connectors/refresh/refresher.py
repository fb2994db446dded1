"""Refreshes of this process: at most one task a connection, waited for by any number of callers."""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.catalog.model import Catalog
from proxy.connectors.causes import COPY
from proxy.connectors.lifetimes import EXPIRY_S
from proxy.connectors.model import Connection, Credential
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.refresh.events import RefreshEvent
from proxy.connectors.refresh.gates import Gates
from proxy.connectors.refresh.journal import Journal
from proxy.connectors.refresh.ledger import Ledger
from proxy.connectors.refresh.orphans import Orphans
from proxy.connectors.refresh.owner import Owner, this_process
from proxy.connectors.refresh.pauses import Pauses
from proxy.connectors.refresh.renewal import Means, Renewal
from proxy.connectors.refresh.replay import Replay
from proxy.connectors.refresh.results import Fresh, Later, Lost, Result
from proxy.connectors.refresh.schedule import Schedule
from proxy.connectors.refresh.settlement import Settlement
from proxy.connectors.refresh.together import Together
from proxy.connectors.refresh.unsaved import Unsaved
from proxy.connectors.refresh.ways import way_of
from proxy.connectors.refusals import lost, removed
from proxy.connectors.snapshot import Held
from proxy.connectors.vault import Vault
from proxy.errors import (
    NotConnected,
    RefreshFailed,
    RefreshInProgress,
    RequestError,
    StateError,
    StoreError,
)

WAIT_S = 10.0  # how long a caller waits for a refresh (R130)
GRACE_S = 20.0  # at a stop: longer than a token request and its commit take (R115)
START_S = 3.0  # how long a start waits for the journal: a store that is away does not hold it up for longer
_LASTING = frozenset({"nothing", "dead", "damaged"})


class Refresher:
    """One a process; the lease in the vault decides which process refreshes.

    Args:
        vault: opened.
        catalog: the services in force; may be replaced (``refresher.catalog``).
        registrations: the apps registered at providers.
        endpoint: the way to them; closed by its owner, after this.
        clock: seconds since the epoch; ``monotonic``: of one that never jumps.
        data_dir: for the journal; None: no folder.
        on_event: told every outcome.
        owner: whom leases of this process name.
    """

    def __init__(
        self,
        vault: Vault,
        catalog: Catalog,
        registrations: Registrations,
        endpoint: TokenEndpoint,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        data_dir: Path | None,
        on_event: Callable[[RefreshEvent], None],
        owner: Owner | None = None,
    ) -> None:
        self.catalog = catalog
        self._vault = vault
        self._clock = clock
        self._monotonic = monotonic
        self._gates = Gates()
        self._together = Together(vault, clock)
        settlement = Settlement(vault, self._services, clock, self._together)
        journal = None if data_dir is None else Journal(data_dir, vault.data_keys)
        owner = owner or this_process()
        ledger = Ledger(vault, self._services, owner, self._together)
        replay = Replay(vault, settlement, journal)
        self._orphans = Orphans(vault, registrations, endpoint, self._services)
        self._unsaved = Unsaved(settlement, journal, on_event, self._orphans.revoke)
        self.kept: Mapping[str, Credential] = self._unsaved.credentials
        self._means = Means(
            ledger=ledger,
            settlement=settlement,
            registrations=registrations,
            endpoint=endpoint,
            catalog=self._services,
            gates=self._gates,
            owner=owner,
            clock=clock,
            monotonic=monotonic,
            keep=self._unsaved.keep,
            keep_now=self._unsaved.keep_now,
            orphaned=self._orphans.revoke,
            recall=replay.one,
            report=on_event,
        )
        self._schedule = Schedule(
            vault, ledger, replay, owner=owner, clock=clock, start=self.offer, is_busy=self.is_busy
        )
        self._tasks: dict[str, asyncio.Task[Result]] = {}
        self._pauses = Pauses(clock, monotonic)
        self._closing = False

    def _services(self) -> Catalog:
        return self.catalog

    # --- from the data path -----------------------------------------------------------------------------

    def due(self, credential: Credential) -> None:
        """Begin to replace a token that will end soon. Returns at once: it is called for every request."""
        connection_id = credential.connection_id
        if connection_id in self._tasks or self._closing:
            return
        if self._pauses.rests(connection_id, credential.generation):
            return
        if connection_id not in self.kept and not self._vault.is_copy:
            self.start(connection_id)

    def can_renew(self, held: Held) -> bool:
        """There is a way to a next token, by the service's file and what is stored."""
        return way_of(self.catalog.get(held.connection.service), held.connection, held.tokens) is not None

    def unsaved(self, credential: Credential) -> Credential | None:
        """A newer credential of the same connection that the vault has not taken yet, while it lives."""
        kept = self.kept.get(credential.connection_id)
        if kept is None or kept.generation <= credential.generation or not self._lives(kept):
            return None
        return kept

    async def refreshed(self, connection_id: str, *, generation: int, forced: bool = False) -> Credential:
        """A credential newer than ``generation``, waited for at most ``WAIT_S``.

        A caller that leaves stops nothing. ``forced``: the service has refused that generation.

        Raises:
            ReauthorizationRequired, NotConnected: there will be none without a person.
            RefreshFailed: there is none for now.
            RefreshInProgress: the wait is over, the refresh is not.
        """
        held = self._vault.snapshot.held.get(connection_id)
        if held is None:
            raise NotConnected("there is no such connection any more")
        newer = self._newer(connection_id, generation)
        if newer is not None:
            return newer
        result: Result | None = self._pauses.result(connection_id, generation, forced=forced)
        if result is None:
            result = await self._waited(held.connection, forced=forced)
        newer = self._newer(connection_id, generation)
        if newer is not None:
            return newer
        raise self._error(held.connection, result)

    async def _waited(self, connection: Connection, *, forced: bool) -> Result:
        task = self._tasks.get(connection.connection_id) or self.start(
            connection.connection_id, forced=forced
        )
        if task is None:
            return Lost("removed")
        self._gates.hurry(connection.service, connection.connection_id)
        done, _ = await asyncio.wait({task}, timeout=WAIT_S)
        if not done:
            raise RefreshInProgress(
                "the token is being refreshed; try again in a moment",
                service=connection.service,
                connection=connection.name,
                retry_after=2.0,
            )
        if task.cancelled() or task.exception() is not None:
            return Later("the refresh did not come to an end", self._clock() + 1.0)
        return task.result()

    # --- tasks ------------------------------------------------------------------------------------------

    def offer(self, connection_id: str) -> None:
        """Begin a refresh in the background, unless one was tried a moment ago."""
        held = self._vault.snapshot.held.get(connection_id)
        if held is not None and not self._pauses.rests(connection_id, held.connection.generation):
            self.start(connection_id)

    def is_busy(self, connection_id: str) -> bool:
        """A refresh of it is under way here, or its tokens wait to be saved."""
        return connection_id in self._tasks or connection_id in self.kept

    def start(self, connection_id: str, *, forced: bool = False) -> "asyncio.Task[Result] | None":
        """Begin a refresh, or join the one that is under way; None when there is nothing to refresh."""
        held = self._vault.snapshot.held.get(connection_id)
        if held is None or self._closing:
            return None
        task = self._tasks.get(connection_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._run(held, forced=forced), name=f"refresh {connection_id}", context=contextvars.Context()
            )
            self._tasks[connection_id] = task
            task.add_done_callback(lambda ended: self._ended(held.connection, ended))
        return task

    async def _run(self, held: Held, *, forced: bool) -> Result:
        connection = held.connection
        if self._vault.is_copy:
            return Lost("copy", COPY)
        if way_of(self.catalog.get(connection.service), connection, held.tokens) is None:
            return Lost("nothing")
        result = await Renewal(self._means, connection, forced=forced).run()
        if isinstance(result, Fresh | Lost):
            await self._taken_in(connection)
        return result

    async def _taken_in(self, connection: Connection) -> None:
        """Another process may have made the change: it is to be in the snapshot before callers look there."""
        current = self._vault.snapshot.held.get(connection.connection_id)
        if current is None or current.connection != connection:
            return
        try:
            await self._vault.catch_up()
        except (StoreError, StateError):
            return  # the follower comes back to it

    def _ended(self, connection: Connection, task: "asyncio.Task[Result]") -> None:
        self._tasks.pop(connection.connection_id, None)
        self._gates.calm(connection.connection_id)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a refresh failed", "exception": error, "task": task}
            )
            result: Result = Later("the refresh failed here", self._clock() + 30.0)
        else:
            result = task.result()
        if isinstance(result, Fresh):
            self._pauses.over(connection)
        elif isinstance(result, Later) and result.again:
            self.start(connection.connection_id)
        elif isinstance(result, Later) and result.only_forced:
            self._pauses.begin(connection, result, only_forced=True)
        elif isinstance(result, Later) or result.reason in _LASTING:
            self._pauses.begin(connection, result)

    # --- results ----------------------------------------------------------------------------------------

    def _lives(self, credential: Credential) -> bool:
        return credential.expires_at is None or self._clock() < credential.expires_at - EXPIRY_S

    def _newer(self, connection_id: str, generation: int) -> Credential | None:
        """What replaces that generation, in memory or of the vault; handed out however short it lives."""
        kept = self.kept.get(connection_id)
        if kept is not None and kept.generation > generation:
            return kept
        held = self._vault.snapshot.held.get(connection_id)
        found = None if held is None else held.credential
        return found if found is not None and found.generation > generation else None

    def _error(self, connection: Connection, result: Result) -> RequestError:
        held = self._vault.snapshot.held.get(connection.connection_id)
        if held is None:
            return removed(connection)
        if isinstance(result, Lost):
            return lost(held.connection, result.reason, result.cause)
        if held.connection.state == "frozen":
            return lost(held.connection, "frozen", None)
        detail, retry_at = "the vault cannot be read for now", None
        if isinstance(result, Later):
            detail, retry_at = result.detail, result.retry_at
        return RefreshFailed(
            detail,
            retry_after=max((retry_at or 0.0) - self._clock(), 1.0),
            service=connection.service,
            connection=connection.name,
        )

    # --- life -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The schedule: idle connections (R126), attempts that nobody ended (R116), the journal (R118).

        Until cancelled. One process of a host is enough.
        """
        await self._schedule.run()

    async def begun(self, patience_s: float = START_S) -> None:
        """Until :meth:`run` has looked once, so that callers meet what the journal held; bounded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._schedule.turned.wait()

    async def look(self) -> None:
        """One turn of the schedule now: a process of this host has died."""
        await self._schedule.turn()

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Wait for refreshes under way, at most ``grace_s`` seconds; begin no other (R115)."""
        self._closing = True
        under_way = {*self._tasks.values(), *self._unsaved.tasks}
        if under_way:
            await asyncio.wait(under_way, timeout=grace_s)
        left = tuple(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._unsaved.close()
        await self._orphans.close()
        await self._together.settled()
