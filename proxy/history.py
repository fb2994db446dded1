"""The last hour in minutes: how many calls there were, how they went, how long they took. In memory only."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.exposition import ADDED_BUCKETS, DURATION_BUCKETS, Tally

MINUTES = 60
LOOK_S = 5.0
_MINUTE_S = 60.0
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


@dataclass(slots=True)
class Counts:
    """Calls, and how many of them were answered with 4xx and with 5xx."""

    calls: int = 0
    refused: int = 0
    failed: int = 0

    def add(self, other: "Counts") -> None:
        """Count those too."""
        self.calls += other.calls
        self.refused += other.refused
        self.failed += other.failed


@dataclass(slots=True)
class Minute:
    """One minute. ``number``: minutes since the epoch; histograms have one place more than their bounds."""

    number: int
    by_service: dict[str, Counts] = field(default_factory=dict)
    added: list[int] = field(default_factory=lambda: [0] * (len(ADDED_BUCKETS) + 1))
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BUCKETS) + 1))

    @property
    def counts(self) -> Counts:
        """Of all services."""
        sum_ = Counts()
        for one in self.by_service.values():
            sum_.add(one)
        return sum_


class History:
    """Looks at what was counted so far, again and again, and keeps what came in between.

    Args:
        tally: what all processes have counted; only grows.
        clock: seconds since the epoch.
    """

    def __init__(self, tally: Callable[[], Tally], clock: Callable[[], float]) -> None:
        self._tally = tally
        self._clock = clock
        self._before: Mapping[str, Any] | None = None
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)

    def look(self) -> None:
        """Take in what was counted since the last look."""
        services: Mapping[str, Any] = self._tally()["counters"]["services"]
        before, self._before = self._before, services
        minute = self._current()
        if before is None:
            return
        for name, now in services.items():
            then = before.get(name, {})
            came = _counts(now["requests"], then.get("requests", {}))
            if came.calls:
                minute.by_service.setdefault(name, Counts()).add(came)
            _grow(minute.added, now["added_latency"], then.get("added_latency"))
            _grow(minute.first_byte, now["first_byte"], then.get("first_byte"))

    def _current(self) -> Minute:
        number = int(self._clock() // _MINUTE_S)
        if not self._minutes or self._minutes[-1].number < number:
            self._minutes.append(Minute(number))
        return self._minutes[-1]

    def minutes(self) -> list[Minute]:
        """The last hour, minute by minute, oldest first; those in which nobody looked are empty."""
        last = int(self._clock() // _MINUTE_S)
        known = {one.number: one for one in self._minutes}
        return [known.get(number) or Minute(number) for number in range(last - MINUTES + 1, last + 1)]


def _counts(now: Mapping[str, int], then: Mapping[str, int]) -> Counts:
    found = Counts()
    for place, count in now.items():
        came = max(0, count - then.get(place, 0))
        status = place.rpartition(" ")[2]
        code = int(status[0]) * 100 if status[:1].isdigit() else 0
        found.calls += came
        if code >= _SERVER_ERROR:
            found.failed += came
        elif code >= _CLIENT_ERROR:
            found.refused += came
    return found


def _grow(kept: list[int], now: Sequence[float], then: Sequence[float] | None) -> None:
    """A tally's histogram ends with the sum of the values, which is of no interest here."""
    for at in range(len(kept)):
        kept[at] += max(0, int(now[at]) - (0 if then is None else int(then[at])))


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value that a ``share`` of the values is not above, straight between the bounds around it.

    None where there are no values; the last bound stands for everything above it.
    """
    total = sum(counts)
    if not total:
        return None
    sums, sum_ = [], 0
    for count in counts:
        sum_ += count
        sums.append(sum_)
    at = bisect_left(sums, share * total)
    if at >= len(bounds):
        return bounds[-1]
    low = bounds[at - 1] if at else 0.0
    inside = (share * total - (sums[at - 1] if at else 0)) / counts[at] if counts[at] else 1.0
    return low + (bounds[at] - low) * inside
