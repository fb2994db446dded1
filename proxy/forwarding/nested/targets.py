"""Where a part of a batch leads: from an address as a client wrote it to a target of the batch's service."""

import re
from collections.abc import Container
from dataclasses import dataclass

from proxy.catalog.model import Service
from proxy.catalog.patterns import decode_once
from proxy.errors import BadRequest
from proxy.forwarding.routing import Route, Target, match, parse_target, refuse_dot_segments, rooted_target

# RFC 3986 §4.3, without a fragment.
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*://[^/?]*)(/.*|)")
_SCHEME_LIKE = re.compile(rb"[^/?]*:")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What addresses in a batch are read against.

    ``host``: short name of the one that takes the batch; None: the default host. ``origin``: scheme and
    authority of that host. ``ours``: those under which the caller reaches the proxy, lower case. ``root``:
    what relative addresses are relative to; None where there are none. ``known``: ids of services.
    """

    service: Service
    host: str | None
    origin: bytes
    ours: frozenset[bytes]
    root: bytes | None
    known: Container[str]


def route_of(url: bytes, method: bytes, at: Whereabouts) -> Route:
    """The one host and upstream path that an address in a batch stands for.

    Raises:
        CallerError: it leads elsewhere, or could be read in two ways.
    """
    route = _route_of(url, method, at)
    if at.root is not None and decode_once(route.path).startswith(at.root + b"/$"):
        raise BadRequest("its address refers to another part")  # OData 4.01 §19.5: to its answer
    return route


def _route_of(url: bytes, method: bytes, at: Whereabouts) -> Route:
    if b"#" in url or b"\\" in url:
        raise BadRequest("its address has a fragment or a backslash")
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is None:
        return _relative(url, method, at)
    origin, rest = absolute[1].lower(), absolute[2]
    if origin in at.ours:
        return _own(rest, method, at)
    if origin != at.origin:
        raise BadRequest("its address is on a host that the batch does not go to")
    return _upstream(rest, method, at)


def _relative(url: bytes, method: bytes, at: Whereabouts) -> Route:
    """A path, or in batches with a root also what comes behind that."""
    if url[:2] == b"//" or (at.root is None and url[:1] != b"/") or _SCHEME_LIKE.match(url):
        raise BadRequest("its address is neither absolute nor a path")
    path = url if url[:1] == b"/" else b"/" + url
    if at.service.is_under_root(path.partition(b"?")[0]):
        return _upstream(path, method, at)
    if _names_service(path, at) or at.root is None:
        return _own(path, method, at)
    return _upstream(at.root + path, method, at)


def _own(rest: bytes, method: bytes, at: Whereabouts) -> Route:
    """As a request of its own would be understood."""
    if _names_service(rest, at):
        return match(parse_target(rest), method, at.service)
    return match(rooted_target(rest, at.service.type_id), method, at.service)


def _upstream(rest: bytes, method: bytes, at: Whereabouts) -> Route:
    """As the service itself understands it."""
    path, mark, query = rest.partition(b"?")
    refuse_dot_segments(path)
    target = Target(at.service.type_id, None, at.host, path, query if mark else None)
    route = match(target, method, at.service)
    if route.path != path:
        raise BadRequest("its address is none of the service's")
    return route


def _names_service(rest: bytes, at: Whereabouts) -> bool:
    """True when the first segment is the service's own id.

    Raises:
        BadRequest: it is another service's.
    """
    first = rest[1:].partition(b"?")[0].partition(b"/")[0]
    name = first.partition(b"@")[0].removesuffix(b":443").decode("ascii")
    if name != at.service.type_id and name in at.known:
        raise BadRequest("its address is another service's")
    return name == at.service.type_id
