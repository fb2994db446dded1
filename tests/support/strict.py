"""The oracle: a parser of RFC 9112 with one reading and no leniency.

Every byte must belong to exactly one well-formed message in canonical framing. Where the RFC lets a
recipient choose (bare LF, obs-fold, whitespace around framing values, lists of equal lengths, chunk
extensions), this parser refuses: two recipients may choose differently, and that difference is what
request smuggling is made of. It is written to be read beside the RFC, not to be fast or forgiving.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Field = tuple[bytes, bytes]

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) (HTTP/1\.1)")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # field-vchar, SP, HTAB: RFC 9110 §5.5
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CHUNK_SIZE = re.compile(rb"0|[1-9a-fA-F][0-9a-fA-F]{0,15}")
_HOST = re.compile(rb"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SINGLE_DOWN = frozenset({b"content-length", b"transfer-encoding"})
_SINGLE_UP = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"content-type",
        b"expect",
        b"location",
    }
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_HOP_UPSTREAM = frozenset(
    {
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"trailer",
        b"upgrade",
    }
)
_NO_BODY = frozenset({204, 304})


class Dirty(Exception):  # noqa: N818  # a verdict, not an error
    """The bytes break a rule; the text names it."""


class Incomplete(Exception):  # noqa: N818  # a state, not an error
    """The bytes are a proper prefix of a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``framing``: none, length, chunked or close. ``complete`` is false for a cut body."""

    start: tuple[bytes, bytes, bytes]
    fields: tuple[Field, ...]
    body: bytes = b""
    framing: str = "none"
    complete: bool = True
    size: int = 0
    chunks: tuple[int, ...] = ()

    def values(self, name: str) -> list[bytes]:
        """All values of one field, in order."""
        wanted = name.lower().encode()
        return [value for key, value in self.fields if key.lower() == wanted]

    def value(self, name: str) -> bytes | None:
        """The only value of one field, or None."""
        found = self.values(name)
        if len(found) > 1:
            raise Dirty(f"{name} stands {len(found)} times")
        return found[0] if found else None

    @property
    def method(self) -> bytes:
        return self.start[0]

    @property
    def target(self) -> bytes:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])


@dataclass(frozen=True, slots=True)
class Reading:
    """What a stream of bytes says: whole messages, then why it went wrong (``dirty``), or an unfinished ``rest``.

    ``partial`` is the message whose head is whole and whose body is cut at the end of the bytes.
    """

    messages: tuple[Message, ...] = ()
    dirty: str | None = None
    rest: bytes = b""
    partial: Message | None = None
    interim: tuple[Message, ...] = field(default=())


def requests(data: bytes) -> Reading:
    """Reads what one connection sent upstream."""
    return _read(data, iter(lambda: None, 0), is_request=True, closed=False)


def responses(data: bytes, methods: Sequence[bytes], *, closed: bool) -> Reading:
    """Reads what one connection sent to a caller that used ``methods`` in this order.

    ``closed``: the connection has ended, so a body that lasts until the end may be whole. More final
    answers than methods are dirty: nobody asked for them.
    """
    return _read(data, iter(methods), is_request=False, closed=closed)


def _read(data: bytes, methods: Iterator[bytes | None], *, is_request: bool, closed: bool) -> Reading:
    messages: list[Message] = []
    interim: list[Message] = []
    at = 0
    asked: bytes | None = None
    waiting = False
    while at < len(data):
        try:
            if not is_request and not waiting:
                asked = next(methods, b"")
                if asked == b"":
                    raise Dirty(  # noqa: TRY301  # the verdict of this very loop
                        f"bytes that no request asked for: {data[at : at + 40]!r}"
                    )
                waiting = True
            message = _message(data, at, asked, is_request=is_request, closed=closed)
        except Incomplete:
            return Reading(tuple(messages), None, data[at:], None, tuple(interim))
        except Dirty as verdict:
            return Reading(tuple(messages), str(verdict), data[at:], None, tuple(interim))
        if not message.complete:
            return Reading(tuple(messages), None, data[at:], message, tuple(interim))
        at += message.size
        if not is_request and message.status < 200:
            interim.append(message)
            continue
        waiting = False
        messages.append(message)
        if _closes(message) and at < len(data):
            return Reading(
                tuple(messages),
                f"bytes after Connection: close: {data[at : at + 40]!r}",
                data[at:],
                None,
                tuple(interim),
            )
    return Reading(tuple(messages), None, b"", None, tuple(interim))


def _closes(message: Message) -> bool:
    return any(
        part.strip().lower() == b"close"
        for value in message.values("connection")
        for part in value.split(b",")
    )


def _message(data: bytes, at: int, asked: bytes | None, *, is_request: bool, closed: bool) -> Message:
    line, after = _line(data, at)
    pattern = _REQUEST_LINE if is_request else _STATUS_LINE
    hit = pattern.fullmatch(line)
    if hit is None:
        raise Dirty(f"start line {line[:60]!r}")
    start = (hit.group(1), hit.group(2), hit.group(3))
    fields, after = _fields(data, after)
    _rules(fields, is_request=is_request, status=None if is_request else int(start[1]))
    bodiless = not is_request and (int(start[1]) < 200 or int(start[1]) in _NO_BODY or asked == b"HEAD")
    if bodiless:
        return Message(start, fields, size=after - at)
    body, framing, end, complete, chunks = _body(data, after, fields, is_request=is_request, closed=closed)
    return Message(start, fields, body, framing, complete, end - at, chunks)


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    """One line up to CRLF; a bare CR or LF in it is dirty even before its end is known."""
    end = data.find(b"\r\n", at)
    line = data[at:] if end < 0 else data[at:end]
    body = line[:-1] if end < 0 and line.endswith(b"\r") else line
    if b"\n" in body or b"\r" in body:
        raise Dirty(f"bare CR or LF in {line[:60]!r}")
    if end < 0:
        raise Incomplete
    return line, end + 2


def _fields(data: bytes, at: int) -> tuple[tuple[Field, ...], int]:
    fields: list[Field] = []
    while True:
        line, at = _line(data, at)
        if not line:
            return tuple(fields), at
        if line[:1] in {b" ", b"\t"}:
            raise Dirty(f"obs-fold {line[:40]!r}")
        name, colon, value = line.partition(b":")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise Dirty(f"field name {name[:40]!r}")
        if _VALUE.fullmatch(value) is None:
            raise Dirty(f"control character in the value of {name[:40]!r}")
        fields.append((name, value.strip(b" \t")))


def _rules(fields: tuple[Field, ...], *, is_request: bool, status: int | None) -> None:
    names = [name.lower() for name, _ in fields]
    for name in _SINGLE_UP if is_request else _SINGLE_DOWN:
        if names.count(name) > 1:
            raise Dirty(f"{name.decode()} stands {names.count(name)} times")
    for name in names:
        folded = re.sub(rb"[_.]", b"-", name)
        if is_request and folded != name and (folded in _FRAMING or folded in {b"authorization", b"host"}):
            raise Dirty(f"look-alike {name!r}")
    if b"content-length" in names and b"transfer-encoding" in names:
        raise Dirty("Content-Length beside Transfer-Encoding")
    if is_request:
        if names.count(b"host") != 1:
            raise Dirty("no Host")
        host = next(value for name, value in fields if name.lower() == b"host")
        if _HOST.fullmatch(host) is None:
            raise Dirty(f"Host {host[:40]!r}")
        hop = _HOP_UPSTREAM.intersection(names)
        if hop and not (hop == {b"upgrade"} and _is_handshake(fields)):
            raise Dirty(f"hop-by-hop field {min(hop)!r} upstream")
    elif status is not None and (status < 200 or status == 204) and _FRAMING.intersection(names):
        raise Dirty(f"{status} with framing fields")


def _is_handshake(fields: tuple[Field, ...]) -> bool:
    """The one upgrade that may go upstream: a WebSocket's, and nothing else named in Connection."""
    hop = [
        (name.lower(), value.lower()) for name, value in fields if name.lower() in {b"connection", b"upgrade"}
    ]
    names = [name.lower() for name, _ in fields]
    return hop == [(b"connection", b"upgrade"), (b"upgrade", b"websocket")] and all(
        names.count(name) == 1 for name in (b"sec-websocket-key", b"sec-websocket-version")
    )


