"""Failed authentications are counted per address and slowed; a valid key never is (R92)."""

from collections import OrderedDict
from dataclasses import dataclass

FREE_FAILURES = 10
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 1.0
FORGET_S = 60.0
MOST_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class _Count:
    failures: int
    last: float


class Slowdown:
    """Counts failures by caller address; times are seconds of any one clock."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def failed(self, address: str, now: float) -> float:
        """Note one failure; returns how many seconds its answer should be held back."""
        known = self._counts.pop(address, None)
        failures = 1 if known is None or now - known.last > FORGET_S else known.failures + 1
        self._counts[address] = _Count(failures, now)
        if len(self._counts) > MOST_ADDRESSES:
            self._counts.popitem(last=False)
        if failures <= FREE_FAILURES:
            return 0.0
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - FREE_FAILURES - 1, 10))
