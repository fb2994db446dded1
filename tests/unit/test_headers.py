"""Header names, and what of an upstream answer reaches the caller."""

import pytest

from proxy.errors import UpstreamProtocol
from proxy.forwarding.headers import (
    HOP_BY_HOP,
    LOWER,
    Memo,
    fold,
    lower_name,
    response_fields,
    to_wire,
    tokens,
)

VIA = (b"Via", b"1.1 connector-proxy")


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
    assert [*raw, VIA] == response_fields(raw).fields


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_never_returns(name):
    """Hop-by-hop fields stop here, in any case (R28)."""
    for spelt in (name, name.upper(), name.title()):
        assert response_fields([(spelt, b"x")]).fields == [VIA]


@pytest.mark.parametrize(
    "name", [b"Proxy-Status", b"proxy-status", b"Connector-Proxy-Error", b"X-Connector-Proxy-Request", b"Alt-Svc", b"Strict-Transport-Security"]
)  # fmt: skip
def test_markers_cannot_be_forged(name):
    """Our marker fields are stripped from a service's answer, and so is what speaks about its own host (R44)."""
    assert response_fields([(name, b"x")]).fields == [VIA]


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
    assert response_fields(raw).fields == [(b"X-Stay", b"2"), VIA]


def test_framing_is_handed_over_unjudged():
    """Lengths and codings are told apart from the fields, every one of them (R47)."""
    found = response_fields(
        [(b"Content-Length", b"3"), (b"content-length", b"4"), (b"Transfer-Encoding", b"gzip, chunked"), (b"Trailer", b"X-T, y"),
         (b"Connection", b"close"), (b"Connection", b"keep-alive")]
    )  # fmt: skip
    assert found.content_length == (b"3", b"4")
    assert found.transfer_encoding == (b"gzip, chunked",)
    assert {b"x-t", b"y"} == found.trailer
    assert found.closes
    assert found.keeps
    assert found.fields == [VIA]


@pytest.mark.parametrize(
    "field",
    [(b"X A", b"1"), (b"", b"1"), (b"X-A ", b"1"), (b"X-A", b"a\rb"), (b"X-A", b"a\nb"), (b"X-A", b"\0"), (b"Connection", b"a b"), (b"Trailer", b"(")],
)  # fmt: skip
def test_malformed_answers(field):
    """A name that is no token or a value with control characters makes the answer unusable (R47)."""
    with pytest.raises(UpstreamProtocol):
        response_fields([field])


def test_wire_form():
    """Fields become lines; the end of the section is the caller's."""
    assert to_wire([(b"A", b"1"), (b"B", b"")]) == b"A: 1\r\nB: \r\n"
