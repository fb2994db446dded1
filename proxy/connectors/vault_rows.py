"""The vault's rows that say who may do what: sealed when they are written, looked at when they are read."""

from proxy.connectors.live import LiveStore
from proxy.connectors.rows import to_ms
from proxy.connectors.rowseals import (
    GUARDED,
    SEAL_KEY,
    Refused,
    Table,
    all_refused,
    refused,
    sign,
    sign_first,
    write,
)
from proxy.connectors.store import Asked, Row, Transaction


class RowVault(LiveStore):
    """The part of the vault that knows whether such a row is genuine."""

    async def _is_genuine(self, table: Table, row: Row) -> bool:
        """Whether a row is as this program wrote it; who has no master key cannot have written it then."""
        if row[SEAL_KEY] is not None and row[SEAL_KEY] not in self._data_keys.ring.keys:
            await self._data_keys.reload()
        found = refused(table, row, self._data_keys.ring)
        if found is not None:
            self._refuse(found)
        return found is None

    async def _write(
        self, transaction: Transaction, table: Table, row_id: object, change: Asked, *, whole: bool = False
    ) -> int:
        """Change a row and seal it, see ``rowseals.write``; a data key's message is reserved before."""
        ring = await self._data_keys.current(transaction)
        return await write(transaction, ring, table, row_id, change, whole=whole)

    async def refused_rows(self) -> tuple[Refused, ...]:
        """Every row of keys, tokens, users and sessions that is not in force for its seal.

        Raises:
            StoreError, StateError: they cannot be read.
        """
        await self._data_keys.reload()
        async with self._store.snapshot() as transaction:
            found = await all_refused(transaction, self._data_keys.ring)
        return tuple(one for _, _, one in found)

    async def sign_rows(self, *, actor: str = "operator") -> tuple[Refused, ...]:
        """Put the refused rows in force as they are now; whoever asks for it vouches for them.

        Raises:
            StoreError: nothing was changed.
        """
        await self._data_keys.reserve(len(await self.refused_rows()) + 1)
        async with self._change(actor, "vault.sign", "vault") as change:
            ring = await self._data_keys.current(change.transaction)
            found = await all_refused(change.transaction, ring)
            for table, row, _ in found:
                await sign(change.transaction, ring, table, row)
            await change.transaction.execute("UPDATE keys SET sequence = $1", change.sequence)
            signed = tuple(one for _, _, one in found)
            change.detail.update(rows=[f"{one.table} {one.row}" for one in signed])
        return signed

    async def _sign_first(self) -> tuple[str, ...]:
        """At the first start with a release that seals rows, those that are there are taken as they are.

        Returns:
            what the operator should know of it, one sentence.
        """
        async with self._store.snapshot() as reading:
            if await reading.fetch("SELECT 1 AS done FROM row_seals WHERE id = 1"):
                return ()
            rows = sum([len(await reading.fetch(f"SELECT 1 AS one FROM {table}")) for table in GUARDED])  # noqa: S608  # our own names
        if not rows:
            async with self._store.transaction() as transaction:
                await sign_first(transaction, self._data_keys.ring, to_ms(self._clock()))
            return ()
        await self._data_keys.reserve(rows + 1)
        async with self._change("proxy", "vault.sign_first", "vault") as change:
            ring = await self._data_keys.current(change.transaction)
            counts = await sign_first(change.transaction, ring, to_ms(change.now))
            change.detail.update(rows=dict(counts or {}))
        told = ", ".join(f"{count} of {table}" for table, count in (counts or {}).items())
        return (f"rows from before they were sealed are in force as they were found: {told}",) if told else ()
