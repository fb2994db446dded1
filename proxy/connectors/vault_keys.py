"""The vault's proxy keys: records only, a key itself is never stored."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from proxy.connectors import key_days, observed
from proxy.connectors.live import Change
from proxy.connectors.observed import Observed
from proxy.connectors.rows import KEY_COLUMNS, key_row, to_ms
from proxy.connectors.rowseals import write_if_genuine
from proxy.connectors.store import Transaction
from proxy.connectors.vault_rows import RowVault
from proxy.errors import ConflictError, Fault, MissingError
from proxy.keys import KeyRecord


def upsert(table: str, columns: Iterable[str], key: str) -> str:
    """The statement that puts a whole row, new or in place of the one with that ``key``."""
    names = tuple(columns)
    values = ", ".join(f"${at}" for at in range(1, len(names) + 1))
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name != key)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values}) "  # noqa: S608  # our own names
        f"ON CONFLICT ({key}) DO UPDATE SET {changed}"
    )


_TOUCH = "UPDATE keys SET last_used_at = $1 WHERE key_id = $2 AND (last_used_at IS NULL OR last_used_at < $1)"
_PUT_KEY = upsert("keys", KEY_COLUMNS, "key_id")


async def _refuse_taken(transaction: Transaction, name: str, key_id: str) -> None:
    taken = await transaction.fetch(
        "SELECT key_id FROM keys WHERE (name = $1 AND revoked_at IS NULL AND key_id <> $2)", name, key_id
    )
    if taken:
        raise ConflictError(
            Fault(name, "a key of that name is in force already: revoke it or take another name")
        )


class KeyVault(RowVault):
    """The part of the vault that keeps proxy keys."""

    def keys(self) -> Mapping[str, KeyRecord]:
        """All keys by id, revoked ones too; the mapping is replaced, never changed."""
        return self.snapshot.keys

    async def add_key(self, record: KeyRecord, *, actor: str = "operator") -> None:
        """Store a new key's record.

        Raises:
            ConflictError: the id, or the name among keys in force, is taken.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "key.create", record.key_id) as change:
            await _refuse_taken(change.transaction, record.name, record.key_id)
            if await change.transaction.fetch("SELECT 1 AS taken FROM keys WHERE key_id = $1", record.key_id):
                raise ConflictError(Fault(record.key_id, "a key with this id is stored already"))
            row = key_row(record, change.sequence)
            put = (_PUT_KEY, *(row[column] for column in KEY_COLUMNS))
            await self._write(change.transaction, "keys", record.key_id, put, whole=True)
            change.detail.update(name=record.name, permits=list(record.permits), kind=record.kind)

    async def rename_key(self, key_id: str, name: str, *, actor: str = "operator") -> None:
        """Give a key another name.

        Raises:
            MissingError: no such key.
            ConflictError: the name is taken, or the key's row was changed by somebody else.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "key.rename", key_id) as change:
            await _refuse_taken(change.transaction, name, key_id)
            renamed = "UPDATE keys SET name = $1, sequence = $2 WHERE key_id = $3"
            changed = await self._write(
                change.transaction, "keys", key_id, (renamed, name, change.sequence, key_id)
            )
            if not changed:
                raise MissingError(Fault(key_id, "there is no such key"))
            change.detail.update(name=name)

    async def revoke_key(self, key_id: str, *, actor: str = "operator") -> bool:
        """Put a key out of force for good; False when it was already.

        Raises:
            MissingError: no such key.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "key.revoke", key_id) as change:
            if not await change.transaction.fetch("SELECT key_id FROM keys WHERE key_id = $1", key_id):
                raise MissingError(Fault(key_id, "there is no such key"))
            changed = await self._revoke(change, key_id)
        return changed > 0

    async def _revoke(self, change: Change, key_id: str) -> int:
        revoked = "UPDATE keys SET revoked_at = $1, sequence = $2 WHERE key_id = $3 AND revoked_at IS NULL"
        asked = (revoked, to_ms(change.now), change.sequence, key_id)
        ring = await self._data_keys.current(change.transaction)
        return await write_if_genuine(change.transaction, ring, "keys", key_id, asked)

    async def revoke_all(self, *, actor: str = "operator") -> int:
        """Put every key of the vault out of force; how many there were."""
        await self._data_keys.reserve(len(self.snapshot.keys))
        async with self._change(actor, "key.revoke_all", "*") as change:
            rows = await change.transaction.fetch("SELECT key_id FROM keys WHERE revoked_at IS NULL")
            changed = sum([await self._revoke(change, str(row["key_id"])) for row in rows])
            change.detail.update(count=changed)
        return changed

    async def touch_keys(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used (id to seconds since the epoch), in one commit."""
        if not used:
            return
        async with self._store.transaction() as transaction:
            await transaction.execute_each(*((_TOUCH, to_ms(when), key_id) for key_id, when in used.items()))

    async def key_usage(self) -> Mapping[str, float]:
        """When each key was last used, in seconds since the epoch; keys never used are not in it."""
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch(
                "SELECT key_id, last_used_at FROM keys WHERE last_used_at IS NOT NULL"
            )
        return MappingProxyType({row["key_id"]: row["last_used_at"] / 1000 for row in rows})

    async def add_observed(self, counts: Mapping[tuple[str, ...], int]) -> None:
        """Add to what observing permits would have refused, by (key id, service, method, path).

        Raises:
            StoreError: it is not known to be added.
        """
        async with self._store.transaction() as transaction:
            await observed.add(transaction, counts, self._clock())

    async def add_key_calls(self, counts: Mapping[tuple[str, ...], int]) -> None:
        """Add to what keys did today; see ``key_days``.

        Raises:
            StoreError: it is not known to be added.
        """
        async with self._store.transaction() as transaction:
            await key_days.add(transaction, self.audit_log, counts, self._clock())

    async def observed_of(self, key_id: str) -> tuple[Observed, ...]:
        """What a key's observing permits would have refused, most first."""
        async with self._store.snapshot() as transaction:
            return await observed.of_key(transaction, key_id)
