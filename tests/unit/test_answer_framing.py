"""The head of an upstream answer, decided from its fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.answers import passing

from proxy.errors import UpstreamProtocol
from proxy.forwarding import framing
from proxy.forwarding.framing import AnswerHead, answer_head, check_trailers, trailer_lines

VIA = b"Via: 1.1 connector-proxy\r\n"


def head(*fields: tuple[bytes, bytes], status: int = 200, method: bytes = b"GET", **more) -> AnswerHead:
    options = {"version": "1.1", "reason": b"OK", **more}
    return answer_head(
        status=status, method=method, names=[n for n, _ in fields], values=[v for _, v in fields], **options
    )


CL5 = (b"Content-Length", b"5")
TE = (b"Transfer-Encoding", b"chunked")
CLOSE = (b"Connection", b"close")
KEEP = (b"Connection", b"Keep-Alive")

FRAMES = [
    # fields, status, method, version -> body, length, reusable   (RFC 9112 §6.3, §9.3)
    ((), 200, b"GET", "1.1", "eof", None, False),
    ((CL5,), 200, b"GET", "1.1", "length", 5, True),
    ((CL5, CLOSE), 200, b"GET", "1.1", "length", 5, False),
    ((CL5,), 200, b"GET", "1.0", "length", 5, False),
    ((CL5, KEEP), 200, b"GET", "1.0", "length", 5, True),
    ((CL5, (b"Connection", b"keep-alive, close")), 200, b"GET", "1.1", "length", 5, False),
    ((CL5, CLOSE, KEEP), 200, b"GET", "1.0", "length", 5, False),
    ((KEEP,), 200, b"GET", "1.0", "eof", None, False),
    (((b"content-length", b"0"),), 200, b"POST", "1.1", "length", 0, True),
    (((b"Content-Length", b"007"),), 200, b"POST", "1.1", "length", 7, True),
    (((b"Content-Length", b"9" * 18),), 200, b"GET", "1.1", "length", 10**18 - 1, True),
    ((TE,), 200, b"GET", "1.1", "chunked", None, True),
    (((b"TRANSFER-ENCODING", b"Chunked"),), 200, b"GET", "1.1", "chunked", None, True),
    ((CL5,), 200, b"HEAD", "1.1", "none", 5, True),
    ((TE,), 200, b"HEAD", "1.1", "none", None, True),
    ((), 200, b"HEAD", "1.1", "none", None, True),
    ((CL5,), 204, b"GET", "1.1", "none", None, True),
    ((TE,), 204, b"GET", "1.1", "none", None, True),
    ((CL5,), 304, b"GET", "1.1", "none", 5, True),
    ((CL5,), 204, b"HEAD", "1.1", "none", None, True),
    ((CL5, CLOSE), 304, b"GET", "1.1", "none", 5, False),
    ((CL5,), 205, b"GET", "1.1", "length", 5, True),
    ((CL5,), 599, b"head", "1.1", "length", 5, True),  # methods are case-sensitive
]  # fmt: skip


@pytest.mark.parametrize("row", FRAMES)
def test_framing(row) -> None:
    """Every combination of status, method, version and framing field has one body and one fate (R50, R67)."""
    fields, status, method, version, *expected = row
    got = head(*fields, status=status, method=method, version=version)
    assert [got.body, got.length, got.reusable] == expected
    assert b"ontent-" not in got.lines
    assert b"ransfer-" not in got.lines.replace(b"TRANSFER", b"Transfer")


REFUSED = [
    (CL5, CL5),
    (CL5, (b"CONTENT-LENGTH", b"6")),
    (CL5, TE),
    (TE, CL5),
    (TE, TE),
    *[((b"Content-Length", value),) for value in (b"", b"+5", b"-5", b"5 5", b"5,5", b"0x5", b"5_0", b"\xb2", b"1" * 19, b"5.0", b" 5")],
    *[((b"Transfer-Encoding", value),) for value in (b"", b"gzip", b"chunked, chunked", b",chunked", b"chunked,", b"x chunked", b"chunked;q=1", b"identity", b'"chunked"')],
    ((b"", b"x"),),
    ((b"A B", b"x"),),
    ((b"A:", b"x"),),
    ((b"\xe4", b"x"),),
    *[((b"A", b"a" + bytes([code])),) for code in (*range(9), *range(10, 32), 127)],
    ((b"Connection", b"a b"),),
    ((b"Connection", b"close, \xe4"),),
    ((b"Trailer", b"a;b"),),
]  # fmt: skip


@pytest.mark.parametrize("fields", REFUSED)
def test_what_has_two_readings_is_refused(fields) -> None:
    """Framing fields that are doubled, listed, signed or coded otherwise, and malformed fields, make no answer (R47)."""
    with pytest.raises(UpstreamProtocol):
        head(*fields)


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, 999])
def test_statuses_out_of_range(status: int) -> None:
    """A final status is 200-599 (R55)."""
    with pytest.raises(UpstreamProtocol):
        head(CL5, status=status)


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0", ""])
def test_other_versions(version: str) -> None:
    """Only HTTP/1.1 and HTTP/1.0 are spoken (R46)."""
    with pytest.raises(UpstreamProtocol):
        head(CL5, version=version)


def test_chunked_in_the_old_version() -> None:
    """HTTP/1.0 has no transfer codings: such an answer is refused rather than guessed (R47)."""
    with pytest.raises(UpstreamProtocol):
        head(TE, version="1.0")


@pytest.mark.parametrize(
    ("reason", "passed"),
    [(b"", b""), (b"Very\tOdd \xe4", b"Very\tOdd \xe4"), (b"a\x00b", b""), (b"a\rb", b""), (b"\x7f", b"")],
)
def test_reasons(reason: bytes, passed: bytes) -> None:
    """An odd reason phrase passes, one with control characters is dropped: the caller's line stays one line (R55)."""
    assert head(CL5, reason=reason).reason == passed


