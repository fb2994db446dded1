"""The caller's key: where it may stand, and whose it is (R84-R88, R91). Its form is ``proxy.keys``."""

import binascii
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.catalog.model import KeyPlace, Service
from proxy.errors import AmbiguousKey, Fault, InvalidKey
from proxy.forwarding.gate import Head
from proxy.forwarding.headers import SUBPROTOCOLS, fold
from proxy.forwarding.permits import Decider, compile_permits, parse_permit
from proxy.keys import KEY_LENGTH, PREFIX, UNIX, KeyRecord, Kind, digest

_PREFIX = PREFIX.encode()
_SCHEMES = frozenset({b"bearer", b"token", b"bot"})
_GENERAL_HEADERS = (b"x-api-key", b"x-goog-api-key")

# One sentence for every way to fail: what exists is nobody's business but a valid key's (R84, R85).
NO_KEY = "the proxy key is missing or not valid"
_TWO = "two different credentials: send one proxy key, in one place or the same one in several"


class Presented(NamedTuple):
    """A key as a caller sent it. ``in_query``: it stands in the query too (or only there)."""

    key: bytes
    in_query: bool = False

    def __repr__(self) -> str:
        return "<Presented>"  # the key stays out of logs and tracebacks


@dataclass(frozen=True, slots=True)
class _Places:
    """A service's own key places, by kind; header names folded, parameter names in lower case."""

    service: Service
    headers: tuple[bytes, ...]
    parameters: frozenset[bytes]


_PLACES: dict[str, _Places] = {}
_NO_PARAMETERS: frozenset[bytes] = frozenset()


def _places_of(service: Service) -> _Places:
    places = _PLACES.get(service.type_id)
    if places is None or places.service is not service:
        places = _Places(
            service,
            tuple(
                dict.fromkeys(
                    fold(place.name.encode())
                    for place in service.key_places
                    if place.where == "header" and fold(place.name.encode()) != b"authorization"
                )
            ),
            frozenset(place.name.lower().encode() for place in service.key_places if place.where == "query"),
        )
        _PLACES[service.type_id] = places
    return places


def find_key(
    head: Head, service: Service | None, query: bytes | None, body_values: Iterable[bytes] = ()
) -> Presented:
    """The key of a request.

    Every place for keys must be empty or hold one and the same key: a second credential beside a good key is
    refused rather than dropped (R91).

    Args:
        head: of the request.
        service: that of the literal first segment, None when there is none of that id.
        query: raw, None without ``?``.
        body_values: what stood in the body places (see :func:`body_places`).

    Raises:
        InvalidKey: no key, or something else in its place.
        AmbiguousKey: two different ones.
    """
    if _is_page(head):
        raise InvalidKey("keys are not taken from web pages of other sites, nor are preflights answered")
    found, in_query = _shown(head, service, query)
    found.extend(value for value in body_values if value)
    if not found:
        raise InvalidKey(NO_KEY)
    key = found[0]
    if len(found) > 1 and any(other != key for other in found):
        raise AmbiguousKey(_TWO)
    if len(key) != KEY_LENGTH or not key.startswith(_PREFIX):
        raise InvalidKey(NO_KEY)
    return Presented(key, in_query)


def shows_nothing(head: Head, service: Service, query: bytes | None) -> bool:
    """True for a request with nothing in any head place for keys, that no page of another site makes."""
    return not _is_page(head) and not _shown(head, service, query)[0]


def _is_page(head: Head) -> bool:
    return (b"sec-fetch-site" in head.values or head.method == b"OPTIONS") and head.from_page


def _shown(head: Head, service: Service | None, query: bytes | None) -> tuple[list[bytes], bool]:
    """What stands in the places of the head, and whether some of it stands in the query."""
    places = _places_of(service) if service is not None else None
    found: list[bytes] = []
    value = head.values.get(b"authorization")
    if value:
        found.append(from_authorization(value))
    for name in _GENERAL_HEADERS:
        if name in head.values:
            found.extend(v for low, _, v in head.fields if low == name and v)
    if places is not None and places.headers:
        found.extend(_from_headers(head, places.headers))
    in_query = False
    if query and places is not None and places.parameters:
        values = [value for name, value in query_pairs(query) if name in places.parameters and value]
        in_query = bool(values)
        found.extend(values)
    return found, in_query


def body_places(service: Service, path: bytes) -> tuple[KeyPlace, ...]:
    """The body places declared for an upstream path: looked into only when no other place holds a key."""
    return tuple(
        place
        for place in service.key_places
        if place.where in {"form", "soap", "part"} and any(pattern.matches(path) for pattern in place.paths)
    )


def _from_headers(head: Head, names: tuple[bytes, ...]) -> list[bytes]:
    found: list[bytes] = []
    for low, _, value in head.fields:
        if value and (fold(low) if head.odd_names else low) in names:
            if low == SUBPROTOCOLS:
                found.extend(_from_subprotocols(value))
                continue
            scheme, space, rest = value.partition(b" ")
            found.append(rest.strip() if space and scheme.lower() in _SCHEMES else value)
    return found


