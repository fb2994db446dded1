"""The data keys of a vault: made, wrapped by the master key, counted (R136, R138, R139, R141)."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

from proxy.connectors.masterkey import MasterKeySource
from proxy.connectors.seal import (
    MESSAGE_LIMIT,
    Keyring,
    Place,
    SealBrokenError,
    SealingKey,
    master_key,
    new_data_key,
)
from proxy.connectors.store import Row, Store, Transaction
from proxy.errors import StateError

BLOCK = 256  # messages counted ahead in one commit; a crash or rollback can only count too many
_CANARY = b"connector-proxy canary"
_CANARY_PLACE = Place("canary", "1", "sealed")
_SELECT = "SELECT key_id, master_id, wrapped, is_active FROM data_keys"


def _wrapped_place(key_id: str) -> Place:
    return Place("data_keys", key_id, "wrapped")


def _refuse(rows: Iterable[Row], master: SealingKey) -> StateError:
    needed = ", ".join(sorted({row["master_id"] for row in rows}))
    return StateError(
        f"the vault is sealed with master key {needed}, and the one given is {master.key_id}: give the right "
        "one (CONNECTOR_PROXY_MASTER_KEY, storage.master_key or master.key in the data folder); "
        "nothing was changed"
    )


def _unwrap(rows: Iterable[Row], master: SealingKey) -> Keyring:
    """Raises StateError when any data key is not this master key's."""
    rows = tuple(rows)
    try:
        raw = {row["key_id"]: master.open(row["wrapped"], _wrapped_place(row["key_id"])) for row in rows}
    except SealBrokenError as error:
        if {row["master_id"] for row in rows} == {master.key_id}:
            raise StateError(f"a data key of the vault is damaged: restore a backup ({error})") from error
        raise _refuse(rows, master) from None
    active = next((row["key_id"] for row in rows if row["is_active"]), None)
    if active is None:
        raise StateError("the vault has no active data key: restore a backup")
    return Keyring({key_id: SealingKey(key_id, key) for key_id, key in raw.items()}, active)


async def _create(transaction: Transaction, master: SealingKey, now_ms: int, messages: int) -> None:
    key_id, key = new_data_key()
    await transaction.execute("UPDATE data_keys SET is_active = 0 WHERE is_active = 1")
    await transaction.execute(
        "INSERT INTO data_keys (key_id, master_id, wrapped, messages, is_active, created_at) "
        "VALUES ($1, $2, $3, $4, 1, $5)",
        key_id,
        master.key_id,
        master.seal(key, _wrapped_place(key_id)),
        messages,
        now_ms,
    )


async def _prove(transaction: Transaction, ring: Keyring) -> None:
    rows = await transaction.fetch("SELECT sealed FROM canary WHERE id = 1")
    if not rows:
        sealed = ring.seal(_CANARY, _CANARY_PLACE)
        await transaction.execute("INSERT INTO canary (id, sealed) VALUES (1, $1)", sealed)
        return
    try:
        proven = ring.open(rows[0]["sealed"], _CANARY_PLACE) == _CANARY
    except SealBrokenError as error:
        raise StateError(
            f"the vault's data keys do not open its canary: restore a backup ({error})"
        ) from error
    if not proven:
        raise StateError("the vault's canary is not what was sealed: restore a backup")


class DataKeys:
    """Hands out the ring of data keys, and counts what is sealed with the active one."""

    def __init__(self, store: Store, master: SealingKey, ring: Keyring, clock: Callable[[], float]) -> None:
        self.ring = ring
        self._store = store
        self._master = master
        self._clock = clock
        self._left = 0
        self._reserving = asyncio.Lock()

    @classmethod
    async def open(cls, store: Store, source: MasterKeySource, clock: Callable[[], float]) -> Self:
        """Open the data keys with the master key, or make the first one for a vault that holds nothing.

        Raises:
            StateError: no master key, or not the one that the vault is sealed with; nothing has been written.
        """
        async with store.snapshot() as snapshot:
            is_empty = not await snapshot.fetch(_SELECT)
        master = master_key(await source.load(may_create=is_empty))
        async with store.transaction() as transaction:
            if not await transaction.fetch(_SELECT):
                await _create(transaction, master, int(clock() * 1000), messages=1)
            ring = _unwrap(await transaction.fetch(_SELECT), master)
            await _prove(transaction, ring)
        return cls(store, master, ring, clock)

    @property
    def master_id(self) -> str:
        """The id of the master key in use."""
        return self._master.key_id

    async def reload(self) -> None:
        """Take in data keys that another process made."""
        async with self._store.snapshot() as snapshot:
            self.ring = _unwrap(await snapshot.fetch(_SELECT), self._master)

    async def reserve(self, count: int) -> None:
        """Before sealing ``count`` values: makes sure that they are counted durably.

        A key whose count is used up is followed by a new one; what it sealed stays readable.
        """
        async with self._reserving:
            if self._left < count:
                await self._reserve_block()
            self._left -= count

    async def _reserve_block(self) -> None:
        async with self._store.transaction() as transaction:
            counted = await transaction.execute(
                "UPDATE data_keys SET messages = messages + $1 WHERE is_active = 1 AND messages + $1 <= $2",
                BLOCK,
                MESSAGE_LIMIT,
            )
            if not counted:
                await _create(transaction, self._master, int(self._clock() * 1000), messages=BLOCK)
            ring = _unwrap(await transaction.fetch(_SELECT), self._master)
        self.ring = ring
        self._left = BLOCK

    async def rewrap(self, master: SealingKey) -> None:
        """Wrap all data keys with another master key, in one commit: rows stay as they are (R136).

        Other processes go on with the keys they hold and need the new master key at their next start.
        """
        async with self._store.transaction() as transaction:
            rows = await transaction.fetch(_SELECT)
            _unwrap(rows, self._master)
            for row in rows:
                place = _wrapped_place(row["key_id"])
                await transaction.execute(
                    "UPDATE data_keys SET wrapped = $1, master_id = $2 WHERE key_id = $3",
                    master.seal(self._master.open(row["wrapped"], place), place),
                    master.key_id,
                    row["key_id"],
                )
        self._master = master
        await self._store.scrub()
