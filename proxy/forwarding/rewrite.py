"""The outgoing request head, as bytes: strip first, then add what is ours (design §7; R28-R40, R75).

:func:`prepare` fixes everything that depends only on service, host and credential; :func:`request_head` is
the part for each request. What came in is never changed.
"""

import binascii
from urllib.parse import unquote_to_bytes

from proxy.catalog.model import KeyPlace
from proxy.errors import BadRequest
from proxy.forwarding.gate import Head, HeadField
from proxy.forwarding.handshake import UPGRADING, without_key
from proxy.forwarding.headers import SUBPROTOCOLS, fold
from proxy.forwarding.injection import Injection, looks_into
from proxy.forwarding.keys import Presented, query_pairs
from proxy.forwarding.routing import Route
from proxy.keys import PREFIX

_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
_CODINGS = b"accept-encoding:"


def request_head(head: Head, route: Route, injection: Injection, presented: Presented | None) -> bytes:
    """The whole outgoing head: request line, Host, caller's fields, defaults, credential, framing, end.

    Raises:
        BadRequest: a header name with ``_`` or ``.`` where the service does not allow it (R32), or the
            caller's key in a place from which it cannot be taken out.
    """
    out = _compose(head, route, injection, without=b"")
    if presented is None:
        return out
    key = presented.key
    if key in out:
        out = _compose(_freed(head, key), route, injection, without=key)
    # The last gate: whatever the steps above overlooked does not leave.
    if _holds(out, key):
        raise BadRequest(
            "the proxy key stands in a place from which it cannot be removed",
            service=injection.service.type_id,
        )
    return out


def tail_for_all(head: Head, path: bytes, injection: Injection, outgoing: bytes) -> bytes | None:
    """What follows the target in ``outgoing``, if it would follow any other target too; else None.

    A caller on a kept connection sends the same fields with every request; this spares it the rewriting.

    Args:
        head: of the request.
        path: sent to the service.
        injection: the same as for ``outgoing``.
        outgoing: what :func:`request_head` gave.
    """
    if injection.host.none_when or injection.none_parameters or injection.replace_headers:
        return None
    if _links_by_path(injection) and looks_into(injection, path):
        return None
    return outgoing[outgoing.index(injection.start, len(head.method)) :]


def request_head_with(
    tail: bytes, head: Head, route: Route, injection: Injection, presented: Presented
) -> bytes | None:
    """The same bytes as :func:`request_head` makes, from a tail; None where only that function knows."""
    query = route.query
    if query and injection.parameters:
        return None
    if _links_by_path(injection) and looks_into(injection, route.path):
        return None
    target = route.path if query is None else b"%b?%b" % (route.path, query)
    if _holds(target, presented.key):
        return None
    return b"%b %b%b" % (head.method, target, tail)


def _links_by_path(injection: Injection) -> bool:
    return injection.links is not None and not injection.links.everywhere


def _holds(out: bytes, key: bytes) -> bool:
    """True when the key is in there: raw, percent-encoded, or in base64."""
    return key in out or (b"%" in out and key in unquote_to_bytes(out)) or _holds_base64(out, key)