NAMES = st.sampled_from(
    [b"A", b"a", b"X-Hop", b"ETag", b"Set-Cookie", b"Connection", b"KEEP-ALIVE", b"Via", b"Proxy-Status", b"Alt-Svc",
     b"Connector-Proxy-X", b"Trailer", b"TE", b"Upgrade", b"Content-Length", b"100%", b"%b", b"Content-Type"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"", b"1", b"close", b"x-hop", b"X-Hop,a", b"keep-alive", b"set-cookie, etag", b"%s%b%%", b"\xff", b","]
)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=9).filter(
        lambda f: sum(n == b"Content-Length" for n, _ in f) < 1
    )
)
def test_what_passes(fields) -> None:
    """What passes equals a plain second filter, in order, byte for byte, with our Via last, the second time too (R28, R29, R38, R44)."""
    try:
        got = head(*fields, CL5)
    except UpstreamProtocol:
        return  # a Trailer that is no list
    expected = b"".join(b"%b: %b\r\n" % pair for pair in passing(fields)) + VIA
    assert got.lines == expected
    assert head(*fields, CL5) == got  # now by the kept plan


def test_other_values_under_the_same_names() -> None:
    """What is kept for a list of names takes each answer's own values, Connection's too (R29, R41)."""
    one = head((b"X-Hop", b"1"), (b"Connection", b"close"), CL5)
    two = head((b"X-Hop", b"2"), (b"Connection", b"x-hop"), (b"Content-Length", b"6"))
    three = head((b"X-Hop", b"3"), (b"Connection", b"keep-alive"), CL5)
    assert [one.lines, two.lines, three.lines] == [b"X-Hop: 1\r\n" + VIA, VIA, b"X-Hop: 3\r\n" + VIA]
    assert [one.reusable, two.reusable, three.reusable] == [False, True, True]
    assert two.length == 6


def test_plans_do_not_pile_up() -> None:
    """Services choose the names, so only so many lists of names are remembered."""
    for number in range(3_000):
        head((b"X-%d" % number, b""), CL5)
    head(*[(b"Y" * 200, b"")] * 60, CL5)
    assert len(framing._PLANS) <= framing._PLANS_KEPT
    assert not any(len(names) > 64 or sum(map(len, names)) > 4096 for names in framing._PLANS)


ANNOUNCED = [
    (b"X-Sum", {b"x-sum"}),
    (b"x-sum, Server-Timing,,", {b"x-sum", b"server-timing"}),
    (b"Content-Length, X-Sum", {b"x-sum"}),
    (b"Authorization, Transfer-Encoding, Host, Content-Type, Location, Set-Cookie, Connection", set()),
    (b"", set()),
]


@pytest.mark.parametrize(("value", "expected"), ANNOUNCED)
def test_announced_trailers(value: bytes, expected: set[bytes]) -> None:
    """Trailers that decide framing, routing or access are not among those that may pass (R54, RFC 9110 §6.5.1)."""
    assert head((b"Trailer", value), TE).trailers == expected


def test_trailer_lines() -> None:
    """Only announced trailer fields are written, in the order in which they came (R54)."""
    fields = [(b"X-Sum", b"1"), (b"X-Other", b"2"), (b"x-sum", b"")]
    assert trailer_lines(fields, frozenset({b"x-sum"})) == b"X-Sum: 1\r\nx-sum: \r\n"
    assert trailer_lines(fields, frozenset()) == b""


@pytest.mark.parametrize("field", [(b"", b"x"), (b"A B", b"x"), (b"A", b"x\ry"), (b"A", b"\x00")])
def test_bad_trailers(field: tuple[bytes, bytes]) -> None:
    """Malformed trailer fields break the answer (R7)."""
    check_trailers([(b"X-Good", b"\xe4\t1")])
    with pytest.raises(UpstreamProtocol):
        check_trailers([(b"X-Good", b"1"), field])