def _body(
    data: bytes, at: int, fields: tuple[Field, ...], *, is_request: bool, closed: bool
) -> tuple[bytes, str, int, bool, tuple[int, ...]]:
    for name, value in fields:
        if name.lower() == b"transfer-encoding":
            if value != b"chunked":
                raise Dirty(f"Transfer-Encoding {value[:40]!r}")
            return _chunked(data, at)
        if name.lower() == b"content-length":
            if _LENGTH.fullmatch(value) is None:
                raise Dirty(f"Content-Length {value[:40]!r}")
            length = int(value)
            body = data[at : at + length]
            return body, "length", at + len(body), len(body) == length, ()
    if is_request:
        return b"", "none", at, True, ()
    return data[at:], "close", len(data), closed, ()


def _chunked(data: bytes, at: int) -> tuple[bytes, str, int, bool, tuple[int, ...]]:
    parts: list[bytes] = []
    sizes: list[int] = []
    while True:
        try:
            line, after = _line(data, at)
        except Incomplete:
            return b"".join(parts), "chunked", len(data), False, tuple(sizes)
        if _CHUNK_SIZE.fullmatch(line) is None:
            raise Dirty(f"chunk size line {line[:40]!r}")
        size = int(line, 16)
        part = data[after : after + size]
        end = data[after + size : after + size + 2]
        if len(part) == size and not b"\r\n".startswith(end):
            raise Dirty(f"chunk data ends with {end!r}")
        if size == 0 and len(end) == 2:
            return b"".join(parts), "chunked", after + 2, True, tuple(sizes)
        parts.append(part)
        sizes.append(size)
        if len(end) < 2:
            return b"".join(parts), "chunked", len(data), False, tuple(sizes)
        at = after + size + 2
