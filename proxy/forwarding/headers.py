"""Header fields: names, what never crosses, and the filter for answers (R28-R31, R34, R38, R40, R44).

Names are compared in lower case; wherever a look-alike would matter they are compared *folded*: lower case
with ``_``, ``.`` and space as ``-`` (CVE-2025-64484: a server behind may fold them the same way).
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

Field = tuple[bytes, bytes]

# RFC 9110 §5.6.2: the characters of a token.
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# RFC 9110 §5.5: a value has no control characters but HTAB; obs-text (0x80-0xff) goes through as it is.
CONTROLS = bytes(c for c in range(0x20) if c != 0x09) + b"\x7f"  # noqa: PLR2004  # HTAB
_FOLD = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_. ",
    b"abcdefghijklmnopqrstuvwxyz---",
)

# RFC 9110 §7.6.1 and its older names; ``TE: trailers`` is the one thing of these that is set anew.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)

# Set by us from what is known, never copied.
OWNED = frozenset({b"host", b"content-length", b"expect"})

# What proves a caller to us, or to the service; and cookies meant for the proxy's own host name (R31, R40).
CREDENTIALS = frozenset(
    {b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie", b"cookie2", b"set-cookie"},
)

# What callers or their own proxies say about the way here (R34), or that makes some servers act on another
# address than the one in the request line (the permit was judged on that one).
ABOUT_THE_WAY = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"x-original-url",
        b"x-original-host",
        b"x-original-uri",
        b"x-rewrite-url",
        b"x-host",
    }
)

# ``sec-fetch-`` tells how a page stands to *this* host; ``base44-`` holds service tokens for the connectors
# module.
REQUEST_PREFIXES = (b"x-forwarded-", b"proxy-", b"sec-fetch-", b"base44-")

NEVER_SENT = HOP_BY_HOP | OWNED | CREDENTIALS | ABOUT_THE_WAY

# Only proxy-made answers carry these (R44).
MARKERS = frozenset({b"proxy-status"})
MARKER_PREFIXES = (b"connector-proxy", b"x-connector-proxy")

# These speak about the origin's own host and port; under the proxy's name they would send callers away from
# it.
ABOUT_THE_ORIGIN = frozenset({b"alt-svc", b"strict-transport-security"})

NEVER_RETURNED = HOP_BY_HOP | MARKERS | ABOUT_THE_ORIGIN | {b"content-length"}

# Fields of answers that hold addresses (RFC 9110 §10.2.2, §8.7; RFC 8288 §3).
ADDRESSES = frozenset({b"location", b"content-location", b"link"})

# RFC 6455 §4.1: the one field of a handshake that pages can fill; some put a credential among its members.
SUBPROTOCOLS = b"sec-websocket-protocol"

# W3C Trace Context §3: passed on like any field, unless the operator wants something else.
TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})

_OPTIONS = frozenset({b"close", b"keep-alive"})

VIA: Field = (b"Via", b"1.1 connector-proxy")

_Verdict = TypeVar("_Verdict")


def fold(name: bytes) -> bytes:
    """The form in which look-alikes of a name are equal."""
    return name.translate(_FOLD)


class Memo(dict[bytes, _Verdict]):
    """A pure function of bytes, worked out once for each: ``memo[text]``.

    The bytes come from strangers: only those of up to ``longest`` bytes are kept, and all are forgotten
    when there are ``most``.
    """

    __slots__ = ("_decide", "_longest", "_most")

    def __init__(self, decide: Callable[[bytes], _Verdict], *, longest: int = 64, most: int = 1024) -> None:
        super().__init__()
        self._decide, self._longest, self._most = decide, longest, most

    def __missing__(self, text: bytes) -> _Verdict:
        verdict = self._decide(text)
        if len(text) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[text] = verdict
        return verdict


def lower_name(name: bytes) -> bytes:
    """The name in lower case.

    Raises:
        ValueError: if it is not a token (RFC 9110 §5.6.2).
    """
    if not name or name.translate(None, TOKEN):
        raise ValueError("not a header name")
    return name.lower()


LOWER = Memo(lower_name)


def has_controls(values: Iterable[bytes]) -> bool:
    """True when any of the values holds a control character."""
    joined = b"".join(values)
    return len(joined.translate(None, CONTROLS)) != len(joined)


_SINGLE = {text: frozenset({text.lower()}) for text in (b"close", b"Close", b"keep-alive", b"Keep-Alive")}


def tokens(values: Iterable[bytes]) -> frozenset[bytes]:
    """The members, in lower case, of a token list over any number of lines; empty members are skipped.

    Raises:
        ValueError: if a member is not a token.
    """
    if isinstance(values, list) and len(values) == 1 and values[0] in _SINGLE:
        return _SINGLE[values[0]]
    members = {part.strip(b" \t").lower() for part in b",".join(values).split(b",")}
    members.discard(b"")
    if any(member.translate(None, TOKEN) for member in members):
        raise ValueError("not a list of tokens")
    return frozenset(members)
