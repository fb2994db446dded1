"""Keys in ``multipart/form-data`` fields (RFC 7578): found at the beginning of a body, and taken out. Pure.

Such bodies carry files, so only what came first of them is at hand here. A field is taken out with all of its
part, which leaves the others byte for byte; what has not come whole, or is not plain, is no such field.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_PARAMETER = rb'[ \t]*;[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\\r\n]|\\.)*+)"|([^;"\s]*+))'
_PARAMETERS = re.compile(_PARAMETER)
_TYPE = re.compile(rb"[ \t]*multipart/form-data((?:%b)+)[ \t]*" % _PARAMETER, re.IGNORECASE)
_DISPOSITION = re.compile(rb"[ \t]*form-data((?:%b)+)[ \t]*" % _PARAMETER, re.IGNORECASE)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
_ABOUT = b"content-disposition"


class KeyField(NamedTuple):
    """A field for keys: what it says, and where its part stands, delimiter line included."""

    value: bytes
    start: int
    end: int

    def __repr__(self) -> str:
        return "<KeyField>"


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a ``multipart/form-data`` body; None when it is another one, or has two readings."""
    found = _TYPE.fullmatch(content_type)
    boundary = None if found is None else _one(found[1], b"boundary")
    return boundary if boundary is not None and _BOUNDARY.fullmatch(boundary) else None


def key_fields(start: bytes, boundary: bytes, names: frozenset[bytes]) -> list[KeyField]:
    """The fields of those lower-case names in what came first of a body, in order."""
    found: list[KeyField] = []
    delimiter = re.compile(rb"(?:\A|\r\n)(--%b)(?:(--)|[ \t]*(?=\r\n))" % re.escape(boundary))
    before: re.Match[bytes] | None = None
    for line in delimiter.finditer(start):
        if before is not None:
            name, value = _field(start[before.end() : line.start()])
            if name is not None and name.lower() in names:
                found.append(KeyField(value, before.start(1), line.start(1)))
        if line[2]:
            break
        before = line
    return found


def without(start: bytes, fields: Iterable[KeyField]) -> bytes:
    """The same bytes without these parts."""
    made: list[bytes] = []
    gone = 0
    for field in fields:
        made.append(start[gone : field.start])
        gone = field.end
    return b"".join([*made, start[gone:]])


def _field(part: bytes) -> tuple[bytes | None, bytes]:
    """Name and content of a part; the name is None where it is not told, or not plainly."""
    head, _, content = part.partition(b"\r\n\r\n")
    told = [line.partition(b":") for line in head.split(b"\r\n")]
    values = [value for name, _, value in told if name.strip(b" \t").lower() == _ABOUT]
    found = _DISPOSITION.fullmatch(values[0]) if len(values) == 1 else None
    return (None if found is None else _one(found[1], b"name")), content


def _one(parameters: bytes, name: bytes) -> bytes | None:
    """The value of a parameter that stands there once."""
    values = [
        re.sub(rb"\\(.)", rb"\1", quoted) if plain is None else plain
        for low, quoted, plain in (
            (hit[1].lower(), hit[2], hit[3]) for hit in _PARAMETERS.finditer(parameters)
        )
        if low == name
    ]
    return values[0] if len(values) == 1 else None
