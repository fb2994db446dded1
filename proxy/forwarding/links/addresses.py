"""What an absolute URL of a service's answer is called under the proxy's name.

``https://api.github.com/user`` becomes ``{base}/github/user``, ``https://uploads.github.com/...`` becomes
``{base}/github/~uploads/...``: routing the new address leads to the very same host, path and query. URLs of
presigned hosts become capability addresses. Everything else stays as it is: other hosts and look-alikes of
these, other schemes and ports, user information, and whatever would not arrive as it is written here.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

from proxy.catalog.model import Host, Presigned, Service
from proxy.errors import CallerError, RequestError
from proxy.forwarding.headers import Memo
from proxy.forwarding.routing import is_default, is_named, refuse_dot_segments

# Scheme, authority, path. RFC 3986 §3.2 ends the authority at the first of "/", "?", "#"; "{" begins a
# template's expression (RFC 6570). Whoever writes anything else behind the host is not understood here.
_URL = re.compile(rb"(https?://[a-z0-9.:\[\]-]+)(?:(?=[?#{])|\Z|(/[^?#{]*))")
_SENDABLE = bytes(set(range(0x21, 0x7F)) - {0x5C})
_PRESIGNED_SCHEME = b"https://"
_HOST_NAME = re.compile(rb"[a-z0-9-]+(?:\.[a-z0-9-]+)+")

Mint = Callable[[bytes, bytes, bytes | None], bytes]


class Found(NamedTuple):
    """``lead`` goes in place of the first ``length`` bytes of the URL."""

    length: int
    lead: bytes


class Arrival(NamedTuple):
    """How the request came, as far as addresses for the same caller depend on it.

    ``base``: scheme and authority, or empty: addresses then begin with the path. ``prefix``: what the caller
    put in front of paths, ``/github`` or ``/github@work``; empty where listener, host name or key named the
    service. ``spelling``: what the service's file strips behind it (``/api/v3``). ``known``: service ids, any
    of which as the first segment would win over an empty prefix.
    """

    base: bytes
    prefix: bytes
    spelling: bytes = b""
    known: Container[str] = ()


class AddressMap:
    """For one service, connection and way of arriving.

    Args:
        service: whose answers.
        config: the connection's ``connection_config``; hosts that need what it lacks are not known.
        arrival: see there.
        mint: makes the path of a capability address from host, path and query; None: there are none.
    """

    __slots__ = ("_arrival", "_default", "_hosts", "_leads", "_mint", "_presigned", "_service")

    def __init__(
        self, service: Service, config: Mapping[str, str], arrival: Arrival, mint: Mint | None = None
    ) -> None:
        self._service = service
        self._arrival = arrival
        self._mint = mint
        self._presigned: Memo[tuple[Presigned, ...]] = Memo(self._presigned_at, longest=128)
        self._default = _default_host(service, config)
        self._hosts: dict[bytes, list[Host]] = {}
        for host in sorted(service.hosts, key=lambda host: host is not self._default):
            origin = _origin(service, host, config)
            if origin is not None and host.enabled:
                self._hosts.setdefault(origin, []).append(host)
        self._leads: Memo[bytes | None] = Memo(self._lead_of, longest=256, most=1024)

    def find(self, url: bytes) -> Found | None:
        """What the beginning of ``url`` becomes; None when the URL stays as it is."""
        hit = _URL.match(url)
        if hit is None or url.translate(None, _SENDABLE):
            return None
        origin, path = hit.groups(b"")
        presigned = self._presigned[origin]
        if presigned and covers(presigned, path):
            found = self._capability(origin, path, url[hit.end() :])
            if found is not None:
                return found
        if origin not in self._hosts:
            return None
        lead = self._leads[origin + path]
        return None if lead is None else Found(len(origin), lead)

    def find_any(self, url: bytes) -> Found | None:
        """As :meth:`find`, of addresses of WebSockets (RFC 6455 §3) too: these stay such addresses."""
        if not url.startswith((b"ws://", b"wss://")):
            return self.find(url)
        found = self.find(b"http" + url[2:])
        if found is None or not found.lead.startswith(b"http"):
            return None  # where scheme and host are not known, no address of a WebSocket can be told
        return Found(found.length - 2, b"ws" + found.lead[4:])

    def replaced(self, url: bytes) -> bytes | None:
        """The whole new URL; None when it stays as it is."""
        found = self.find(url)
        return None if found is None else found.lead + url[found.length :]

    def _lead_of(self, address: bytes) -> bytes | None:
        hit = _URL.match(address)
        if hit is None:
            return None
        origin, path = hit.groups(b"")
        arrival, service = self._arrival, self._service
        for host in self._hosts.get(origin, ()):
            if host is self._default:
                spellings = (arrival.spelling, b"") if arrival.spelling else (b"",)
                for spelling in spellings:
                    plain = self._plain(host, spelling, path)
                    if plain is not None:
                        return arrival.base + plain
            if is_named(service, host, path):
                name = b"/~" + host.name.encode()
                return arrival.base + arrival.prefix + name
        return None

    def _plain(self, host: Host, spelling: bytes, path: bytes) -> bytes | None:
        """What goes in front of the path if the service's own rules lead every method to ``host`` there."""
        rest = spelling + path
        if not is_default(self._service, host, rest, path or b"/"):
            return None
        prefix = self._arrival.prefix
        if not prefix:
            first = rest[1:].partition(b"/")[0].partition(b"@")[0].removesuffix(b":443")
            if not rest or rest.startswith(b"/-/") or first.decode("ascii") in self._arrival.known:
                prefix = b"/" + self._service.type_id.encode()
        return prefix + spelling

    def _presigned_at(self, origin: bytes) -> tuple[Presigned, ...]:
        authority = origin.removeprefix(_PRESIGNED_SCHEME)
        if self._mint is None or _HOST_NAME.fullmatch(authority) is None:
            return ()
        return presigned_on(self._service, authority.decode())

    def _capability(self, origin: bytes, path: bytes, rest: bytes) -> Found | None:
        if self._mint is None or not path or b"{" in rest or b"#" in rest or not _is_taken(path):
            return None  # what a template will make of it is not known
        lead = self._mint(origin.removeprefix(_PRESIGNED_SCHEME), path, rest[1:] if rest else None)
        return Found(len(origin), self._arrival.base + lead)


def presigned_on(service: Service, host: str) -> tuple[Presigned, ...]:
    """What the service's file says about presigned addresses on this host."""
    return tuple(
        one
        for one in service.presigned
        if (host.endswith(one.host[1:]) if one.host.startswith("*.") else host == one.host)
    )


def covers(presigned: Iterable[Presigned], path: bytes) -> bool:
    """True when one of them is about this path."""
    return any(not one.paths or any(pattern.matches(path) for pattern in one.paths) for one in presigned)


def _is_taken(path: bytes) -> bool:
    try:
        refuse_dot_segments(path)
    except CallerError:
        return False
    return True


def _origin(service: Service, host: Host, config: Mapping[str, str]) -> bytes | None:
    """What URLs on the host begin with; None when the connection does not tell."""
    try:
        return str(host.origin.build(config, service=service.type_id)).encode()
    except RequestError:
        return None


def _default_host(service: Service, config: Mapping[str, str]) -> Host | None:
    try:
        return service.default_host(config)
    except RequestError:
        return None
