"""First step: is this one well-formed request, with one reading (R2-R5, R8-R14, R19-R22, R29)?

Works on the raw values of the parser, because the parser is laxer than what may be sent on: it takes
``,chunked`` for chunked, other protocols' versions, and lists of lengths. Nothing is looked up and nothing is
dialled here.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from proxy.errors import (
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    MethodNotAllowed,
    TargetTooLong,
    UnsupportedTransferCoding,
)
from proxy.forwarding.handshake import check_handshake, is_websocket
from proxy.forwarding.headers import CONTROLS, LOWER, TOKEN, Field, tokens

Body = Literal["none", "length", "chunked"]
HeadField = tuple[bytes, bytes, bytes]

# RFC 9112 §3.2: a target has no fragment; the rest of visible ASCII passes as it is.
_IN_TARGETS = bytes(range(0x21, 0x7F)).replace(b"#", b"")
_METHODS = {
    name: name.encode()
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "REPORT")
}
_NEVER = frozenset({"CONNECT", "TRACE", "TRACK"})
_NOT_NAMES = frozenset({b"close", b"keep-alive"})
_PREFLIGHT = frozenset({b"origin", b"access-control-request-method"})
_NO_NAMES: frozenset[bytes] = frozenset()
_LENGTH_DIGITS = 18
_METHOD_MAX = 64

# Fields that carry one value: two of them have two readings (R10, RFC 9110 §5.3).
SINGLETONS = frozenset(
    {
        b"authorization",
        b"base44-api-url",
        b"base44-app-id",
        b"base44-service-authorization",
        b"proxy-authorization",
        b"content-length",
        b"content-type",
        b"content-disposition",
        b"content-location",
        b"content-range",
        b"date",
        b"expect",
        b"from",
        b"host",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"max-forwards",
        b"origin",
        b"range",
        b"referer",
        b"sec-fetch-site",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"user-agent",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
    }
)

# RFC 3986 §3.2.2: reg-name without percent-encoding (no DNS name needs it), IPv4, or bracketed IPv6; then a
# port.
_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_REG_NAME = re.compile(rb"%b(?:\.%b)*\.?(?::[0-9]{1,5})?" % (_LABEL, _LABEL))
_IPV6 = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?")
_HOST_MAX = 261  # 255 bytes of name and a port
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request head in bytes (``headers``: number of fields); the settings' names."""

    request_line: int = 65536
    header_bytes: int = 131072
    headers: int = 256


DEFAULT_LIMITS = Limits()


class Head(NamedTuple):
    """A request head that has exactly one reading.

    A named tuple, as the other values made for every request: a fifth of the price of a frozen dataclass.

    ``fields``: (name in lower case, name as sent, value), in order. ``values``: lower-case name to its last
    value. ``length``: of the body when ``body`` is ``length``, else 0. ``connection_names``: what
    ``Connection`` listed besides close and keep-alive. ``wants_close``: whether this connection ends after
    the answer (HTTP/1.0 rules included). ``odd_names``: some name has ``_`` or ``.`` (R32, decided once the
    service is known). ``from_page``: a browser says that another site's page is asking, or asks whether it
    may (R88). ``websocket``: it is a WebSocket handshake, and a good one.
    """

    method: bytes
    target: bytes
    http10: bool
    body: Body
    length: int
    wants_close: bool
    host: bytes
    fields: tuple[HeadField, ...]
    values: Mapping[bytes, bytes]
    connection_names: frozenset[bytes]
    odd_names: bool
    websocket: bool = False

    def __repr__(self) -> str:
        return f"<Head {self.method!r}, {len(self.fields)} fields>"  # values and targets may hold keys

    @property
    def expects_continue(self) -> bool:
        """The caller waits for a 100 before it sends the body (never so in HTTP/1.0, RFC 9110 §10.1.1)."""
        return b"expect" in self.values and self.body != "none" and not self.http10

    @property
    def accepts_trailers(self) -> bool:
        """``TE: trailers`` (RFC 9110 §10.1.4)."""
        offered = self.values.get(b"te", b"")
        return any(part.strip(b" \t").lower() == b"trailers" for part in offered.split(b","))

    @property
    def from_page(self) -> bool:
        """A browser says that another site's page is asking, or asks whether it may (R88)."""
        if b"sec-fetch-site" in self.values and self.values[b"sec-fetch-site"].lower() == b"cross-site":
            return True
        return self.method == b"OPTIONS" and self.values.keys() >= _PREFLIGHT

    @property
    def is_asterisk(self) -> bool:
        """``OPTIONS *``: about the proxy itself, answered by it (R12)."""
        return self.target == b"*"


