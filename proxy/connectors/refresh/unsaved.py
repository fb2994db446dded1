"""Tokens that a provider gave and the vault does not take yet: served from memory, saved when it does."""

import asyncio
from collections.abc import Callable, Iterable

from proxy.connectors.model import Credential
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.refresh.events import Outcome, RefreshEvent
from proxy.connectors.refresh.journal import Entry, Journal
from proxy.connectors.refresh.lease import Claimed
from proxy.connectors.refresh.settlement import Discarded, Settlement
from proxy.connectors.rows import connection_of
from proxy.connectors.snapshot import credential_of
from proxy.errors import StateError, StoreError

_FIRST_S, _LAST_S = 0.1, 10.0


def _entry(claimed: Claimed, grant: Grant) -> Entry:
    connection = claimed.connection
    return Entry(connection.connection_id, connection.generation, claimed.attempt_id, claimed.fence, grant)


class Unsaved:
    """See the module. ``credentials`` are those served from memory, by connection id.

    ``journal`` None: there is no data folder, so memory has to do. ``orphaned`` takes tokens of a
    connection that was removed meanwhile.
    """

    def __init__(
        self,
        settlement: Settlement,
        journal: Journal | None,
        report: Callable[[RefreshEvent], None],
        orphaned: Callable[[Claimed, Grant], None],
    ) -> None:
        self._settlement = settlement
        self._journal = journal
        self._report = report
        self._orphaned = orphaned
        self.credentials: dict[str, Credential] = {}
        self._kept: dict[str, Claimed] = {}
        self._unwritten: dict[str, Entry] = {}  # not in the journal yet, by name
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, claimed: Claimed, grant: Grant) -> None:
        """Serve these tokens from now on, and save them again and again until they are."""
        connection_id, entry = claimed.connection.connection_id, _entry(claimed, grant)
        if self._journal is not None:
            self._unwritten[entry.name] = entry
        task = asyncio.create_task(self._save(claimed, entry), name=f"save {connection_id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        new = self._settlement.preview(claimed, grant)
        self._kept[connection_id] = claimed
        self.credentials[connection_id] = credential_of(connection_of(new.row), new.tokens)

    def keep_now(self, claimed: Claimed, grant: Grant) -> None:
        """The process ends now: all that is left is the journal."""
        if self._journal is not None:
            self._journal.write_now(_entry(claimed, grant))

    async def _save(self, claimed: Claimed, entry: Entry) -> None:
        grant, pause = entry.grant, _FIRST_S
        await self._write(entry)
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_S)
            try:
                outcome = await self._settlement.save(claimed, grant)
            except (StoreError, StateError):
                await self._write(entry)
                continue
            break
        self._unwritten.pop(entry.name, None)
        connection_id = claimed.connection.connection_id
        if self._kept.get(connection_id) is claimed:
            del self._kept[connection_id], self.credentials[connection_id]
        if self._journal is not None:
            await self._journal.drop(entry)
        if isinstance(outcome, Discarded) and outcome.is_orphan:
            self._orphaned(claimed, grant)
        self._tell(claimed, "discarded" if isinstance(outcome, Discarded) else "saved_late")

    async def _write(self, entry: Entry) -> None:
        """Into the journal, unless it is there."""
        if self._journal is not None and entry.name in self._unwritten and await self._journal.write(entry):
            del self._unwritten[entry.name]

    def _tell(self, claimed: Claimed, outcome: Outcome) -> None:
        connection = claimed.connection
        self._report(
            RefreshEvent(
                connection.service,
                connection.name,
                connection.connection_id,
                outcome,
                generation=connection.generation,
                forced=claimed.forced,
            )
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "saving a refreshed token failed", "exception": error, "task": task}
            )

    @property
    def tasks(self) -> Iterable[asyncio.Task[None]]:
        """What is being saved."""
        return tuple(self._tasks)

    async def close(self) -> None:
        """Stop trying; what is in the journal is saved at the next start, and nothing is left out of it."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._journal is not None:
            for entry in self._unwritten.values():  # no task of ours sees to it that a thread does
                self._journal.write_now(entry)
