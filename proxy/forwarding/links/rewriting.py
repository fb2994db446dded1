"""What is done to one answer: its head's addresses, its body's, and what the head says about the body."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.catalog.model import Service
from proxy.forwarding.framing import AnswerHead, BodyKind
from proxy.forwarding.links.addresses import AddressMap, Arrival, Mint
from proxy.forwarding.links.fields import DIGESTS, mapped_lines, of_other_bytes
from proxy.forwarding.links.members import Members, Names

_PARTIAL, _NOT_MODIFIED = 206, 304
_JSON = frozenset({b"application/json", b"text/json"})
_MAPS_KEPT = 64  # each remembers addresses, and callers choose how many ways they come
_MAP_LIVES_S = 3600.0


class Changes(Protocol):
    """What a body goes through, piece by piece."""

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on now."""

    def flush(self) -> bytes:
        """The rest, at the end of the body."""


@dataclass(frozen=True, slots=True)
class Links:
    """How the answer to one request is changed.

    ``here``: the origin that was asked. ``names``: of the members whose values are mapped; None: JSON passes
    as it is. ``parts``: what bodies of a Content-Type that holds further answers go through.
    """

    addresses: AddressMap
    here: bytes
    names: Names | None
    parts: Callable[[bytes], Changes | None] | None = None

    def applied(self, answer: AnswerHead, content_type: bytes) -> tuple[AnswerHead, Changes | None]:
        """The head for the caller, and what the body goes through.

        Whether the body changes is only known at its end, so the head of every answer whose body might is
        that of a changed one. HEAD and 304 say what GET would. A body with a coding, a part of one (206) and
        what is not JSON pass.
        """
        if answer.addressed:
            answer = answer._replace(lines=mapped_lines(answer.lines, self.addresses, self.here))
        changes = self._changes(answer, content_type)
        if changes is None:
            return answer, None
        lines, trailers = of_other_bytes(answer.lines), answer.trailers - DIGESTS
        if answer.body == "none":
            return answer._replace(lines=lines, trailers=trailers, length=None), None
        body: BodyKind = "chunked" if answer.body == "chunked" else "eof"
        changed = answer._replace(lines=lines, trailers=trailers, length=None, body=body)
        return changed, changes

    def _changes(self, answer: AnswerHead, content_type: bytes) -> Changes | None:
        if answer.coded or answer.status == _PARTIAL:
            return None
        found = None if self.parts is None else self.parts(content_type)
        if found is None and self.names is not None and _is_json(answer, content_type):
            return Members(self.names, self.addresses)
        return found


def _is_json(answer: AnswerHead, content_type: bytes) -> bool:
    if answer.status == _NOT_MODIFIED:
        return True  # the answer that it speaks of was JSON, as far as anybody can tell
    return is_json(content_type)


def is_json(content_type: bytes) -> bool:
    """True when a body with that Content-Type is JSON."""
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type in _JSON or media_type.endswith(b"+json")


class AddressMaps:
    """The maps in use: callers ask for the same things in the same way again and again."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[object, float, AddressMap]] = {}

    def of(
        self,
        service: Service,
        arrival: Arrival,
        *,
        config: Mapping[str, str],
        who: tuple[str, ...],
        holder: tuple[object, ...],
        now: float,
        minting: Callable[[float], Mint],
    ) -> AddressMap:
        """The map for one service, connection, way of arriving and key.

        Args:
            service: whose answers.
            arrival: how the request came.
            config: the connection's ``connection_config``.
            who: names of the connection and the key.
            holder: the connection's credential and the key's grant; with other objects it is another map.
            now: seconds since the epoch.
            minting: what makes capability addresses from then on.
        """
        place = (service.type_id, *who, arrival.base, arrival.prefix, arrival.spelling)
        valid = (service, arrival.known, *holder)
        known = self._kept.get(place)
        if known is not None and now < known[1] and _same(known[0], valid):
            return known[2]
        made = AddressMap(service, config, arrival, minting(now))
        if len(self._kept) >= _MAPS_KEPT:
            self._kept.clear()
        self._kept[place] = (valid, now + _MAP_LIVES_S, made)
        return made


def _same(one: object, other: tuple[object, ...]) -> bool:
    return isinstance(one, tuple) and len(one) == len(other) and all(map(_is, one, other))


def _is(one: object, other: object) -> bool:
    return one is other
