"""How fast a key may be used and how often at once (R64, R90); time is a parameter.

A rate is a token bucket: it holds as many requests as the rate names and fills evenly, so that a key at rest
may spend them all at once. Several processes have equal shares.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

from proxy.errors import RateLimited
from proxy.keys import KeyRecord, Rate

_KEPT = 1024
_SOON_S = 1.0


@dataclass(slots=True)
class _Use:
    """What a key has used up: ``tokens`` are left of its rate as of ``at``; ``busy`` requests are at work."""

    tokens: float
    at: float
    busy: int = 0


class KeyLimits:
    """Keeps keys to their limits; those of one process.

    Args:
        share: how many processes share the limits.
    """

    def __init__(self, share: int = 1) -> None:
        self._share = share
        self._uses: dict[str, _Use] = {}

    @contextmanager
    def place(self, record: KeyRecord, now: float, cost: int = 1) -> Iterator[None]:
        """One request of a key, for the length of the block.

        Args:
            record: the key's.
            now: seconds of a clock that never goes back.
            cost: how many requests it counts for (a batch: those in it). It may begin with one left, and what
                it costs above that is paid by those behind it.

        Raises:
            RateLimited: too many at once, or too soon; nothing is counted then.
        """
        use = self._use(record, now)
        if record.concurrency is not None and use.busy >= ceil(record.concurrency / self._share):
            raise RateLimited("the key has as many requests at work as it may have", retry_after=_SOON_S)
        if record.rate is not None:
            wait = self._wait(use, record.rate, now)
            if wait > 0:
                raise RateLimited(f"the key's rate of {record.rate} is used up", retry_after=wait)
            use.tokens -= cost
        use.busy += 1
        try:
            yield
        finally:
            use.busy -= 1

    def _use(self, record: KeyRecord, now: float) -> _Use:
        use = self._uses.get(record.key_id)
        if use is None:
            if len(self._uses) >= _KEPT:
                self._forget_idle(now)
            use = self._uses[record.key_id] = _Use(float("inf"), now)
        return use

    def _wait(self, use: _Use, rate: Rate, now: float) -> float:
        """Fill up to now; the seconds until a whole request is there."""
        per_second = rate.requests / rate.seconds / self._share
        most = max(1.0, rate.requests / self._share)
        use.tokens = min(most, use.tokens + max(0.0, now - use.at) * per_second)
        use.at = now
        return 0.0 if use.tokens >= 1 else (1 - use.tokens) / per_second

    def _forget_idle(self, now: float) -> None:
        """What a key used an hour ago limits it no more: the slowest rate is filled again."""
        for key_id, use in list(self._uses.items()):
            if not use.busy and now - use.at >= Rate.LONGEST_S:
                del self._uses[key_id]
