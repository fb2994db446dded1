"""Sealed values open only whole, only in their place, only with their key."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.connectors.seal import (
    Keyring,
    Place,
    SealBrokenError,
    SealingKey,
    key_id_of,
    master_key,
    new_data_key,
    new_master_key,
)
from proxy.errors import StateError
from proxy.secret import Secret

KEY_ID, KEY = new_data_key()
HERE = Place("connections", "con_1", "access_token")


def _key() -> SealingKey:
    return SealingKey(KEY_ID, KEY)


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_what_is_sealed_opens(plaintext: bytes, table: str, row: str, column: str) -> None:
    """Opening gives back any bytes sealed for any place (R133)."""
    place = Place(table, row, column)
    assert _key().open(_key().seal(plaintext, place), place) == plaintext


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_flipped_bit_fails(plaintext: bytes, data: st.DataObject) -> None:
    """Any one bit of version, key id, nonce, ciphertext or tag changed: the value does not open (R134, R140)."""
    blob = bytearray(_key().seal(plaintext, HERE))
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBrokenError):
        _key().open(bytes(blob), HERE)


@given(st.integers(0, 52))
def test_a_cut_value_fails(length: int) -> None:
    """Every proper prefix of a blob is refused (R140)."""
    blob = _key().seal(b"sixteen bytes..!", HERE)
    assert len(blob) == 53
    with pytest.raises(SealBrokenError):
        _key().open(blob[:length], HERE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("keys", "con_1", "access_token"),
        Place("connections", "con_2", "access_token"),
        Place("connections", "con_1", "refresh_token"),
        Place("connection", "scon_1", "access_token"),
        Place("connections", "con_1access", "_token"),
    ],
)
def test_a_moved_value_fails(elsewhere: Place) -> None:
    """A blob opens in its own table, row and column only; moving a letter across a border is noticed too (R134)."""
    with pytest.raises(SealBrokenError, match="damaged, or from another row"):
        _key().open(_key().seal(b"token", HERE), elsewhere)


def test_the_key_id_is_bound() -> None:
    """The same key bytes under another id do not open a blob whose id was rewritten (R134)."""
    other = SealingKey("00" * 8, KEY)
    blob = _key().seal(b"token", HERE)
    forged = blob[:1] + bytes(8) + blob[9:]
    with pytest.raises(SealBrokenError):
        other.open(forged, HERE)


def test_blobs_describe_themselves() -> None:
    """A blob begins with its version and key id; an unknown version is refused by number (R135)."""
    blob = _key().seal(b"token", HERE)
    assert (blob[0], key_id_of(blob)) == (1, KEY_ID)
    with pytest.raises(SealBrokenError, match="version 2, this release knows 1"):
        key_id_of(b"\x02" + blob[1:])


def test_nonces_are_random() -> None:
    """The same value sealed a thousand times gives a thousand nonces (R133)."""
    key = _key()
    assert len({key.seal(b"token", HERE)[9:21] for _ in range(1000)}) == 1000


def test_a_ring_opens_what_older_keys_sealed() -> None:
    """New values are sealed with the active key, older keys stay readable, missing ones are named (R136, R137)."""
    old, new = _key(), SealingKey(*new_data_key())
    ring = Keyring({old.key_id: old, new.key_id: new}, new.key_id)
    assert ring.open(old.seal(b"old", HERE), HERE) == b"old"
    sealed = ring.seal(b"new", HERE)
    assert key_id_of(sealed) == new.key_id
    with pytest.raises(SealBrokenError, match=new.key_id):
        Keyring({old.key_id: old}, old.key_id).open(sealed, HERE)
    with pytest.raises(ValueError, match="not in the ring"):
        Keyring({old.key_id: old}, new.key_id)


def test_errors_and_reprs_hold_no_key_or_plaintext() -> None:
    """Neither a key's repr nor an error tells key bytes or plaintext (R143)."""
    key = _key()
    with pytest.raises(SealBrokenError) as caught:
        key.open(key.seal(b"canary-plaintext", HERE), Place("a", "b", "c"))
    told = repr(key) + repr(caught.value) + str(caught.value)
    assert "canary-plaintext" not in told
    assert KEY.hex() not in told


def test_master_keys_have_derived_ids() -> None:
    """Equal master keys have equal ids, with or without padding; a fresh one has another."""
    raw = os.urandom(32)
    padded = base64.urlsafe_b64encode(raw).decode()
    one, two = master_key(Secret(padded)), master_key(Secret(padded.rstrip("=") + "\n"))
    assert one.key_id == two.key_id
    assert master_key(new_master_key()).key_id != one.key_id
    assert two.open(one.seal(b"x", HERE), HERE) == b"x"


@pytest.mark.parametrize(
    "text",
    ["", "short", "A" * 42, "A" * 44, "A" * 86, "!" * 43, "é" * 43, base64.b64encode(b"\xff" * 32).decode()],
)
def test_what_is_no_master_key_is_refused(text: str) -> None:
    """Anything but 32 bytes in base64url is refused, and not repeated in the message."""
    with pytest.raises(StateError, match="32 bytes in base64url") as caught:
        master_key(Secret(text))
    assert not text or text not in str(caught.value)
