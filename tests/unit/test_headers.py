"""Header names, and what of an upstream answer reaches the caller."""

from collections.abc import Sequence

import pytest

from proxy.errors import UpstreamProtocol
from proxy.forwarding.framing import answer_head
from proxy.forwarding.headers import (
    HOP_BY_HOP,
    LOWER,
    Field,
    Memo,
    fold,
    lower_name,
    tokens,
)

VIA = (b"Via", b"1.1 connector-proxy")


def returned(raw: Sequence[Field]) -> list[Field]:
    """What of an answer's fields is passed on, as the data path does it."""
    names, values = [name for name, _ in raw], [value for _, value in raw]
    head = answer_head(version="1.1", status=200, reason=b"OK", names=names, values=values, method=b"GET")
    return [tuple(line.split(b": ", 1)) for line in head.lines.split(b"\r\n")[:-1]]


@pytest.mark.parametrize(
    "name", [b"Authorization", b"AUTHORIZATION", b"authorization"], ids=["capital", "shouted", "lower"]
)
def test_lower(name):
    """Names are compared in lower case, remembered or not."""
    assert b"authorization" == lower_name(name) == LOWER[name] == LOWER[name]


@pytest.mark.parametrize(
    "name", [b"X-Forwarded-For", b"x_forwarded_for", b"X.Forwarded For", b"X_FORWARDED-for"]
)
def test_fold(name):
    """Look-alikes of a name are equal once folded (R31)."""
    assert fold(name) == b"x-forwarded-for"


def test_memo_is_bounded():
    """What strangers send is remembered only if short, and never more than so many."""
    memo = Memo(bytes.upper, longest=4, most=3)
    assert memo[b"longer"] == b"LONGER"
    assert len(memo) == 0
    for text in (b"a", b"b", b"c", b"d", b"a"):
        assert memo[text] == text.upper()
        assert len(memo) <= 3


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        ([b"close"], {b"close"}),
        ([b"", b"Close, X-Hop"], {b"close", b"x-hop"}),
        ([b" , ,a\t"], {b"a"}),
        ([], set()),
    ],
)
def test_tokens(lines, members):
    """A list may be spread over lines and have empty members (R29)."""
    assert members == tokens(lines)


def test_order_number_and_case_are_kept():
    """Fields pass in their order and case, Set-Cookie unmerged, bytes from 0x80 untouched, Via added last (R38)."""
    raw = [
        (b"Set-Cookie", b"a=1"),
        (b"x-Odd-CASE", b"\xff"),
        (b"Set-Cookie", b"b=2"),
        (b"Retry-After", b"1"),
        (b"Via", b"1.1 v"),
    ]
    assert [*raw, VIA] == returned(raw)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_never_returns(name):
    """Hop-by-hop fields stop here, in any case (R28)."""
    value = b"chunked" if name == b"transfer-encoding" else b"x"
    for spelt in (name, name.upper(), name.title()):
        assert returned([(spelt, value)]) == [VIA]


@pytest.mark.parametrize(
    "name", [b"Proxy-Status", b"proxy-status", b"Connector-Proxy-Error", b"X-Connector-Proxy-Request", b"Alt-Svc", b"Strict-Transport-Security"]
)  # fmt: skip
def test_markers_cannot_be_forged(name):
    """Our marker fields are stripped from a service's answer, and so is what speaks about its own host (R44)."""
    assert returned([(name, b"x")]) == [VIA]


@pytest.mark.parametrize(
    "connection",
    [
        [b"X-Hop"],
        [b"close, X-Hop"],
        [b"", b"x-hop"],
        [b"close", b"X-HOP"],
        [b"X-Hop, close"],
        [b"keep-alive,,x-hop"],
    ],
)
def test_connection_named_fields_are_dropped(connection):
    """Every field that Connection names is dropped, however its lines are cut (R28, R29)."""
    raw = [*((b"Connection", line) for line in connection), (b"X-Hop", b"1"), (b"X-Stay", b"2")]
    assert returned(raw) == [(b"X-Stay", b"2"), VIA]


@pytest.mark.parametrize(
    "field",
    [(b"X A", b"1"), (b"", b"1"), (b"X-A ", b"1"), (b"X-A", b"a\rb"), (b"X-A", b"a\nb"), (b"X-A", b"\0"), (b"Connection", b"a b"), (b"Trailer", b"(")],
)  # fmt: skip
def test_malformed_answers(field):
    """A name that is no token or a value with control characters makes the answer unusable (R47)."""
    with pytest.raises(UpstreamProtocol):
        returned([field])
