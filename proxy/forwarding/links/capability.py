"""Addresses that carry their own authorization: what a presigned address becomes (design §7).

``/{service}/~~{expiry}.{key id}.{mac}/{host}/{path}?{query}``. The service put its authorization into the
original address, so callers ask for it without a credential; so they may here. Nothing but exactly this host,
path and query can be asked for with it, until it expires, and only while the key lives to whose holder the
proxy gave it. No token ever goes along.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from proxy.catalog.model import Host, Service
from proxy.catalog.origin import OriginTemplate
from proxy.errors import InvalidKey, MethodNotAllowed, NotPermitted
from proxy.forwarding.gate import Head
from proxy.forwarding.injection import Injection, prepare
from proxy.forwarding.keys import Grant, KeyRing, Presented, find_key
from proxy.forwarding.links.addresses import Mint, covers, presigned_on
from proxy.forwarding.permits.marked import NOT_READ_ONLY, only_reads
from proxy.forwarding.routing import Route, Target
from proxy.keys import KeyRecord
from proxy.secret import Secret

LONGEST_S = 24 * 60 * 60
MARK = "~"  # what the host's name after ``~`` begins with
# Downloads and uploads, and DELETE, which ends an upload session of Microsoft's.
METHODS = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"})
_MAC_BYTES = 16
_PARTS = re.compile(r"~([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{1,512})\.([A-Za-z0-9_-]{22})")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")
_READING = frozenset({b"GET", b"HEAD"})
_REFUSAL = "the address is not one that the proxy gave out, or it has expired"


class Permission(NamedTuple):
    """A capability address that was found good: whose key it goes by, and where it leads."""

    grant: Grant
    route: Route


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Makes and judges capability addresses.

    ``secret`` is the same wherever the same keys are known, so that each worker and instance takes what
    another one gave out. Without it (no vault) the hash of the key alone keeps an address from being made up.
    """

    secret: bytes

    def __repr__(self) -> str:
        return "<Capabilities>"

    def minting(self, service: Service, record: KeyRecord, now: float) -> Mint:
        """What makes addresses for the holder of a key.

        Args:
            service: whose presigned addresses.
            record: of the key.
            now: seconds since the epoch.
        """
        ends = now + LONGEST_S
        expiry = int(ends if record.expires_at is None else min(ends, record.expires_at))
        name = base64.urlsafe_b64encode(record.key_id.encode()).rstrip(b"=")

        def mint(host: bytes, path: bytes, query: bytes | None) -> bytes:
            mac = self._mac(record, service, expiry, host + path, query)
            return b"/%b/~~%d.%b.%b/%b" % (service.type_id.encode(), expiry, name, mac, host)

        return mint

    def _mac(
        self, record: KeyRecord, service: Service, expiry: int, place: bytes, query: bytes | None
    ) -> bytes:
        """Over everything, in one spelling; no part has a line end. The key of it is the proxy key's own."""
        rest = spelt(place if query is None else b"%b?%b" % (place, query))
        parts = (b"%d" % expiry, record.key_id.encode(), service.type_id.encode(), rest)
        key = hmac.digest(self.secret, record.digest, hashlib.sha256)
        mac = hmac.digest(key, b"\n".join(parts), hashlib.sha256)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(mac).rstrip(b"=")

    def judged(
        self,
        target: Target,
        method: bytes,
        service: Service,
        *,
        keyring: KeyRing,
        now: float,
        peer: str | None,
        websocket: bool = False,
    ) -> Permission:
        """What a capability address allows.

        Args:
            target: whose host begins with ``MARK``.
            method: of the request.
            service: the one that the target names.
            keyring: the keys in force.
            now: seconds since the epoch.
            peer: the caller's address, None on a unix socket.
            websocket: the request is a handshake; what goes through a WebSocket can write.

        Raises:
            NotPermitted: in all cases with the same sentence.
            MethodNotAllowed: not for downloads and uploads.
        """
        parts = _PARTS.fullmatch(target.host or "")
        grant = None if parts is None else keyring.living(_key_id(parts[2]), now=now, peer_ip=peer)
        if parts is None or grant is None or now >= int(parts[1]):
            raise NotPermitted(_REFUSAL, service=service.type_id)
        mac = self._mac(grant.record, service, int(parts[1]), target.rest[1:], target.query)
        host, _, path = target.rest[1:].partition(b"/")
        name, path = host.decode("ascii"), b"/" + path
        if (
            not hmac.compare_digest(mac, parts[3].encode())
            or not covers(presigned_on(service, name), path)
            or not grant.permits.reaches(service.type_id)
        ):
            raise NotPermitted(_REFUSAL, service=service.type_id)
        if method not in METHODS:
            raise MethodNotAllowed(
                "presigned addresses are for downloads and uploads", service=service.type_id
            )
        if (websocket or method not in _READING) and only_reads(grant.permits, service.type_id):
            raise NotPermitted(NOT_READ_ONLY, service=service.type_id)
        place = Host(name, OriginTemplate(f"https://{name}"), token="none")  # noqa: S106  # a choice, not a token
        return Permission(grant, Route(service, place, path, target.query, None))


def spelt(address: bytes) -> bytes:
    """An address in the one spelling of those that URL libraries make of it.

    Fetch escapes ``'`` in a query (WHATWG URL, special-query percent-encode set), and Microsoft's upload
    addresses have it; requests takes the escapes from ``A-Za-z0-9-._~`` (RFC 3986 §6.2.2.2).
    """
    if b"%" not in address and b"'" not in address:
        return address
    return _ESCAPED.sub(_unescaped, address.replace(b"'", b"%27"))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    character = bytes.fromhex(escape[1].decode())
    return character if _UNRESERVED.fullmatch(character) else escape[0]


def bare(route: Route, withheld: frozenset[bytes] = frozenset()) -> Injection:
    """What goes along to a presigned address: nothing, and its query stays as it is.

    Callers' fields of the ``withheld`` names do not go on.
    """
    if route.host is None:
        raise RuntimeError("no presigned address")
    none = Secret("")
    service = replace(route.service, headers=(), links=())
    return replace(
        prepare(service, route.host, token=none, withheld=withheld),
        parameters=frozenset(),
    )


def known_key(head: Head) -> Presented | None:
    """A proxy key that comes along with a capability address, so that it can be kept from going on."""
    try:
        return find_key(head, None, None)
    except InvalidKey:
        return None


def _key_id(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
