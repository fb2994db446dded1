"""Batches of HTTP requests in ``multipart/mixed`` (RFC 2046 §5.1), as Google takes them.

Read by one grammar that leaves no second reading: no preamble, every occurrence of the boundary is a
delimiter line, one kind of line end throughout what is not a request's body, no folded field in a request,
and where a request states a length, that is the length of its body. Everything else is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxy.errors import BadRequest
from proxy.forwarding.headers import TOKEN, Field
from proxy.forwarding.keys import from_authorization
from proxy.forwarding.nested.parts import Inner, Outer, numbered

_TYPE = re.compile(
    rb"multipart/mixed[ \t]*;[ \t]*boundary="
    rb"(?:\"([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])\"|([0-9A-Za-z'+_.-]{1,70}))[ \t]*",
    re.IGNORECASE,
)
_REQUEST = re.compile(rb"([A-Z][A-Z-]{0,31}) ([!-~]+)(?: HTTP/1\.[01])?")
_HTTP = re.compile(rb"application/http(?:[ \t]*;[ \t]*msgtype=request)?", re.IGNORECASE)
_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})
_LENGTH = re.compile(rb"[0-9]{1,9}")
_CRLF, _LF = b"\r\n", b"\n"
_MOST_WITHOUT_KEY = 1000  # parts looked into for a caller that has not shown a key yet
# Fields of a part that say nothing about the request in it; any other might be taken for one of its fields.
_ABOUT_PARTS = frozenset(
    {b"content-type", b"content-id", b"content-transfer-encoding", b"content-length", b"mime-version"}
)


class _Part(NamedTuple):
    """``raw``: everything between two delimiter lines. ``about``: the part's own lines; ``spare`` ends it."""

    raw: bytes
    about: tuple[bytes, ...]
    inner: Inner
    spare: bytes


@dataclass(frozen=True, slots=True)
class Multipart:
    """A batch that was read. ``end``: the line end of everything but the requests' bodies."""

    delimiter: bytes
    end: bytes
    start: bytes
    close: bytes
    parts: tuple[_Part, ...]

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The requests, in order."""
        return tuple(part.inner for part in self.parts)

    def written(self, outers: Sequence[Outer]) -> bytes:
        """The batch with each request replaced; one that says the same as before keeps its bytes."""
        end, made = self.end, [self.start]
        for part, outer in zip(self.parts, outers, strict=True):
            made += (self.delimiter, end, self._part(part, outer), end)
        return b"".join([*made, self.delimiter, self.close])

    def _part(self, part: _Part, outer: Outer) -> bytes:
        if _says(part.inner) == _said(outer.head) and (outer.body or b"") == (part.inner.body or b""):
            return part.raw
        about = [line for line in part.about if not line.lower().startswith(b"content-length")]
        head = outer.head.replace(_CRLF, self.end) if self.end != _CRLF else outer.head
        return b"".join([*(line + self.end for line in about), self.end, head, outer.body or b"", part.spare])


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a ``multipart/mixed`` body; None when it is another one, or says more than that."""
    found = _TYPE.fullmatch(content_type)
    return None if found is None else found[1] or found[2]


def read(content_type: bytes, body: bytes, *, most: int) -> Multipart:
    """The batch in a body.

    Args:
        content_type: of the request.
        body: the whole of it.
        most: parts in one.

    Raises:
        BadRequest: it is not one, or has two readings.
    """
    boundary = boundary_of(content_type)
    if boundary is None:
        raise BadRequest("a batch is 'multipart/mixed' with a boundary and no other parameter")
    delimiter = b"--" + boundary
    start, *pieces = body.split(delimiter, most + 2)
    if start not in {b"", _CRLF, _LF} or len(pieces) < 2:  # noqa: PLR2004  # a part and the end
        raise BadRequest("the batch does not begin with its boundary, or does not end")
    if len(pieces) > most + 1:
        raise BadRequest(f"a batch of this service has at most {most} parts")
    end = _CRLF if pieces[0].startswith(_CRLF) else _LF
    *pieces, close = pieces
    if close not in {b"--", b"--" + end, b"--" + end * 2} or (start and start != end):
        raise BadRequest("the batch does not end with its closing boundary")
    parts = []
    for number, piece in enumerate(pieces, 1):
        with numbered(number):
            parts.append(_read_part(_between_lines(piece, end), end))
    return Multipart(delimiter, end, start, close, tuple(parts))


