"""Which vault this is: its incarnation, by which a copy knows itself, and the key of its fingerprints.

A copy of a vault that refreshed would spend the single-use refresh tokens of the original. So the vault
remembers which database it lies in (``Store.incarnation``); where that is another one, nothing refreshes
until an operator says that this one is the original now (``vault adopt``).
"""

import hashlib
import hmac
import os
from collections.abc import Sequence

from proxy.connectors.datakeys import DataKeys
from proxy.connectors.rows import to_ms
from proxy.connectors.seal import Place, SealBrokenError, key_id_of
from proxy.connectors.store import Row, Store
from proxy.errors import StateError
from proxy.secret import Secret

MARK_BYTES = 16
MARK_PLACE = Place("identity", "1", "mark_key")
_SELECT = "SELECT mark_key FROM identity WHERE id = 1"


async def open_identity(store: Store, data_keys: DataKeys, now: float) -> bytes:
    """The key of the fingerprints; a vault that has no identity yet gets one, in this incarnation.

    Raises:
        StateError: it does not open.
    """
    async with store.snapshot() as snapshot:
        rows = await snapshot.fetch(_SELECT)
    if not rows:
        rows = await _create(store, data_keys, now)
    try:
        return data_keys.ring.open(bytes(rows[0]["mark_key"]), MARK_PLACE)
    except SealBrokenError as error:
        raise StateError(f"the vault's identity does not open: restore a backup ({error})") from error


async def _create(store: Store, data_keys: DataKeys, now: float) -> Sequence[Row]:
    await data_keys.reserve(1)
    incarnation = await store.incarnation()
    async with store.transaction() as transaction:
        sealed = data_keys.ring.seal(os.urandom(32), MARK_PLACE)
        await transaction.execute(
            "INSERT INTO identity (id, incarnation, mark_key, mark_key_id, adopted_at) "
            "VALUES (1, $1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",  # another process may have been first
            incarnation,
            sealed,
            key_id_of(sealed),
            to_ms(now),
        )
        return await transaction.fetch(_SELECT)


def mark(key: bytes, token: Secret) -> bytes:
    """A keyed fingerprint: equal for equal tokens, of no use without the vault's data keys."""
    return hmac.new(key, token.reveal().encode(), hashlib.sha256).digest()[:MARK_BYTES]


def secret_for(key: bytes, purpose: str) -> bytes:
    """A secret derived from the key of the fingerprints; one for each purpose."""
    return hmac.digest(key, b"purpose:" + purpose.encode(), hashlib.sha256)
