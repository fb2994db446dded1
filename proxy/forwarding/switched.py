"""The service's half of the WebSocket handshake (RFC 6455 §4.2.2, R66): the 101. Pure."""

from collections.abc import Sequence

from proxy.errors import UpstreamProtocol
from proxy.forwarding.framing import AnswerHead, check_values
from proxy.forwarding.handshake import OWN_FIELDS, SWITCHED, UPGRADING
from proxy.forwarding.headers import CONTROLS, MARKER_PREFIXES, NEVER_RETURNED, VIA, lower_name, tokens

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


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
    if lower.count(b"sec-websocket-accept") != 1 or any(name.startswith(OWN_FIELDS) for name in options):
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
