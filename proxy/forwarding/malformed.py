"""What a caller sent that is no request, or only looks like one: what aiohttp's parser does not tell."""

import asyncio
import re
from collections.abc import Sequence

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import BadRequest, HeadersTooLarge, RequestError, TargetTooLong
from proxy.forwarding.limits import ServerLimits

_FOREIGN = re.compile(rb"^([^\r\n ]+) ([^\r\n ]+) (?:RTSP|ICE)/[0-9.]+\r?$", re.MULTILINE)
_END = b"\r\n\r\n"


def refusal_of(error: Exception, raw: bytes, limits: ServerLimits) -> RequestError:
    """What a caller is told about a parser's error.

    Args:
        error: of the parser; its text may quote the request and is not used.
        raw: the bytes of the message so far.
        limits: for telling a long line from a long header section.
    """
    if isinstance(error, LineTooLong):
        if b"\r\n" in raw.lstrip(b"\r\n")[: limits.request_line + 16]:
            return HeadersTooLarge("the header section of the request is too large")
        return TargetTooLong("the request line is too long")
    if "Too many headers" in str(error):
        return HeadersTooLarge("the request has too many header fields")
    return BadRequest("the request is not well-formed HTTP/1.1")


def is_foreign(message: RawRequestMessage, raw: bytes) -> bool:
    """True for RTSP or ICE, which llhttp reports as HTTP (R11), and for what follows a bare CR (R8).

    Args:
        message: as parsed.
        raw: the bytes in which it stands.
    """
    if raw[:1] == b"\r" and raw[:2] != b"\r\n":
        return True
    method, path = message.method.encode(), message.path.encode("utf-8", "surrogateescape")
    return any(hit.group(1) == method and hit.group(2) == path for hit in _FOREIGN.finditer(raw))


def behind(raw: bytes, messages: Sequence[tuple[RawRequestMessage, StreamReader]]) -> bytes:
    """The bytes that belong to none of the messages: of the next one, or held back by the parser.

    Args:
        raw: the bytes in which they stand, from the beginning of the first one's head.
        messages: as parsed just now; none has a chunked body.
    """
    at = 0
    for _, body in messages:
        while raw[at : at + 1] in {b"\r", b"\n"}:  # the parser skips empty lines (RFC 9112 §2.2)
            at += 1
        end = raw.find(_END, at)
        if end < 0:
            return b""
        at = end + len(_END) + body.total_bytes
    return raw[at:]


def last_before_close(
    protocol: BaseProtocol, loop: asyncio.AbstractEventLoop, raw: bytes, limits: ServerLimits
) -> tuple[RawRequestMessage, StreamReader] | None:
    """A bodyless request that ends the connection counts, whatever came behind it (R18).

    The connection's own parser loses it when something malformed comes in the same piece.
    """
    end = raw.find(_END) + len(_END)
    if not len(_END) <= end < len(raw):
        return None
    parser = HttpRequestParser(
        protocol,
        loop,
        limits.request_line,
        max_line_size=limits.request_line,
        max_field_size=limits.header_bytes,
        max_headers=limits.headers,
        auto_decompress=False,
    )
    try:
        messages, _, _ = parser.feed_data(raw[:end])
    except Exception:  # noqa: BLE001  # it was that message that is malformed
        return None
    if len(messages) != 1 or messages[0][1] is not EMPTY_PAYLOAD or not messages[0][0].should_close:
        return None
    return None if is_foreign(messages[0][0], raw) else messages[0]
