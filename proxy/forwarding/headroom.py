"""How many calls a service says are left: read from its answers, where its file names the fields.

Of ``[rate_limit] headers``, a ``count`` field whose name ends in "remaining" tells it, with the ``count``
field of the same name with "limit" or "max" instead; a ``ratio`` field tells used calls and limit
(``api-usage=18/5000``). A service may have several budgets: the one that is nearest to its end counts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxy.catalog.model import RateLimit, Service

_REMAINING, _CEILINGS = "remaining", ("limit", "max")
_RATIO = re.compile(rb"(?:^|[=\s;,])([0-9]{1,15})/([0-9]{1,15})(?=$|[\s;,(])")
_DIGITS = 15
Fields = tuple[Sequence[bytes], Sequence[bytes]]


class Left(NamedTuple):
    """What a service told: calls left, and of how many where it says so."""

    remaining: int
    limit: int | None

    @property
    def share(self) -> float | None:
        """What is left of the limit, from 0 to 1."""
        if self.limit is None:
            return None
        return min(self.remaining / self.limit, 1.0) if self.limit else 0.0

    def tighter(self, other: "Left") -> "Left":
        """The one of which less is left."""
        first, second = self.share, other.share
        if first is None or second is None:
            return self if self.remaining <= other.remaining else other
        return self if first <= second else other


class Told(NamedTuple):
    """The tightest of what answers to one connection told. ``at``: seconds since the epoch, of the last."""

    service: str
    connection: str
    left: Left
    at: float


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a service tells: (remaining, its limit) and ratio fields, names in lower case."""

    counts: tuple[tuple[bytes, bytes | None], ...]
    ratios: tuple[bytes, ...]
    names: frozenset[bytes]

    def read(self, fields: Fields) -> Left | None:
        """What an answer tells; ``fields``: its names and values, as sent. None: nothing that makes sense."""
        found: dict[bytes, bytes] = {}
        for name, value in zip(*fields, strict=True):
            low = name.lower()
            if low in self.names:
                found.setdefault(low, value)
        told = [left for place in self.counts if (left := _counted(found, *place)) is not None]
        for name in self.ratios:
            told += [Left(max(int(most) - int(used), 0), int(most)) for used, most in _ratios(found, name)]
        tightest: Left | None = None
        for left in told:
            tightest = left if tightest is None else tightest.tighter(left)
        return tightest


def dialect_of(limit: RateLimit) -> Dialect | None:
    """Where a service tells how many calls are left; None: its file names no such field."""
    counts = [name.lower() for name, unit in limit.headers.items() if unit == "count"]
    pairs = tuple((name.encode(), _ceiling(name, counts)) for name in counts if name.endswith(_REMAINING))
    if any(most is not None for _, most in pairs):
        pairs = tuple(pair for pair in pairs if pair[1] is not None)  # shares compare, numbers do not
    else:
        pairs = pairs[:1]
    ratios = tuple(name.lower().encode() for name, unit in limit.headers.items() if unit == "ratio")
    if not pairs and not ratios:
        return None
    names = {name for pair in pairs for name in pair if name is not None}
    return Dialect(pairs, ratios, frozenset({*names, *ratios}))


def _ceiling(name: str, counts: Sequence[str]) -> bytes | None:
    stem = name.removesuffix(_REMAINING)
    others = [stem + word for word in _CEILINGS] + [stem.removesuffix("-")]  # the last: HubSpot's daily one
    return next((one.encode() for one in others if one in counts), None)


def _counted(found: Mapping[bytes, bytes], name: bytes, ceiling: bytes | None) -> Left | None:
    remaining = _number(found.get(name))
    if remaining is None:
        return None
    return Left(remaining, None if ceiling is None else _number(found.get(ceiling)))


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) <= _DIGITS else None


def _ratios(found: Mapping[bytes, bytes], name: bytes) -> list[tuple[bytes, bytes]]:
    return _RATIO.findall(found.get(name, b""))


class Headroom:
    """Gathers what answers told since it was last taken, by service and connection."""

    def __init__(self) -> None:
        self._dialects: Mapping[str, Dialect] = {}
        self._told: dict[tuple[str, str], Told] = {}

    def know(self, services: Mapping[str, Service]) -> None:
        """Read the answers of these services from now on."""
        found = ((name, dialect_of(one.rate_limit)) for name, one in services.items())
        self._dialects = {name: dialect for name, dialect in found if dialect is not None}

    def note(self, service: str, connection: str, fields: Fields, now: float) -> None:
        """Read one answer; ``now``: seconds since the epoch."""
        dialect = self._dialects.get(service)
        left = None if dialect is None else dialect.read(fields)
        if left is not None:
            place = (service, connection)
            before = self._told.get(place)
            self._told[place] = Told(
                service, connection, left if before is None else left.tighter(before.left), now
            )

    def take(self) -> list[Told]:
        """What was told since this was last called."""
        told, self._told = self._told, {}
        return list(told.values())
