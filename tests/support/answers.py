"""Answers of upstreams, well-formed and mutated, and three readings of them: ours, h11's and the strict oracle's.

:func:`disagreement` is the property: what our reader takes, the others take too, and mean the same by it.
What it allows beyond that is the closed list :data:`LENIENT`, each with its reason.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import h11

from proxy.errors import UpstreamProtocol
from proxy.forwarding import framing
from proxy.forwarding.answer import AnswerReader
from proxy.forwarding.framing import trailer_lines
from proxy.forwarding.headers import HOP_BY_HOP, MARKER_PREFIXES, NEVER_RETURNED
from support import strict

METHODS = (b"GET", b"HEAD", b"POST")

# Where the oracle refuses by design what a recipient may take, and what of it never crosses us.
LENIENT = (
    r"start line b'HTTP/1\.[01] [1-5][0-9]{2}'$",  # no space after the status: RFC 9112 §4 allows to ignore it
    r"Content-Length b'0[0-9]+'",  # leading zeros; what leaves us is canonical (R4)
    r"Transfer-Encoding b'[cC][hH][uU][nN][kK][eE][dD]'",  # codings are case-insensitive, RFC 9112 §7
    r"204 with framing fields",  # RFC 9110 §8.6 forbids sending them; they do not cross us
    r"chunk size line b'[0-9a-fA-F]+[ \t]*;.*",  # extensions end here (R7)
    r"chunk size line b'0+[0-9a-fA-F]+'",  # leading zeros
    r"chunk data ends with",  # behind the last chunk: a trailer section
    r"bytes after Connection: close",  # judged by ``extra`` below
    r"bytes that no request asked for",  # likewise
)
_LENIENT = re.compile("|".join(LENIENT), re.DOTALL)
# Control characters in a reason phrase: it is dropped (R55), so the others read the answer without it.
_ODD_REASON = re.compile(
    rb"(HTTP/1\.[01] [1-5][0-9]{2} )[^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f\x7f][^\r\n]*(?=\r\n)"
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer says. ``fields``: those that may pass on; ``behind``: bytes follow that are not its own."""

    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    behind: bool


class Faithful(AnswerReader):
    """Our reader, that keeps what its callbacks raise: httptools reports any of it as a bad message."""

    __slots__ = ("raised",)

    def __init__(self) -> None:
        self.raised: list[BaseException] = []
        super().__init__()

    def on_headers_complete(self) -> None:
        try:
            super().on_headers_complete()
        except Exception as error:
            self.raised.append(error)
            raise

    def on_message_complete(self) -> None:
        try:
            super().on_message_complete()
        except Exception as error:
            self.raised.append(error)
            raise


def read(pieces: Sequence[bytes], method: bytes, *, closed: bool, expecting: bool = False) -> AnswerReader:
    """Our reading; an exception out of ``feed`` or a callback is the caller's to see.

    ``expecting``: as if the answer before had fields of the same names, so that it is tried without the parser.
    """
    reader = Faithful()
    if expecting:
        reader._plan = expected(b"".join(pieces))
    reader.begin(method)
    for piece in pieces:
        reader.feed(piece)
        if reader.fault is not None:  # whoever feeds stops here too
            break
    if closed:
        reader.feed_eof()
    if reader.raised:
        raise reader.raised[0]
    return reader


def ours(reader: AnswerReader) -> Meaning | None:
    """What our reader made of a whole answer; takes the body out of it."""
    head = reader.head
    if head is None or not reader.complete:
        return None
    fields = _parsed(head.lines)[:-1]  # Via
    return Meaning(head.status, head.reason, fields, reader.take(), reader.extra)


def _parsed(lines: bytes) -> tuple[tuple[bytes, bytes], ...]:
    pairs = [line.partition(b": ") for line in lines.split(b"\r\n")[:-1]]
    return tuple((name, value) for name, _, value in pairs)


