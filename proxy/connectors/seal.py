"""Sealed values: AES-256-GCM blobs that know their key and open only in the place they were made for.

A blob is ``version (1) | key id (8) | nonce (12) | ciphertext and tag``. The associated data binds it to
table, row, column, key id and layout version: a blob that is moved, swapped, cut or changed does not open.

Two layers: the operator's master key wraps data keys, data keys seal rows. Nothing here does I/O.
Nonces are random, so a key may seal at most 2^32 messages (NIST SP 800-38D §8.3); we stop at 2^31.
"""

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import ConnectorProxyError, StateError
from proxy.secret import Secret

VERSION = 1
LAYOUT = 1  # what the sealed plaintext means; part of the associated data
MESSAGE_LIMIT = 2**31
_KEY_BYTES, _ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 8, 12, 16
_WRITTEN = re.compile(r"[A-Za-z0-9_-]{43}=?", re.ASCII)
_HEAD = 1 + _ID_BYTES + _NONCE_BYTES


class SealBrokenError(ConnectorProxyError):
    """A blob does not open: damaged, moved, or its key is not here. The message never holds plaintext."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob lives in the database."""

    table: str
    row: str
    column: str


def key_id_of(blob: bytes) -> str:
    """The id of the key that a blob was sealed with (16 hex digits).

    Raises:
        SealBrokenError: too short, or a version this release does not know.
    """
    if len(blob) < _HEAD + _TAG_BYTES:
        raise SealBrokenError("the sealed value is cut short")
    if blob[0] != VERSION:
        raise SealBrokenError(f"the sealed value has version {blob[0]}, this release knows {VERSION}")
    return blob[1 : 1 + _ID_BYTES].hex()


def _part(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


@lru_cache(maxsize=256)
def _around(table: str, column: str, key_id: str) -> tuple[bytes, bytes]:
    """What stands before and after the row: the same for thousands of rows."""
    return _part(table), _part(column) + _part(key_id) + _part(str(LAYOUT))


def _associated_data(place: Place, key_id: str) -> bytes:
    before, after = _around(place.table, place.column, key_id)
    return before + _part(place.row) + after


@final
class SealingKey:
    """One AES-256 key with its id; the bytes cannot be read back out of it."""

    __slots__ = ("_aead", "_head", "key_id")

    def __init__(self, key_id: str, key: bytes) -> None:
        if len(key) != _KEY_BYTES or len(bytes.fromhex(key_id)) != _ID_BYTES:
            raise ValueError("a sealing key has 32 bytes and an id of 8")
        self.key_id = key_id
        self._head = bytes((VERSION,)) + bytes.fromhex(key_id)
        self._aead = AESGCM(key)

    def __repr__(self) -> str:
        return f"SealingKey({self.key_id})"

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """The blob for one place; every call gives another one."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, plaintext, _associated_data(place, self.key_id))
        return self._head + nonce + sealed

    def open(self, blob: bytes, place: Place) -> bytes:
        """What was sealed.

        Raises:
            SealBrokenError: not this key's, damaged, or sealed for another place.
        """
        if not blob.startswith(self._head) or len(blob) < _HEAD + _TAG_BYTES:
            raise SealBrokenError(f"the value was sealed with key {key_id_of(blob)}, not {self.key_id}")
        nonce, sealed = blob[1 + _ID_BYTES : _HEAD], blob[_HEAD:]
        try:
            return self._aead.decrypt(nonce, sealed, _associated_data(place, self.key_id))
        except InvalidTag:
            raise SealBrokenError(
                f"the value in {place.table}.{place.column} does not open: damaged, or from another row"
            ) from None


def new_data_key() -> tuple[str, bytes]:
    """A fresh data key: its random id and its 32 bytes."""
    return os.urandom(_ID_BYTES).hex(), AESGCM.generate_key(bit_length=8 * _KEY_BYTES)


def new_master_key() -> Secret:
    """32 random bytes as base64url without padding: the form in which a master key is written down."""
    return Secret(base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).rstrip(b"=").decode())


def master_key(text: Secret) -> SealingKey:
    """The master key from its written form; its id is derived from it, so equal keys have equal ids.

    Raises:
        StateError: not 32 bytes in base64url (padding may be there or not).
    """
    written = text.reveal().strip()
    key = base64.urlsafe_b64decode(written.rstrip("=") + "=") if _WRITTEN.fullmatch(written) else b""
    if len(key) != _KEY_BYTES:
        raise StateError("the master key is not 32 bytes in base64url (43 characters of A-Z a-z 0-9 - _)")
    derived = hashlib.sha256(b"connector-proxy master key id\0" + key).digest()[:_ID_BYTES]
    return SealingKey(derived.hex(), key)


@dataclass(frozen=True, slots=True)
class Keyring:
    """All data keys that can be opened, and the one that new values are sealed with."""

    keys: Mapping[str, SealingKey]
    active: str

    def __post_init__(self) -> None:
        if self.active not in self.keys:
            raise ValueError("the active key is not in the ring")

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """Seal with the active key."""
        return self.keys[self.active].seal(plaintext, place)

    def open(self, blob: bytes, place: Place) -> bytes:
        """Open with whichever key the blob names.

        Raises:
            SealBrokenError: unknown key, damaged, or sealed for another place.
        """
        key = self.keys.get(key_id_of(blob))
        if key is None:
            raise SealBrokenError(f"the value was sealed with data key {key_id_of(blob)}, which is not here")
        return key.open(blob, place)