def gate(
    method: str,
    path: str,
    version: tuple[int, int],
    raw_headers: Sequence[Field],
    limits: Limits = DEFAULT_LIMITS,
) -> Head:
    """The head of a request, checked.

    Args:
        method: as sent.
        path: the request target as sent, undecodable bytes as surrogates.
        version: (1, 1) or (1, 0), anything else is refused.
        raw_headers: names and values as sent, in order.
        limits: bounds of the head.

    Raises:
        BadRequest, MethodNotAllowed, UnsupportedTransferCoding, ExpectationFailed, HeadersTooLarge,
        TargetTooLong, UpgradeUnsupported, UnsupportedWebSocket.
    """
    if version != (1, 1) and version != (1, 0):  # noqa: PLR1714  # a set lookup would hash the tuple
        raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
    http10 = version == (1, 0)
    verb = _METHODS.get(method) or _method(method)
    target = _target(method, path, limits)
    fields, values = _fields(raw_headers, limits)
    if len(values) != len(fields):
        _refuse_doubled(fields)
    body: Body = "none"
    length = 0
    if b"content-length" in values or b"transfer-encoding" in values:
        body, length = _framing(fields, values, http10=http10)
    names, wants_close = _NO_NAMES, http10
    if b"connection" in values:
        names, wants_close = _connection(fields, values, http10=http10)
    websocket = False
    if b"upgrade" in values and b"upgrade" in names and not http10:
        websocket = is_websocket([value for lower, _, value in fields if lower == b"upgrade"])
        if websocket:
            check_handshake(verb, values, names, has_body=body != "none")
    if b"expect" in values and values[b"expect"].lower() != b"100-continue":
        raise ExpectationFailed("the only expectation that can be met is 100-continue")
    distinct = b"".join(values)
    return Head(
        verb,
        target,
        http10,
        body,
        length,
        wants_close,
        _host(values.get(b"host"), http10=http10),
        tuple(fields),
        values,
        names,
        b"_" in distinct or b"." in distinct,
        websocket,
    )


def same_fields(head: Head, method: str, path: str, limits: Limits = DEFAULT_LIMITS) -> Head:
    """The head of a request with the same method, version and fields as ``head``, and another target.

    Raises:
        BadRequest, TargetTooLong: as :func:`gate`.
    """
    return Head(head.method, _target(method, path, limits), *head[2:])


def _method(method: str) -> bytes:
    if method.upper() in _NEVER:
        raise MethodNotAllowed("CONNECT and TRACE are never forwarded")
    if not method.isascii() or not 0 < len(method) <= _METHOD_MAX or method.encode().translate(None, TOKEN):
        raise BadRequest("the method is not a token")
    return method.encode()


def _target(method: str, path: str, limits: Limits) -> bytes:
    if not path.isascii():
        raise BadRequest("the request target has bytes outside of printable ASCII")
    target = path.encode()
    if len(target) + len(method) + 10 > limits.request_line:
        raise TargetTooLong(f"the request line is longer than {limits.request_line} bytes")
    if target.translate(None, _IN_TARGETS):
        raise BadRequest("the request target has bytes that no target may have")
    if target[:1] != b"/" and not (target == b"*" and method == "OPTIONS"):
        raise BadRequest("the request target must be a path beginning with '/'")
    return target


