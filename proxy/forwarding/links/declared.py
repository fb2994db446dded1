"""Which members of a service's JSON, in answers and in requests, hold addresses, by upstream path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.catalog.model import Link, Service
from proxy.forwarding.headers import Memo
from proxy.forwarding.links.members import Names


@dataclass(frozen=True, slots=True)
class Declared:
    """A service's ``[[links]]`` in JSON. ``everywhere``: they are the same for all paths."""

    everywhere: bool
    _by_path: Memo[Names | None]
    _in_batches: Memo[Names | None]

    def at(self, path: bytes) -> Names | None:
        """The names that count in answers to an upstream path; None: such answers are not looked into."""
        return self._by_path[b"/" if self.everywhere else path]

    def in_batch(self, path: bytes) -> Names | None:
        """As :meth:`at`, for a path whose JSON answers hold further answers with their header fields."""
        return self._in_batches[b"/" if self.everywhere else path]


# Fields of an answer inside an answer, as members of an object.
_FIELDS = ("Location", "location", "Content-Location", "content-location")

_DECLARED: dict[str, tuple[Service, Declared | None]] = {}
_SENT_BACK: dict[str, tuple[Service, Memo[Names | None] | None]] = {}


def sent_back_to(service: Service, path: bytes) -> Names | None:
    """The members of requests to an upstream path that may hold addresses of the proxy; None: no member."""
    known = _SENT_BACK.get(service.type_id)
    if known is None or known[0] is not service:
        links = service.links_back
        by_path = Memo(_decider(links), longest=256) if links else None
        known = _SENT_BACK[service.type_id] = (service, by_path)
    return None if known[1] is None else known[1][path]


def declared_by(service: Service) -> Declared | None:
    """What the service's file declares; None where it declares nothing."""
    known = _DECLARED.get(service.type_id)
    if known is None or known[0] is not service:
        known = _DECLARED[service.type_id] = (service, _made(service))
    return known[1]


def _made(service: Service) -> Declared | None:
    links = [link for link in service.links if link.where != "header"]
    if not links:
        return None
    return Declared(
        not any(link.paths for link in links),
        Memo(_decider(links), longest=256, most=512),
        Memo(_decider(links, _FIELDS), longest=256),
    )


def _decider(links: Sequence[Link], more: tuple[str, ...] = ()) -> Callable[[bytes], Names | None]:
    """What says which names count at a path; ``more`` do wherever any does."""
    sets: dict[tuple[Link, ...], Names] = {}

    def decide(path: bytes) -> Names | None:
        here = tuple(
            link for link in links if not link.paths or any(pattern.matches(path) for pattern in link.paths)
        )
        if not here:
            return None
        if here not in sets:
            names = (*more, *(name for link in here for name in link.names))
            sets[here] = Names(names, sockets=any(link.where == "websocket" for link in here))
        return sets[here]

    return decide
