"""The caller's half of the WebSocket handshake (RFC 6455 §4.2.1, R66): with one reading, or none. Pure."""

import binascii
from collections.abc import Iterable, Mapping

from proxy.errors import BadRequest, UnsupportedWebSocket, UpgradeUnsupported

SWITCHED = 101
UPGRADING = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_VERSION = b"13"
_NONCE_BYTES = 16
OWN_FIELDS = b"sec-websocket-"


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
    if any(name.startswith(OWN_FIELDS) for name in connection_names):
        raise BadRequest("Connection may not name the fields of the WebSocket handshake")
    if values.get(b"sec-websocket-version") != _VERSION:
        raise UnsupportedWebSocket("Sec-WebSocket-Version must be 13")
    try:
        nonce = binascii.a2b_base64(values.get(b"sec-websocket-key", b""), strict_mode=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != _NONCE_BYTES:
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")


def without_key(protocols: bytes, key: bytes) -> bytes:
    """A value of ``Sec-WebSocket-Protocol`` without the members that hold the key; empty when none is left.

    Browsers cannot set another field of a handshake, so keys come there, beside the protocols that are meant.
    """
    members = [member.strip(b" \t") for member in protocols.split(b",")]
    return b", ".join(member for member in members if member and key not in member)
