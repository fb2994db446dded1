"""The data keys of a vault: made, wrapped by the master key, counted (R136, R138, R139, R141)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
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
CANARY_PLACE = Place("canary", "1", "sealed")
_SELECT = "SELECT key_id, master_id, wrapped, is_active FROM data_keys"


def _wrapped_place(key_id: str) -> Place:
    return Place("data_keys", key_id, "wrapped")


def _masters(rows: Iterable[Row]) -> frozenset[str]:
    """The ids of the master keys that data keys are wrapped with."""
    return frozenset(row["master_id"] for row in rows)


def _refuse(rows: Iterable[Row], master: SealingKey) -> StateError:
    needed = ", ".join(sorted(_masters(rows)))
    return StateError(
        f"the vault is sealed with master key {needed}, and the one given is {master.key_id}: give the right "
        "one (CONNECTOR_PROXY_MASTER_KEY, storage.master_key or master.key in the data folder); "
        "nothing was changed"
    )


def _unwrap(rows: Iterable[Row], master: SealingKey, known: Mapping[str, SealingKey]) -> Keyring:
    """The ring of these rows; raises StateError when a key that is not ``known`` is not this master key's."""
    rows = tuple(rows)
    opened = {row["key_id"]: known[row["key_id"]] for row in rows if row["key_id"] in known}
    try:
        for row in rows:
            key_id = row["key_id"]
            if key_id not in opened:
                opened[key_id] = SealingKey(
                    key_id, master.open(bytes(row["wrapped"]), _wrapped_place(key_id))
                )
    except SealBrokenError as error:
        if {row["master_id"] for row in rows} == {master.key_id}:
            raise StateError(f"a data key of the vault is damaged: restore a backup ({error})") from error
        raise _refuse(rows, master) from None
    active = next((row["key_id"] for row in rows if row["is_active"]), None)
    if active is None:
        raise StateError("the vault has no active data key: restore a backup")
    return Keyring(opened, active)


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
        sealed = ring.seal(_CANARY, CANARY_PLACE)
        await transaction.execute("INSERT INTO canary (id, sealed) VALUES (1, $1)", sealed)
        return
    try:
        proven = ring.open(bytes(rows[0]["sealed"]), CANARY_PLACE) == _CANARY
    except SealBrokenError as error:
        raise StateError(
            f"the vault's data keys do not open its canary: restore a backup ({error})"
        ) from error
    if not proven:
        raise StateError("the vault's canary is not what was sealed: restore a backup")


class DataKeys:
    """Hands out the ring of data keys, and counts what is sealed with the active one."""

    def __init__(
        self,
        store: Store,
        source: MasterKeySource,
        master: SealingKey,
        ring: Keyring,
        clock: Callable[[], float],
    ) -> None:
        self.ring = ring
        self._store = store
        self._source = source
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
            needed = _masters(await snapshot.fetch(_SELECT))
        master = master_key(await source.load(may_create=not needed, needed=needed))
        async with store.transaction() as transaction:
            if not await transaction.fetch(_SELECT):
                await _create(transaction, master, int(clock() * 1000), messages=1)
            ring = _unwrap(await transaction.fetch(_SELECT), master, {})
            await _prove(transaction, ring)
        return cls(store, source, master, ring, clock)

    @property
    def master_id(self) -> str:
        """The id of the master key in use."""
        return self._master.key_id

    def ring_of(self, rows: Iterable[Row]) -> Keyring:
        """The data keys of another vault under the same master key.

        Raises:
            StateError: they are under another one, or damaged.
        """
        return _unwrap(rows, self._master, {})

    async def reload(self) -> None:
        """Take in data keys that another process made.

        Raises:
            StateError: they are wrapped with a master key that cannot be had here.
        """
        async with self._store.snapshot() as snapshot:
            rows = await snapshot.fetch(_SELECT)
        self._take(await self._opened(rows))

    async def current(self, transaction: Transaction) -> Keyring:
        """The ring to seal with in this writing transaction.

        Another process may have begun to rotate since we looked. Writing transactions come one after the
        other, so what is sealed with this ring is either stored before an old key goes, or not with it.

        Raises:
            StateError: the new data key cannot be opened here.
        """
        active = await transaction.fetch("SELECT key_id FROM data_keys WHERE is_active = 1")
        if [row["key_id"] for row in active] != [self.ring.active]:
            self._take(await self._opened(await transaction.fetch(_SELECT)))
            await transaction.execute(
                "UPDATE data_keys SET messages = messages + $1 WHERE is_active = 1", BLOCK
            )
        return self.ring

    async def reserve(self, count: int) -> None:
        """Before sealing ``count`` values: makes sure that they are counted durably.

        A key whose count is used up is followed by a new one; what it sealed stays readable.
        """
        async with self._reserving:
            if self._left < count:
                await self._reserve_block(max(count, BLOCK))
            self._left -= count

    async def _reserve_block(self, count: int) -> None:
        async with self._store.transaction() as transaction:
            counted = await transaction.execute(
                "UPDATE data_keys SET messages = messages + $1 WHERE is_active = 1 AND messages + $1 <= $2",
                count,
                MESSAGE_LIMIT,
            )
            if not counted:
                await self.make(transaction, messages=count)
            ring = await self._opened(await transaction.fetch(_SELECT))
        self.ring = ring
        self._left = count

    async def make(self, transaction: Transaction, *, messages: int = BLOCK) -> None:
        """A new data key, in force when the transaction is committed; until then nothing may use it.

        Raises:
            StateError: the vault's master key was changed, and the new one cannot be had here.
        """
        await self._follow_master(await transaction.fetch(_SELECT))
        await _create(transaction, self._master, int(self._clock() * 1000), messages=messages)

    async def rewrap(self, transaction: Transaction, master: SealingKey) -> int:
        """Wrap all data keys with another master key: rows stay as they are (R136); how many keys.

        Other processes go on with the keys they hold. After the commit ``follow`` has to be called here.

        Raises:
            StateError: a data key does not open.
        """
        rows = await transaction.fetch(_SELECT)
        await self._follow_master(rows)
        _unwrap(rows, self._master, {})
        for row in rows:
            place = _wrapped_place(row["key_id"])
            await transaction.execute(
                "UPDATE data_keys SET wrapped = $1, master_id = $2 WHERE key_id = $3",
                master.seal(self._master.open(bytes(row["wrapped"]), place), place),
                master.key_id,
                row["key_id"],
            )
        return len(rows)

    def follow(self, master: SealingKey) -> None:
        """From now on this is the master key: the vault's data keys are wrapped with it."""
        self._master = master

    def _take(self, ring: Keyring) -> None:
        if ring.active != self.ring.active:
            self._left = 0  # what was counted ahead was counted for another key
        self.ring = ring

    async def _opened(self, rows: Iterable[Row]) -> Keyring:
        rows = tuple(rows)
        if any(row["key_id"] not in self.ring.keys for row in rows):
            await self._follow_master(rows)
        return _unwrap(rows, self._master, self.ring.keys)

    async def _follow_master(self, rows: Iterable[Row]) -> None:
        """Where another process has changed the master key, fetch the new one from where it is kept."""
        needed = _masters(rows)
        if needed == {self._master.key_id}:
            return
        master = master_key(await self._source.load(may_create=False, needed=needed))
        if needed != {master.key_id}:
            raise _refuse(rows, master)
        self._master = master
