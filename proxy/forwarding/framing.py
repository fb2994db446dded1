"""Framing of upstream answers (RFC 9112 §6, §7): one reading or none. Pure.

llhttp tokenizes; what the tokens mean is decided here, so that no leniency of a parser can become ours.
"""

from dataclasses import dataclass
from typing import Literal

from proxy.errors import UpstreamProtocol
from proxy.forwarding.headers import CONTROLS, HOP_BY_HOP, NEVER_SENT, Field, response_fields

BodyKind = Literal["none", "length", "chunked", "eof"]

_DIGITS = b"0123456789"
_MAX_LENGTH_DIGITS = 18
_MIN_FINAL, _MAX_STATUS = 200, 599
_NO_CONTENT, _NOT_MODIFIED = 204, 304
# What decides framing, routing or access may not come late (RFC 9110 §6.5.1).
_NEVER_TRAILERS = (
    HOP_BY_HOP | NEVER_SENT | {b"content-encoding", b"content-type", b"content-range", b"location"}
)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The head of a final answer: checked, filtered for the caller, with its framing decided.

    ``length`` is the body's length in bytes, or for ``body == "none"`` the Content-Length that a HEAD or 304
    answer announces (None: it announces none). ``reusable``: another request may follow on the connection.
    ``trailers``: lower-case names of announced trailer fields that may be passed on.
    """

    status: int
    reason: bytes
    fields: list[Field]
    body: BodyKind
    length: int | None
    reusable: bool
    trailers: frozenset[bytes]


def answer_head(
    *, version: str, status: int, reason: bytes, fields: list[Field], method: bytes
) -> AnswerHead:
    """Decide the framing of a final answer to ``method``.

    Raises:
        UpstreamProtocol: an unknown version or status, or framing with two readings (R47, R49, R55).
    """
    if version not in {"1.1", "1.0"}:
        raise UpstreamProtocol("the service answered with another protocol than HTTP/1")
    if not _MIN_FINAL <= status <= _MAX_STATUS:
        raise UpstreamProtocol("the service answered with a status outside 200-599")
    answer = response_fields(fields)
    length = _length(answer.content_length)
    chunked = _chunked(answer.transfer_encoding, version)
    if chunked and length is not None:
        raise UpstreamProtocol("the service's answer has both Content-Length and Transfer-Encoding")
    if len(reason.translate(None, CONTROLS)) != len(reason):
        reason = b""
    body: BodyKind = "eof"
    if method == b"HEAD" or status in {_NO_CONTENT, _NOT_MODIFIED}:
        body, length = "none", None if status == _NO_CONTENT else length
    elif chunked:
        body = "chunked"
    elif length is not None:
        body = "length"
    keeps = not answer.closes and (version == "1.1" or answer.keeps)
    trailers = answer.trailer - _NEVER_TRAILERS
    return AnswerHead(status, reason, answer.fields, body, length, keeps and body != "eof", trailers)


def _length(values: tuple[bytes, ...]) -> int | None:
    if not values:
        return None
    if len(values) > 1:
        raise UpstreamProtocol("the service's answer has more than one Content-Length")
    value = values[0]
    if not value or value.translate(None, _DIGITS) or len(value) > _MAX_LENGTH_DIGITS:
        raise UpstreamProtocol("the service's answer has a malformed Content-Length")
    return int(value)


def _chunked(values: tuple[bytes, ...], version: str) -> bool:
    if not values:
        return False
    if len(values) > 1 or values[0].lower() != b"chunked" or version != "1.1":
        raise UpstreamProtocol("the service's answer has a Transfer-Encoding other than chunked")
    return True


def trailer_lines(fields: list[Field], wanted: frozenset[bytes]) -> bytes:
    """The trailer fields that may be passed on, as bytes: announced, asked for, and harmless (R54)."""
    if not wanted:
        return b""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, value in fields if name.lower() in wanted])
