"""Keys in bodies: what is found, what is taken out, what stops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import keys
from proxy.errors import BadRequest
from proxy.forwarding.form import form_values, refuse_key, without_key

KEY = keys.generate()[1].reveal().encode()
NAMES = frozenset({b"token"})


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b"token=%K", b""),
        (b"token=%K&channel=C1", b"channel=C1"),
        (b"a=1&token=%K&b=%7E+x", b"a=1&b=%7E+x"),
        (b"Token=%K&a=1", b"a=1"),
        (b"%74oken=%K&a=1", b"a=1"),
        (b"token=other&a=1", b"a=1"),
        (b"a=1&note=see+%K+there", b"a=1"),
        (b"a=1&&b=", b"a=1&&b="),
        (b"", b""),
    ],
)
def test_fields_with_the_key_go_and_the_rest_stays_byte_for_byte(body: bytes, left: bytes) -> None:
    """Declared fields and fields that hold the key are taken out; every other byte stays (design section 4)."""
    assert without_key(body.replace(b"%K", KEY), NAMES, KEY) == left


def test_values_of_declared_fields_are_found_decoded() -> None:
    """A key is found in its field whatever the spelling of the name; other fields are not looked at."""
    assert form_values(b"x=" + KEY + b"&%54OKEN=" + KEY + b"&token=", NAMES) == [KEY]


def test_a_key_in_a_name_stops_the_request() -> None:
    """What cannot be taken out does not go on."""
    with pytest.raises(BadRequest):
        without_key(KEY + b"=1&a=2", NAMES, KEY)
    with pytest.raises(BadRequest):
        refuse_key(b"<sessionId>" + KEY + b"</sessionId>", KEY)
    refuse_key(b"harmless", KEY)
    refuse_key(KEY, None)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_form_keeps_the_key(before: bytes, after: bytes) -> None:
    """Whatever stands around it, the key is gone from the form or the request stops."""
    try:
        left = without_key(before + KEY + after, NAMES, KEY)
    except BadRequest:
        return
    assert KEY not in left