def _from_subprotocols(value: bytes) -> list[bytes]:
    """The keys among the members, bare or behind a prefix with a dot; the others are what they seem."""
    last_parts = [member.strip(b" \t").rpartition(b".")[2] for member in value.split(b",")]
    return [part for part in last_parts if part.startswith(_PREFIX)]


def from_authorization(value: bytes) -> bytes:
    """The credential of an Authorization value: bare, after a known scheme, or one half of Basic's."""
    scheme, space, rest = value.partition(b" ")
    if not space:
        return value
    kind = scheme.lower()
    rest = rest.strip(b" ")
    if kind in _SCHEMES:
        return rest
    if kind != b"basic":
        return value
    return _from_basic(rest)


def _from_basic(encoded: bytes) -> bytes:
    try:
        user, _, password = binascii.a2b_base64(encoded, strict_mode=True).partition(b":")
    except binascii.Error:
        return encoded
    if user.startswith(_PREFIX):
        # The other half is a placeholder of the client's ("x", empty); a second key there is a second key.
        if password.startswith(_PREFIX) and password != user:
            raise AmbiguousKey(_TWO)
        return user
    return password


def query_pairs(query: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Names (lower case) and values of a query, decoded once: for comparing, never for sending."""
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if b"%" in part or b"+" in part:
            yield (
                unquote_to_bytes(name.replace(b"+", b" ")).lower(),
                unquote_to_bytes(value.replace(b"+", b" ")),
            )
        else:
            yield name.lower(), value


@dataclass(frozen=True, slots=True)
class Grant:
    """A valid key's record with its permits compiled.

    ``limited``: it may be used only so fast, or so often at once. ``restricted``: this, or words in its
    permits, so that more than service, connection, method and path decides over its requests.
    """

    record: KeyRecord
    permits: Decider
    limited: bool = field(init=False)
    restricted: bool = field(init=False)

    def __post_init__(self) -> None:
        limited = self.record.rate is not None or self.record.concurrency is not None
        object.__setattr__(self, "limited", limited)
        object.__setattr__(self, "restricted", limited or self.permits.marked)


_ABSENT = bytes(32)


class KeyRing:
    """All keys at one moment: build a new one when any changes.

    They are looked up by their digest: a declared key is known by nothing else, and the time that a lookup
    takes tells nothing about 256 random bits behind SHA-256.
    A record whose permits cannot be read permits nothing by them; ``faults`` names those.
    """

    __slots__ = ("_by_id", "_grants", "faults")

    def __init__(self, records: Mapping[str, KeyRecord]) -> None:
        faults: list[Fault] = []
        self._grants = {record.digest: _grant(record, faults) for record in records.values()}
        self._by_id = {grant.record.key_id: grant for grant in self._grants.values()}
        self.faults = tuple(faults)

    def __len__(self) -> int:
        return len(self._grants)

    def authenticate(
        self, presented: bytes, *, now: float, peer_ip: str | None, kind: Kind = "proxy"
    ) -> Grant:
        """The grant of a key.

        Args:
            presented: as found.
            now: seconds since the epoch.
            peer_ip: the caller's address, None on a unix socket.
            kind: what the listener takes.

        Raises:
            InvalidKey: always with the same sentence, after the same work (R84).
        """
        shown = digest(presented)
        grant = self._grants.get(shown)
        same = hmac.compare_digest(shown, _ABSENT if grant is None else grant.record.digest)
        if grant is None or not same:
            raise InvalidKey(NO_KEY)
        if not _is_good(grant.record, now, peer_ip, kind):
            raise InvalidKey(NO_KEY)
        return grant

    def living(self, key_id: str, *, now: float, peer_ip: str | None) -> Grant | None:
        """The grant of the proxy key with that id, for what was given out to its holder; None: there is none.

        Args:
            key_id: of its record.
            now: seconds since the epoch.
            peer_ip: the caller's address, None on a unix socket.
        """
        grant = self._by_id.get(key_id)
        return grant if grant is not None and _is_good(grant.record, now, peer_ip, "proxy") else None


def _grant(record: KeyRecord, faults: list[Fault]) -> Grant:
    permits = []
    for text in record.permits:
        try:
            permits.append(parse_permit(text))
        except ValueError as error:
            faults.append(Fault(f"key {record.name}", str(error)))
    return Grant(record, compile_permits(permits))


def _is_good(record: KeyRecord, now: float, peer_ip: str | None, kind: Kind) -> bool:
    return record.kind == kind and record.is_live(now) and (not record.networks or _within(record, peer_ip))


def _within(record: KeyRecord, peer_ip: str | None) -> bool:
    if peer_ip is None:
        return UNIX in record.networks
    try:
        address = ipaddress.ip_address(peer_ip.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in record.networks)
