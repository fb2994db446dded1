"""The WebSocket handshake, both halves (RFC 6455 §4, R66): with one reading, or none. Pure."""

import binascii
from collections.abc import Iterable, Mapping, Sequence

from proxy.errors import BadRequest, UnsupportedWebSocket, UpgradeUnsupported, UpstreamProtocol
from proxy.forwarding.framing import AnswerHead, check_values
from proxy.forwarding.headers import CONTROLS, MARKER_PREFIXES, NEVER_RETURNED, VIA, lower_name, tokens

SWITCHED = 101
UPGRADING = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_VERSION = b"13"
_NONCE_BYTES = 16
_OWN_FIELDS = b"sec-websocket-"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def is_websocket(protocols: Iterable[bytes]) -> bool:
    """What the values of Upgrade ask for: a WebSocket, or something that may be ignored.

    A server may ignore an upgrade (RFC 9110 §7.8): java.net.http offers h2c on every first plain request and
    goes on in HTTP/1.1 when it is ignored. Clients of other protocols would wait for an answer in them.

    Raises:
        UpgradeUnsupported: neither.
    """
    offered = b",".join(protocols).strip(b" \t").lower()
    if offered not in {b"websocket", b"h2c"}:
        raise UpgradeUnsupported("the only upgrade that is forwarded is 'websocket', alone")
    return offered == b"websocket"


def check_handshake(
    method: bytes, values: Mapping[bytes, bytes], connection_names: frozenset[bytes], *, has_body: bool
) -> None:
    """Refuse a handshake that a server would have to refuse (RFC 6455 §4.2.1), or that has two readings.

    Args:
        method: of the request.
        values: of its fields, by lower-case name; each of ``Sec-WebSocket-Key`` and ``-Version`` stands once.
        connection_names: what Connection lists.
        has_body: whether it frames one.

    Raises:
        BadRequest: what is wrong. UnsupportedWebSocket: another version than 13.
    """
    if method != b"GET" or has_body or b"expect" in values:
        raise BadRequest("a WebSocket handshake is a GET without a body")
    if any(name.startswith(_OWN_FIELDS) for name in connection_names):
        raise BadRequest("Connection may not name the fields of the WebSocket handshake")
    if values.get(b"sec-websocket-version") != _VERSION:
        raise UnsupportedWebSocket("Sec-WebSocket-Version must be 13")
    try:
        nonce = binascii.a2b_base64(values.get(b"sec-websocket-key", b""), strict_mode=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != _NONCE_BYTES:
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")


def switched_head(*, reason: bytes, names: Sequence[bytes], values: Sequence[bytes]) -> AnswerHead:
    """Check and filter the 101 to a WebSocket handshake; whether the key was understood the caller judges.

    The bytes behind it are the body, up to the end of the connection.

    Args:
        reason: the reason phrase, dropped if it holds control characters.
        names: of the fields, as sent.
        values: of the fields, at the same places.

    Raises:
        UpstreamProtocol: a malformed field, another protocol, or a length that no 101 has.
    """
    try:
        lower = [lower_name(name) for name in names]
        options = tokens([value for low, value in zip(lower, values, strict=True) if low == b"connection"])
    except ValueError:
        raise UpstreamProtocol("the service's answer has a malformed header field") from None
    check_values(values)
    upgrade = [value for low, value in zip(lower, values, strict=True) if low == b"upgrade"]
    if len(upgrade) != 1 or upgrade[0].lower() != b"websocket" or b"upgrade" not in options:
        raise UpstreamProtocol("the service switched to another protocol than WebSocket")
    if not _FRAMING.isdisjoint(lower):
        raise UpstreamProtocol("the service announced a body behind its 101")
    if lower.count(b"sec-websocket-accept") != 1 or any(name.startswith(_OWN_FIELDS) for name in options):
        raise UpstreamProtocol("the service's 101 has no Sec-WebSocket-Accept, or more than one")
    lines = [
        b"%b: %b\r\n" % (name, value)
        for low, name, value in zip(lower, names, values, strict=True)
        if low not in NEVER_RETURNED and low not in options and not low.startswith(MARKER_PREFIXES)
    ]
    if len(reason.translate(None, CONTROLS)) != len(reason):
        reason = b""
    fields = b"".join([*lines, b"%b: %b\r\n" % VIA, UPGRADING])
    return AnswerHead(SWITCHED, reason, fields, "eof", None, reusable=False, trailers=frozenset())


def without_key(protocols: bytes, key: bytes) -> bytes:
    """A value of ``Sec-WebSocket-Protocol`` without the members that hold the key; empty when none is left.

    Browsers cannot set another field of a handshake, so keys come there, beside the protocols that are meant.
    """
    members = [member.strip(b" \t") for member in protocols.split(b",")]
    return b", ".join(member for member in members if member and key not in member)
