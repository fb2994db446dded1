"""When to try the database again after it has failed."""

import random
from collections.abc import Callable

_FIRST_S, _MOST_S = 0.05, 2.0


class Rest:
    """A rest after each failure: 50 ms, doubling to 2 s, spread so that many do not come at once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    @property
    def is_over(self) -> bool:
        """It may be tried."""
        return self._clock() >= self._until

    def failed(self) -> float:
        """Rest from now on; how many seconds."""
        rest = min(_FIRST_S * 2.0 ** min(self._failures, 16), _MOST_S)
        rest *= random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards nothing
        self._failures += 1
        self._until = self._clock() + rest
        return rest

    def worked(self) -> None:
        """The next failure is the first again."""
        self._failures = 0
        self._until = 0.0
