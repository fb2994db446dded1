"""The form of proxy keys and their stored half."""

import hashlib
import string

import pytest

from proxy.keys import KEY_LENGTH, KEY_PATTERN, KeyRecord, digest, generate, is_well_formed, key_id_of


def test_generated_keys_are_well_formed():
    """A new key has the documented form, its public id inside, and no two are alike (R84)."""
    made = [generate() for _ in range(50)]
    assert len({key.reveal() for _, key in made}) == 50
    for key_id, key in made:
        raw = key.reveal().encode()
        assert is_well_formed(raw)
        assert key_id == key_id_of(raw)
        assert len(raw) == KEY_LENGTH
        assert KEY_PATTERN.fullmatch(raw)


def test_a_key_needs_no_encoding():
    """A key is letters, digits and underscores: safe in URLs, Basic and XML, and never three dotted parts."""
    assert set(generate()[1].reveal()) <= set(string.ascii_letters + string.digits + "_")


def test_every_changed_character_is_noticed():
    """The checksum tells a mistyped key from a real one, at every place (R84)."""
    raw = generate()[1].reveal().encode()
    for at in range(len(raw)):
        changed = raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]
        assert not is_well_formed(changed)


@pytest.mark.parametrize("raw", [b"", b"cpk_", b"xoxb-1", b"cpk_" + b"A" * 58, b"\xff" * KEY_LENGTH])
def test_other_bytes_are_no_keys(raw):
    """Anything else is told apart without an error."""
    assert not is_well_formed(raw)


def test_only_a_hash_is_stored():
    """The stored half is SHA-256 of the whole key, and nothing of the key shows in the record (R84)."""
    _, key = generate()
    raw = key.reveal().encode()
    assert digest(raw) == hashlib.sha256(raw).digest()
    assert key.reveal() not in repr(KeyRecord("a", "b", digest(raw), ()))


@pytest.mark.parametrize(
    ("more", "now", "live"),
    [({}, 1e12, True), ({"expires_at": 10.0}, 9.9, True), ({"expires_at": 10.0}, 10.0, False), ({"revoked_at": 5.0}, 1.0, False)],
)  # fmt: skip
def test_lifetime(more, now, live):
    """A key ends at its expiry, and at once when revoked (R84, R90)."""
    assert live is KeyRecord("a", "b", b"", (), **more).is_live(now)
