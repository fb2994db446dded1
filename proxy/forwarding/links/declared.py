"""Which members of a service's JSON answers hold addresses, by upstream path."""

from dataclasses import dataclass

from proxy.catalog.model import Service
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


def declared_by(service: Service) -> Declared | None:
    """What the service's file declares; None where it declares nothing."""
    known = _DECLARED.get(service.type_id)
    if known is None or known[0] is not service:
        known = _DECLARED[service.type_id] = (service, _made(service))
    return known[1]


def _made(service: Service) -> Declared | None:
    links = [link for link in service.links if link.where == "json"]
    if not links:
        return None
    sets: dict[tuple[str, ...], Names] = {}

    def decide(path: bytes, more: tuple[str, ...] = ()) -> Names | None:
        names = more + tuple(
            name
            for link in links
            if not link.paths or any(pattern.matches(path) for pattern in link.paths)
            for name in link.names
        )
        if names == more:
            return None
        if names not in sets:
            sets[names] = Names(names)
        return sets[names]

    return Declared(
        not any(link.paths for link in links),
        Memo(decide, longest=256, most=512),
        Memo(lambda path: decide(path, _FIELDS), longest=256),
    )
