"""The reading side of one upstream connection, fed with bytes (no socket)."""

import pytest
from support.answers import Faithful

from proxy.errors import UpstreamProtocol, UpstreamTimeout
from proxy.forwarding.answer import MAX_FIELDS, MAX_HEAD_BYTES, MAX_INTERIM, AnswerReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = OK + b"Content-Length: 4\r\n\r\nnext"


def fed(*pieces: bytes, method: bytes = b"GET") -> AnswerReader:
    reader = Faithful()
    reader.begin(method)
    for piece in pieces:
        reader.feed(piece)
    assert reader.raised == []
    return reader


WHOLE = [
    ("length", b"GET", OK + b"Content-Length: 5\r\n\r\nhello", "length", b"hello"),
    ("length of nothing", b"GET", OK + b"Content-Length: 0\r\n\r\n", "length", b""),
    ("chunked", b"GET", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", "chunked", b"hello"),
    ("chunked of nothing", b"GET", CHUNKED + b"0\r\n\r\n", "chunked", b""),
    ("chunk extension", b"GET", CHUNKED + b'1;a="b"\r\nx\r\n0;z\r\n\r\n', "chunked", b"x"),
    ("head with a length", b"HEAD", OK + b"Content-Length: 5\r\n\r\n", "none", b""),
    ("head with a coding", b"HEAD", CHUNKED, "none", b""),
    ("head of nothing", b"HEAD", OK + b"\r\n", "none", b""),
    ("204", b"GET", b"HTTP/1.1 204 \r\n\r\n", "none", b""),
    ("204 with a length", b"GET", b"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n", "none", b""),
    ("304 with a length", b"GET", b"HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", "none", b""),
    ("after 100", b"POST", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", "length", b"a"),
    ("no reason", b"GET", b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", "length", b"a"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "data", "kind", "body"), [c[1:] for c in WHOLE], ids=[c[0] for c in WHOLE]
)
def test_whole_answers(method: bytes, data: bytes, kind: str, body: bytes) -> None:
    """Each framing of RFC 9112 §6.3 ends where it should, leaves nothing over, and the next answer reads well (R50)."""
    reader = fed(data, method=method)
    assert reader.complete
    assert reader.fault is None
    assert not reader.extra
    assert reader.head is not None
    assert reader.head.body == kind
    assert reader.head.reusable
    assert reader.take() == body
    reader.finish()
    reader.begin(b"GET")
    reader.feed(NEXT)
    assert (reader.complete, reader.extra, reader.take()) == (True, False, b"next")


BEHIND = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize(("method", "data"), [c[1:3] for c in WHOLE], ids=[c[0] for c in WHOLE])
@pytest.mark.parametrize("how", ["together", "apart", "bytes"])
def test_bytes_behind_an_answer(method: bytes, data: bytes, behind: bytes, how: str) -> None:
    """Whatever follows an answer is noticed, be it one line feed, however it is cut into pieces (R48)."""
    sent = data + behind
    pieces = {
        "together": [sent],
        "apart": [data, behind],
        "bytes": [sent[i : i + 1] for i in range(len(sent))],
    }
    reader = fed(*pieces[how], method=method)
    assert reader.complete
    assert reader.extra
    assert reader.fault is None


def test_a_body_that_ends_like_what_is_behind_it() -> None:
    """A line end behind a body of line ends is not taken for its end (R48)."""
    reader = fed(OK + b"Content-Length: 2\r\n\r\n\r\n\r\n")
    assert reader.complete
    assert reader.extra


@pytest.mark.parametrize(
    "head",
    [
        b"Proxy-Connection: close\r\nContent-Length: 1\r\n\r\na",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nConnection: close\r\n\r\n",
        b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na",
    ],
    ids=["proxy-connection", "connection among the trailers", "upgrade offered"],
)
def test_what_does_not_end_a_connection(head: bytes) -> None:
    """Fields that do not end a connection (RFC 9110 §6.5.1, §7.8) do not spoil the answer after it (R67)."""
    reader = fed(OK + head)
    assert reader.complete
    assert reader.head is not None
    assert reader.head.reusable
    reader.finish()
    reader.begin(b"GET")
    reader.feed(NEXT)
    assert (reader.complete, reader.fault, reader.take()) == (True, None, b"next")


BAD = [
    ("HTTP/0.9", b"hello, world\r\n"),
    ("RTSP", b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("ICE", b"ICE/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("RTSP behind an interim answer", b"HTTP/1.1 100 C\r\n\r\nRTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("HTTP/2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("blank line first", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("obs-fold", OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    ("space before the colon", OK + b"Content-Length : 0\r\n\r\n"),
    ("NUL in a value", OK + b"X: \x00\r\nContent-Length: 0\r\n\r\n"),
    ("VT in a value", OK + b"X: a\x0bb\r\nContent-Length: 0\r\n\r\n"),
    ("two lengths", OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    ("a list of lengths", OK + b"Content-Length: 1, 1\r\n\r\na"),
    ("a signed length", OK + b"Content-Length: +1\r\n\r\na"),
    ("length and coding", OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("gzip, chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("identity", OK + b"Transfer-Encoding: identity\r\n\r\na"),
    ("chunked in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("Connection is no list", OK + b"Connection: a b\r\nContent-Length: 0\r\n\r\n"),
    ("101", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ("101 alone", b"HTTP/1.1 101 Switching\r\n\r\n" + NEXT),
    ("an interim answer with a length", b"HTTP/1.1 100 C\r\nContent-Length: 1\r\n\r\na" + NEXT),
    ("an interim answer with a coding", b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("interim answers without end", b"HTTP/1.1 103 E\r\n\r\n" * (MAX_INTERIM + 1) + NEXT),
    ("status 600", b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n"),
    ("status 99", b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n"),
    ("too many fields", OK + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n"),
    ("a head without end", OK + b"a: " + b"b" * MAX_HEAD_BYTES),
    ("a reason without end", b"HTTP/1.1 200 " + b"b" * MAX_HEAD_BYTES),
]  # fmt: skip


@pytest.mark.parametrize("data", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_heads(data: bytes) -> None:
    """A head that is malformed, foreign, unasked for or without bounds is a fault, never an answer (R46, R47, R49, R52, R55)."""
    for reader in (fed(data), fed(*[data[i : i + 997] for i in range(0, len(data), 997)])):
        assert isinstance(reader.fault, UpstreamProtocol)
        assert reader.head is None
        assert not reader.complete


BAD_CHUNKS = [b"+1\r\na", b"0x1\r\na", b"1 \r\na", b"\r\n", b"1\na", b"1\r\na0\r\n\r\n", b"1\r\naa", b"11111111111111111\r\n", b"1;\x00\r\na\r\n", b"1;\n\r\na\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\nX: \x01\r\n\r\n", b"0\r\n X: y\r\n\r\n"]  # fmt: skip


@pytest.mark.parametrize("data", BAD_CHUNKS)
def test_bad_chunks(data: bytes) -> None:
    """Malformed chunk sizes, ends, extensions and trailers break the answer; it is never complete (R6, R7, R47)."""
    reader = fed(CHUNKED + b"3\r\nabc\r\n" + data)
    assert isinstance(reader.fault, UpstreamProtocol)
    assert not reader.complete
    assert reader.head is not None
    assert reader.take()[:3] == b"abc"  # what was right before it has been read


@pytest.mark.parametrize(
    "line", [b"A: b\r\n" * 40, b"A: " + b"b" * 400, b";" + b"x" * 400], ids=["fields", "value", "extension"]
)
def test_trailers_are_bounded(line: bytes) -> None:
    """A service that sends trailers or a chunk extension without end is cut off, not collected (R22)."""
    reader = fed(CHUNKED + (b"1" if line.startswith(b";") else b"1\r\na\r\n0\r\n"))
    fed_bytes = 0
    while reader.fault is None:
        reader.feed(line)
        fed_bytes += len(line)
        assert fed_bytes < MAX_HEAD_BYTES + 2 * len(line)
    assert not reader.complete
    assert sum(len(name) + len(value) for name, value in reader.trailers) <= MAX_HEAD_BYTES


def test_many_small_chunks_are_no_trailers() -> None:
    """Framing that carries a body may be of any size: only what carries nothing is counted (R22)."""
    reader = fed(CHUNKED)
    for _ in range(MAX_HEAD_BYTES // 100):
        reader.feed(b"1;" + b"x" * 200 + b"\r\na\r\n")
        reader.take()
    reader.feed(b"0\r\n\r\n")
    assert reader.complete


def test_too_many_trailers() -> None:
    """More trailer fields than a head may have break the answer (R22)."""
    reader = fed(CHUNKED + b"0\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n")
    assert isinstance(reader.fault, UpstreamProtocol)
    assert not reader.complete


def test_trailers_are_kept_in_order() -> None:
    """Trailer fields arrive as sent, without white space around their values (R54)."""
    reader = fed(CHUNKED + b"0\r\nX-B: 2 \r\nX-A:\t1\r\nX-B:\r\n\r\n")
    assert reader.complete
    assert reader.trailers == [(b"X-B", b"2"), (b"X-A", b"1"), (b"X-B", b"")]


def test_only_an_orderly_end_ends_a_body() -> None:
    """A body without a length is whole when the connection ends in order; other framings stay cut (R45)."""
    reader = fed(OK + b"\r\nabc")
    assert not reader.complete
    reader.feed_eof()
    assert reader.complete
    assert reader.take() == b"abc"
    for data in (
        OK,
        OK + b"Content-Length: 5\r\n\r\nhell",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
    ):
        cut = fed(data)
        cut.feed_eof()
        assert not cut.complete


def test_an_end_does_not_heal_a_fault() -> None:
    """Once an answer is broken it stays broken, whatever comes (R45)."""
    reader = fed(OK + b"\r\nabc")
    reader.fault = UpstreamTimeout("late")
    reader.feed_eof()
    assert not reader.complete


def test_take_gives_each_byte_once() -> None:
    """The body comes out piece by piece, none twice, and ``size`` is what waits."""
    reader = fed(OK + b"Content-Length: 6\r\n\r\nab")
    assert reader.size == 2
    reader.feed(b"cd")
    assert reader.take() == b"abcd"
    assert (reader.size, reader.take()) == (0, b"")
    reader.feed(b"ef")
    assert reader.take() == b"ef"
    assert reader.complete


def test_a_large_head_passes() -> None:
    """64 KiB and 200 fields of head are taken (R52)."""
    reader = fed(
        OK + b"".join(b"X-%d: %b\r\n" % (n, b"v" * 320) for n in range(200)) + b"Content-Length: 0\r\n\r\n"
    )
    assert reader.complete
    assert reader.head is not None
    assert reader.head.lines.count(b"\r\n") == 201