def passing(fields: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The filter for answers, a second time and plainly (R28, R29, R44)."""
    named = {
        option.strip(b" \t").lower()
        for name, value in fields
        if name.lower() == b"connection"
        for option in value.split(b",")
    } - {b"close", b"keep-alive"}
    return tuple(
        (name, value)
        for name, value in fields
        if name.lower() not in NEVER_RETURNED | HOP_BY_HOP | named
        and not name.lower().startswith(MARKER_PREFIXES)
    )


def by_oracle(data: bytes, method: bytes, *, closed: bool) -> Meaning | str:
    """The strict reading of the first final answer, or why there is none."""
    reading = strict.responses(data, [method], closed=closed)
    if not reading.messages:
        return reading.dirty or "incomplete"
    first = reading.messages[0]
    size = sum(message.size for message in reading.interim) + first.size
    return Meaning(first.status, first.start[2], passing(first.fields), first.body, len(data) > size)


def by_h11(data: bytes, method: bytes, *, closed: bool) -> Meaning | str:
    """h11's reading of the first final answer, or why there is none."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    body: list[bytes] = []
    head: h11.Response | None = None
    try:
        client.receive_data(data)
        if closed:
            client.receive_data(b"")
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                return "incomplete"
    except h11.RemoteProtocolError as error:
        return f"h11: {error}"
    if head is None:
        return "incomplete"
    fields = [(bytes(name), bytes(value)) for name, value in head.headers.raw_items()]
    return Meaning(
        head.status_code, bytes(head.reason), passing(fields), b"".join(body), bool(client.trailing_data[0])
    )


def disagreement(data: bytes, method: bytes, *, closed: bool) -> str | None:
    """What is wrong with our reading of ``data`` as the answer to ``method``; None when nothing is."""
    reader = read([data], method, closed=closed)
    if reader.fault is not None and reader.complete:
        return "a fault in an answer that is complete"
    mine = ours(reader)
    if mine is None:
        return None
    exact = by_oracle(data, method, closed=closed)
    while isinstance(exact, str) and exact.startswith("start line") and _ODD_REASON.search(data):
        data = _ODD_REASON.sub(rb"\1", data, count=1)
        exact = by_oracle(data, method, closed=closed)
    second = by_h11(data, method, closed=closed)
    if isinstance(second, str) and any(name.lower() == b"transfer-encoding" for name, _ in reader.trailers):
        second = mine  # h11 takes a trailer field for framing; it means nothing there (RFC 9110 §6.5.1)
    return _differs(mine, exact, second) or _passed_on(reader, mine, method)


def _differs(mine: Meaning, exact: Meaning | str, second: Meaning | str) -> str | None:
    if isinstance(exact, str) and _LENIENT.match(exact) is None:
        return f"taken, and the oracle says: {exact}"
    if isinstance(exact, Meaning) and exact != mine:
        return f"read as {mine}, the oracle reads {exact}"
    if isinstance(second, str):
        return f"taken, and h11 says: {second}"
    return None if second == mine else f"read as {mine}, h11 reads {second}"


def _passed_on(reader: AnswerReader, mine: Meaning, method: bytes) -> str | None:
    """What leaves us towards the caller has to be clean, and to mean the same."""
    head = reader.head
    assert head is not None
    framing = b""
    body = mine.body
    if head.length is not None:
        framing = b"Content-Length: %d\r\n" % head.length
    elif head.body in {"chunked", "eof"}:
        framing = b"Transfer-Encoding: chunked\r\n"
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    out = b"HTTP/1.1 %d %b\r\n%b%b\r\n%b" % (head.status, head.reason, head.lines, framing, body)
    reading = strict.responses(out, [method], closed=False)
    if reading.dirty is not None or len(reading.messages) != 1 or reading.rest:
        return f"passed on as {out[:200]!r}: {reading.dirty or 'not one message'}"
    if reading.messages[0].body != mine.body:
        return "passed on with another body"
    lines = trailer_lines(reader.trailers, head.trailers)
    if strict.responses(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + lines + b"\r\n", [b"GET"], closed=False
    ).dirty:
        return f"trailers passed on as {lines!r}"
    return None


def expected(data: bytes) -> framing.Plan | None:
    """The plan for the names that seem to stand in a head; None where they are none."""
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    try:
        return framing._plan(tuple(line.partition(b":")[0] for line in lines))
    except UpstreamProtocol:
        return None


def outcome(
    pieces: Sequence[bytes], method: bytes, *, closed: bool, expecting: bool = False
) -> tuple[object, ...]:
    """Everything that may not depend on how the bytes were cut, nor on what was expected."""
    reader = read(pieces, method, closed=closed, expecting=expecting)
    broken = reader.fault is not None
    return (
        reader.complete,
        broken,
        reader.head if not broken else None,
        reader.take() if not broken else None,
        reader.trailers if not broken else None,
        reader.extra if reader.complete else None,
    )


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """``data`` cut at these places (any numbers; taken modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} - {0, len(data)})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


# --- material -----------------------------------------------------------------------------------------

SEEDS: tuple[bytes, ...] = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: now\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 404 Not Found\r\n\r\nnothing",
    b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 100\r\n\r\n',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 1\r\n\r\na",
    b"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na",
    b"HTTP/1.1 200 OK\r\nProxy-Connection: close\r\nX-\xe4: \xff\r\nContent-Length: 1\r\n\r\na",
    b"HTTP/1.1 500 \r\nX-Empty:\r\nX-Tab:\ta\t\r\nContent-Length: 1\r\n\r\n\n",
)
TOKENS: tuple[bytes, ...] = (
    b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"%", b"0", b"1", b"a", b"-", b"+", b"0x",
    b"\xff", b"\x85", b"\x0b", b"chunked", b"Chunked", b"gzip, chunked", b"close", b"keep-alive", b"identity",
    b"Content-Length: 5\r\n", b"Content-Length: 05\r\n", b"Content-Length: 5, 5\r\n", b"content-length:5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:\tchunked \r\n", b"Transfer-Encoding: x\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"X: y\r\n", b" folded\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"1;x\r\na\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n", b"RTSP/1.0", b"ICE/1.0", b"204", b"304", b"199", b"600", b"999",
)  # fmt: skip


def mutations(count: int, seed: int) -> Iterator[tuple[bytes, bytes, bool]]:
    """``count`` answers made from :data:`SEEDS`: data, method that was asked, whether the connection ended."""
    random_ = random.Random(seed)
    for _ in range(count):
        data = bytearray(random_.choice(SEEDS))
        for _ in range(random_.randrange(4)):
            _mutate(data, random_)
        yield bytes(data), random_.choice(METHODS), random_.random() < 0.5


def _mutate(data: bytearray, random_: random.Random) -> None:
    at = random_.randrange(len(data) + 1)
    end = min(len(data), at + random_.randrange(1, 12))
    kind = random_.randrange(7)
    if kind == 0:
        data[at:at] = random_.choice(TOKENS)
    elif kind == 1:
        data[at:end] = random_.choice(TOKENS)
    elif kind == 2:
        del data[at:end]
    elif kind == 3 and at < len(data):
        data[at] = random_.randrange(256)
    elif kind == 4:
        data[at:at] = data[at:end]
    elif kind == 5:
        data += random_.choice((*TOKENS, *SEEDS))
    else:  # a whole line more, where lines begin
        starts = [hit.end() for hit in re.finditer(rb"\r\n", data)] or [0]
        place = random_.choice(starts)
        data[place:place] = random_.choice(TOKENS)