def _fields(raw_headers: Sequence[Field], limits: Limits) -> tuple[list[HeadField], dict[bytes, bytes]]:
    if len(raw_headers) > limits.headers:
        raise HeadersTooLarge(f"more than {limits.headers} header fields")
    try:
        fields = [(LOWER[name], name, value) for name, value in raw_headers]
    except ValueError:
        raise BadRequest("a header name is not a token") from None
    section = b"".join([part for pair in raw_headers for part in pair])
    if len(section) + 4 * len(fields) > limits.header_bytes:
        raise HeadersTooLarge(f"the header section is larger than {limits.header_bytes} bytes")
    if len(section.translate(None, CONTROLS)) != len(section):
        raise BadRequest("a header value has control characters")
    return fields, {lower: value for lower, _, value in fields}


def _refuse_doubled(fields: Sequence[HeadField]) -> None:
    seen: set[bytes] = set()
    for lower, _, _ in fields:
        if lower in seen and lower in SINGLETONS:
            raise BadRequest(f"{lower.decode()} may stand only once in a request")
        seen.add(lower)


def _framing(fields: Sequence[HeadField], values: Mapping[bytes, bytes], *, http10: bool) -> tuple[Body, int]:
    """RFC 9112 §6 for a head with at least one framing field, without its leniencies (R2-R5)."""
    coding = values.get(b"transfer-encoding")
    length = values.get(b"content-length")
    if coding is None:
        length = values[b"content-length"]
        if not length.isdigit() or len(length.lstrip(b"0")) > _LENGTH_DIGITS:
            raise BadRequest("Content-Length must be one decimal number")
        return "length", int(length)
    if length is not None:
        raise BadRequest("Content-Length and Transfer-Encoding exclude each other")
    if http10:
        raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
    if sum(lower == b"transfer-encoding" for lower, _, _ in fields) > 1:
        raise BadRequest("Transfer-Encoding may stand only once in a request")
    if coding.lower() != b"chunked":
        _refuse_coding(coding)
    return "chunked", 0


def _refuse_coding(coding: bytes) -> None:
    names = [part.strip(b" \t").lower() for part in coding.split(b",")]
    if any(not name or name.translate(None, TOKEN) for name in names) or names.count(b"chunked") > 1:
        raise BadRequest("Transfer-Encoding is malformed")
    raise UnsupportedTransferCoding("the only transfer coding understood is chunked, once")


def _connection(
    fields: Sequence[HeadField], values: Mapping[bytes, bytes], *, http10: bool
) -> tuple[frozenset[bytes], bool]:
    """What Connection lists besides close and keep-alive, and whether the connection ends (RFC 9112 §9.3)."""
    if len(fields) == len(values):
        option = values[b"connection"].lower()
        if option == b"keep-alive":
            return _NO_NAMES, False
        if option == b"close":
            return _NO_NAMES, True
    try:
        names = tokens([value for lower, _, value in fields if lower == b"connection"])
    except ValueError:
        raise BadRequest("Connection is not a list of tokens") from None
    return names - _NOT_NAMES, b"close" in names or (http10 and b"keep-alive" not in names)


def _host(value: bytes | None, *, http10: bool) -> bytes:
    if value is None:
        if http10:
            return b""
        raise BadRequest("HTTP/1.1 needs a Host field")
    if len(value) > _HOST_MAX or not _is_host(value):
        raise BadRequest("Host is not 'name' or 'name:port'")
    return value


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    port = value.rpartition(b":")[2]
    if _REG_NAME.fullmatch(value) is not None:
        return b":" not in value or int(port) <= _PORT_MAX
    hit = _IPV6.fullmatch(value)
    if hit is None or (not value.endswith(b"]") and int(port) > _PORT_MAX):
        return False
    try:
        ipaddress.IPv6Address(hit.group(1).decode())
    except ValueError:
        return False
    return True
