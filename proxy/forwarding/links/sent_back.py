r"""Addresses of the proxy in JSON bodies on their way to a service, which knows its own addresses only.

The opposite of ``members``, for bodies that were read whole. Only values that are such an address as a whole
become what they stand for, its slashes written as theirs; every other byte stays. What is no JSON passes.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.catalog.model import Service
from proxy.errors import BadRequest, CallerError, NotPermitted
from proxy.forwarding.arrival import by_arrival
from proxy.forwarding.links.capability import MARK
from proxy.forwarding.links.members import Names
from proxy.forwarding.routing import Route, Target, match, parse_target, resolve_host, rooted_target

# A string with its end, which is a name's where a colon follows. One that never ends is taken up to the end
# of the body, so that no byte is looked at twice.
_STRING = rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)("[ \t\r\n]*+(:)?)?'
_STRINGS = re.compile(_STRING, re.DOTALL)
_TOKENS = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_BEGINS = b"hH\\"  # what an address begins with, in its own letters or escaped
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
_ORIGIN = re.compile(rb"(https?://[^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_UNSENDABLE = re.compile(rb"[^\x21-\x7e]|[#\\]")
MOST_BYTES = (
    262_144  # of a body in which members are told apart: the worst of them takes a quarter of a second
)

Own = Callable[[bytes], bytes | None]
"""For an absolute address, the service's own in its place; None: it stays."""


def may_hold(body: bytes, origins: frozenset[bytes]) -> bool:
    """False when no value of the body can be an address of the proxy.

    Args:
        body: a JSON text, or not.
        origins: scheme and authority under which the caller reaches the proxy, lower case.
    """
    if b"\\u00" in body and _ESCAPED_ASCII.search(body) is not None:
        return True
    low = body.lower()
    authorities = {origin.partition(b"://")[2] for origin in origins}  # slashes may be escaped
    return any(authority in low for authority in authorities)


def with_own(body: bytes, own: Own, names: Names | None = None) -> bytes:
    """The JSON text with addresses replaced.

    Args:
        body: well-formed, or not: what is not stays, mostly.
        own: what becomes of an address.
        names: of the members whose values count, also as the elements of an array there; None: all values do.
    """
    made: list[bytes] = []
    gone = 0
    inside: list[tuple[bool, bool]] = []
    in_object, all_count, name = False, names is None, b""  # of what the scanner is in; the last name in it
    for token in (_STRINGS if names is None else _TOKENS).finditer(body):
        raw, end, colon = token.groups()
        if raw is None:
            if token[0] == b"{":
                inside.append((in_object, all_count))
                all_count = in_object and names is not None and names.is_parent(name)
                in_object = True
            elif token[0] == b"[":
                inside.append((in_object, all_count))
                all_count = in_object and (all_count or (names is not None and names.wanted(name)))
                in_object = False
            elif inside:
                in_object, all_count = inside.pop()
            else:
                break
        elif colon:
            name = raw
        elif end is None:
            break
        elif raw[:1] in _BEGINS and (all_count or (in_object and names is not None and names.wanted(name))):
            new = _replaced(raw, own)
            if new is not None:
                made += (body[gone : token.start(1)], new)
                gone = token.end(1)
    return b"".join([*made, body[gone:]]) if made else body


def _replaced(raw: bytes, own: Own) -> bytes | None:
    """The new value between the quotes; None: it stays."""
    text = raw
    if b"\\" in raw:
        try:
            text = json.loads(b'"%b"' % raw).encode(errors="replace")
        except ValueError:
            return None
    new = own(text)
    if new is None:
        return None
    written = json.dumps(new.decode("ascii"))[1:-1].encode()
    return written.replace(b"/", b"\\/") if b"\\/" in raw else written


@dataclass(frozen=True, slots=True)
class Whose:
    """The caller of a request, as far as addresses for the same caller depend on it.

    ``origins``: scheme and authority under which it reaches the proxy, lower case. ``services``: in force.
    ``listener``, ``root``: the services that the listener and the key are for. ``host``: value of the Host
    field. ``suffixes``: of virtual hosts. ``connection``, ``config``: the account's. ``presigned``: what a
    capability address of this key leads to; raises NotPermitted.
    """

    origins: frozenset[bytes]
    services: Mapping[str, Service]
    listener: str | None
    root: str | None
    host: bytes
    suffixes: tuple[str, ...]
    connection: str
    config: Mapping[str, str]
    presigned: Callable[[Target], Route]


def own_address(url: bytes, service: Service, whose: Whose) -> bytes | None:
    """What an address of the proxy stands for, as a request to it would be understood; None: it is none.

    It is not asked for, so no permit is: whoever may make the call may write the service's own address.

    Args:
        url: absolute, or not: what is not is none.
        service: that the request goes to.
        whose: see there.

    Raises:
        BadRequest: it leads to no service or another one, by another connection, or has two readings.
        NotPermitted: a capability address that is not one of this key's, or has expired.
    """
    hit = _ORIGIN.fullmatch(url)
    if hit is None or hit[1].lower() not in whose.origins:
        return None
    try:
        return _stands_for(hit[2] if hit[2][:1] == b"/" else b"/" + hit[2], service, whose)
    except NotPermitted as error:
        raise NotPermitted(f"the body names an address of the proxy: {error.detail}") from error
    except CallerError as error:
        raise BadRequest(f"the body names an address of the proxy: {error.detail}") from error


def _stands_for(rest: bytes, service: Service, whose: Whose) -> bytes:
    if _UNSENDABLE.search(rest) is not None:
        raise BadRequest("it has a fragment, a backslash, or letters that need encoding")
    target, known = by_arrival(
        parse_target(rest),
        rest,
        whose.services,
        listener=whose.listener,
        host=whose.host,
        suffixes=whose.suffixes,
    )
    if known is None and whose.root is not None:
        target, known = rooted_target(rest, whose.root), whose.services.get(whose.root)
    if known is None or known.type_id != service.type_id:
        raise BadRequest(f"it is not one of {service.type_id}, to which the request goes")
    if target.host is not None and target.host.startswith(MARK):
        route = whose.presigned(target)
    else:
        route = match(target, b"GET", service)
    if route.connection not in {None, whose.connection}:
        raise BadRequest("it is one of another connection than the request's")
    origin = resolve_host(route, whose.config).origin.build(whose.config, service=service.type_id)
    query = b"" if route.query is None else b"?" + route.query
    return str(origin).encode() + route.path + query