def _base64_cores(text: bytes) -> tuple[bytes, ...]:
    """What ``text`` looks like inside of longer base64, for each of the three places where it can begin."""
    return tuple(
        binascii.b2a_base64(b"\0" * shift + text, newline=False)[
            -(-shift * 8 // 6) : (shift + len(text)) * 8 // 6
        ]
        for shift in range(3)
    )


_BASE64_PREFIXES = _base64_cores(PREFIX.encode())


def _holds_base64(out: bytes, key: bytes) -> bool:
    """True when the head has the key in base64: clients wrap it so for Basic, in fields of any name."""
    first, second, third = _BASE64_PREFIXES
    if first not in out and second not in out and third not in out:
        return False
    standard = out.translate(_STANDARD_BASE64)
    return any(core in standard for core in _base64_cores(key))


def _compose(head: Head, route: Route, injection: Injection, *, without: bytes) -> bytes:
    query = route.query
    anonymous = not injection.line or (injection.may_go_without and _goes_without(route, injection))
    if query and (injection.parameters or without):
        query = _query(query, route, injection, without, anonymous=anonymous)
    target = route.path if query is None else b"%b?%b" % (route.path, query)
    kept = _kept(head, injection, without)
    if looks_into(injection, route.path):  # a coded body would hide its addresses
        kept = [line for line in kept if line[: len(_CODINGS)].lower() != _CODINGS]
        kept.append(b"Accept-Encoding: identity\r\n")
    lines = [head.method, b" ", target, injection.start, *kept]
    if injection.defaults:
        sent = head.values
        lines += [
            line for name, line in injection.defaults if name not in sent or name in head.connection_names
        ]
    if not anonymous:
        lines.append(injection.line)
        if injection.replace_headers:
            lines += _replaced(head, route, injection)
    if b"te" in head.values and head.accepts_trailers and not head.websocket:
        # RFC 9110 §10.1.4: TE is a connection option and has to be named as one.
        lines.append(b"TE: trailers\r\nConnection: TE\r\n")
    if head.body == "length":
        lines.append(b"Content-Length: %d\r\n\r\n" % head.length)
    elif head.body == "chunked":
        lines.append(b"Transfer-Encoding: chunked\r\n\r\n")
    elif head.websocket:
        lines.append(UPGRADING + b"\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def _freed(head: Head, key: bytes) -> Head:
    """The head without the key among its subprotocols: the others are what a WebSocket is about."""
    if SUBPROTOCOLS not in head.values:
        return head
    freed = [
        (low, name, without_key(value, key) if low == SUBPROTOCOLS else value)
        for low, name, value in head.fields
    ]
    return head._replace(fields=tuple(one for one in freed if one[2] or one[0] != SUBPROTOCOLS))


def _kept(head: Head, injection: Injection, without: bytes) -> list[bytes]:
    """The caller's fields that pass, as lines."""
    if head.odd_names:
        return [_line(item) for item in _kept_odd(head, injection) if not (without and without in item[2])]
    passes, named = injection.passes, head.connection_names
    if named or without:
        return [
            b"%b: %b\r\n" % (name, value)
            for low, name, value in head.fields
            if passes[low] and low not in named and not (without and without in value)
        ]
    return [b"%b: %b\r\n" % (name, value) for low, name, value in head.fields if passes[low]]


def _line(item: HeadField) -> bytes:
    return b"%b: %b\r\n" % (item[1], item[2])


def _kept_odd(head: Head, injection: Injection) -> list[HeadField]:
    """As :func:`_kept`, for names with ``_`` or ``.``: look-alikes of what is dropped are dropped (R31)."""
    if not injection.service.header_underscores:
        raise BadRequest(
            "header names with '_' or '.' are not allowed for this service", service=injection.service.type_id
        )
    named = {fold(name) for name in head.connection_names}
    return [item for item in head.fields if injection.passes[folded := fold(item[0])] and folded not in named]


def _goes_without(route: Route, injection: Injection) -> bool:
    """True when the host takes this call without a token."""
    if any(pattern.matches(route.path) for pattern in injection.host.none_when):
        return True
    return bool(
        injection.none_parameters
        and route.query
        and any(name in injection.none_parameters for name, _ in query_pairs(route.query))
    )


def _applies(place: KeyPlace, path: bytes) -> bool:
    return not place.paths or any(pattern.matches(path) for pattern in place.paths)


def _replaced(head: Head, route: Route, injection: Injection) -> list[bytes]:
    """Header places that the caller used and in which the service expects its own token."""
    sent = {fold(low) for low in head.values} if head.odd_names else head.values
    return [
        b"%b: %b\r\n" % (place.name.encode(), injection.token)
        for place in injection.replace_headers
        if fold(place.name.encode()) in sent and _applies(place, route.path)
    ]


def _query(
    query: bytes, route: Route, injection: Injection, without: bytes, *, anonymous: bool
) -> bytes | None:
    """The query without its key places; every other parameter byte for byte, in order (R24)."""
    parts: list[bytes] = []
    changed = False
    replaced = {
        place.name.lower().encode(): place
        for place in injection.replace_parameters
        if _applies(place, route.path)
    }
    for part, (name, value) in zip(query.split(b"&"), query_pairs(query), strict=True):
        if name in injection.parameters or (without and without in value):
            changed = True
            if name in replaced and not anonymous:
                parts.append(b"%b=%b" % (part.partition(b"=")[0], injection.token))
        else:
            parts.append(part)
    if not changed:
        return query
    return b"&".join(parts) if parts else None