def values(content_type: bytes, body: bytes, names: frozenset[bytes]) -> list[bytes]:
    """What stands as a key in the requests' fields of those lower-case names; nothing if it is no batch."""
    try:
        batch = read(content_type, body, most=_MOST_WITHOUT_KEY)
    except BadRequest:
        return []
    fields = [field for inner in batch.inners for field in inner.fields]
    return [from_authorization(value) for name, value in fields if name.lower() in names and value]


def _between_lines(piece: bytes, end: bytes) -> bytes:
    """What stands between two delimiter lines; the line end before a delimiter belongs to it."""
    size = len(end)
    if len(piece) < 2 * size or piece[:size] != end or piece[-size:] != end:
        raise BadRequest("the boundary does not stand on a line of its own")
    if end == _LF and piece.endswith(_CRLF):
        raise BadRequest("line ends are of two kinds")
    return piece[size:-size]


def _read_part(raw: bytes, end: bytes) -> _Part:
    about, blank, rest = raw.partition(end * 2)
    if not blank or about.startswith(end):
        raise BadRequest("it has no fields of its own, or no request")
    lines = _unfolded(about, end)
    _check_about(_fields(lines), rest)
    head, blank, content = rest.partition(end * 2)
    if not blank and head.endswith(end):
        head = head[: -len(end)]
    first, *others = _lines(head, end)
    request = _REQUEST.fullmatch(first)
    if request is None:
        raise BadRequest("it does not begin with a request line")
    fields = _fields(others)
    size = _size(fields, content)
    if size is not None and content[size:].strip(b"\r\n"):
        raise BadRequest("its request's body is longer than its Content-Length")
    body = content[:size] if size is not None else content.rstrip(b"\r\n") or None
    inner = Inner(request[1], request[2], fields, body)
    return _Part(raw, tuple(lines), inner, content[len(body or b"") :])


def _unfolded(text: bytes, end: bytes) -> list[bytes]:
    """The lines of a part's own fields, folded ones (RFC 5322 §2.2.3) as one each, their bytes kept."""
    lines: list[bytes] = []
    for line in _lines(text, end):
        if line[:1] in {b" ", b"\t"} and lines:
            lines[-1] += end + line
        else:
            lines.append(line)
    return lines


def _lines(text: bytes, end: bytes) -> list[bytes]:
    lines = text.split(end)
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise BadRequest("line ends are of two kinds")
    return lines


def _fields(lines: Sequence[bytes]) -> tuple[Field, ...]:
    fields: list[Field] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            raise BadRequest("a line is not 'Name: value'")
        fields.append((name, value.strip(b" \t")))
    return tuple(fields)


def _check_about(fields: Sequence[Field], rest: bytes) -> None:
    """The part's own fields."""
    values = {name.lower(): value for name, value in fields}
    if len(values) != len(fields) or not values.keys() <= _ABOUT_PARTS:
        raise BadRequest("it has a field of its own that is not understood, or one twice")
    if _HTTP.fullmatch(values.get(b"content-type", b"")) is None:
        raise BadRequest("its Content-Type is not 'application/http'")
    if values.get(b"content-transfer-encoding", b"binary").lower() not in _ENCODINGS:
        raise BadRequest("its Content-Transfer-Encoding is not 'binary'")
    length = values.get(b"content-length")
    if length is not None and (_LENGTH.fullmatch(length) is None or int(length) != len(rest)):
        raise BadRequest("its own Content-Length is not its length")


def _size(fields: Sequence[Field], content: bytes) -> int | None:
    """How many bytes of the content are the request's body; None: it does not say."""
    stated = [value for name, value in fields if name.lower() == b"content-length"]
    if any(name.lower() == b"transfer-encoding" for name, _ in fields) or len(stated) > 1:
        raise BadRequest("its request's body is framed in a way that is not understood")
    if not stated:
        return None
    if _LENGTH.fullmatch(stated[0]) is None or int(stated[0]) > len(content):
        raise BadRequest("its request's body is shorter than its Content-Length")
    return int(stated[0])


def _says(inner: Inner) -> tuple[bytes, list[Field]]:
    """What a request says, without the order of its fields."""
    return inner.method + b" " + inner.url, sorted((name.lower(), value) for name, value in inner.fields)


def _said(head: bytes) -> tuple[bytes, list[Field]]:
    first, *lines = head[: -len(_CRLF * 2)].split(_CRLF)
    pairs = (line.partition(b": ") for line in lines)
    return first.rpartition(b" ")[0], sorted((name.lower(), value) for name, _, value in pairs)
