"""Answers of providers that lie in the journal, saved before anything else is spent (R118)."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from proxy.connectors.model import Tokens
from proxy.connectors.refresh.journal import Entry, Journal
from proxy.connectors.refresh.lease import Claimed
from proxy.connectors.refresh.settlement import Settlement
from proxy.connectors.refresh.ways import Way
from proxy.connectors.snapshot import Held
from proxy.connectors.vault import Vault
from proxy.secret import Secret


class Replay:
    """See the module. ``journal`` None: there is no data folder, so nothing lies anywhere.

    Several processes may save the same entry: the first one changes the connection, the others find that.
    """

    def __init__(self, vault: Vault, settlement: Settlement, journal: Journal | None) -> None:
        self._vault = vault
        self._settlement = settlement
        self._journal = journal

    async def all(self, is_busy: Callable[[str], bool]) -> None:
        """Save every entry, but those of connections that ``is_busy`` tells of: a refresh here sees to them.

        Raises:
            StoreError, StateError: not all could be saved; they stay.
        """
        if self._journal is not None:
            found = await self._journal.entries()
            await self._save(self._journal, (one for one in found if not is_busy(one.connection_id)))

    async def one(self, connection_id: str, generation: int) -> None:
        """Save the answer to the refresh of that generation, if there is one.

        Raises:
            StoreError, StateError: it is not known whether there is one, or it could not be saved.
        """
        if self._journal is not None:
            found = await self._journal.entries(connection_id)
            await self._save(self._journal, (one for one in found if one.generation == generation))

    async def _save(self, journal: Journal, entries: Iterable[Entry]) -> None:
        is_current = False
        for entry in entries:
            if not is_current:
                await self._vault.catch_up()
                is_current = True
            held = self._vault.snapshot.held.get(entry.connection_id)
            if held is not None and held.tokens is not None:
                await self._settlement.save(_claim_of(entry, held), entry.grant)
            await journal.drop(entry)


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
