"""The eyes of the leak tests are tested themselves: a blind one would pass everything."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.spellings import found, spelling_of

KEY = "cpk_Ab12Cd34_0123456789abcdefghijABCDEFGHIJ0123456789XYZxyz"
RAW = KEY.encode()


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        (RAW, "plain"),
        (b"".join(b"%%%02x" % byte for byte in RAW), "percent"),
        (quote(quote(KEY).replace("_", "%5F")).encode(), "percent twice"),
        (json.dumps(KEY).replace("_", "\\u005f").encode(), "json"),
        (RAW.hex().upper().encode(), "hex"),
        (base64.b64encode(b"user:" + RAW), "plain base64"),
        (quote(base64.b64encode(b"a" + RAW + b"\xff\xfe")).encode(), "plain base64"),
        (base64.urlsafe_b64encode(b"\xff\xef" + RAW).rstrip(b"="), "plain base64"),
        (quote(base64.b64encode(RAW).decode().replace("Y", "%59")).encode(), "percent twice base64"),
    ],
)
def test_every_spelling_is_seen(spelt: bytes, name: str) -> None:
    """A secret is found in each spelling, wherever in a message it stands."""
    assert spelling_of(KEY, b"GET /x?k=" + spelt + b" HTTP/1.1\r\n") == name


@given(before=st.binary(max_size=40), after=st.binary(max_size=40), skipped=st.integers(0, 3))
def test_base64_is_seen_at_any_alignment(before: bytes, after: bytes, skipped: int) -> None:
    """What surrounds a secret before it is coded, and what is glued to the code, does not hide it."""
    assert spelling_of(KEY, b"x" * skipped + base64.b64encode(before + RAW + after))


@given(st.binary(max_size=300))
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    """Bytes without the secret are not accused, nor is a part of it."""
    assert spelling_of(KEY, data) is None
    assert spelling_of(KEY, data + RAW[:-1] + base64.b64encode(RAW[1:])) is None


def test_many_are_looked_for_at_once() -> None:
    """Of many secrets those are found that are there, each with its spelling."""
    data = b"a " + RAW + b" b " + b"second-secret-0123456789".hex().encode()
    assert list(found(data, KEY, "second-secret-0123456789", "third-secret-0123456789")) == [
        (KEY, "plain"),
        (KEY, "percent"),
        (KEY, "percent twice"),
        (KEY, "json"),
        ("second-secret-0123456789", "hex"),
    ]
