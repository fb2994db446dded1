"""Slows those who fail to sign in."""

import time
from collections import deque
from collections.abc import Callable

_WINDOW_S = 60.0
_OF_ONE, _OF_ALL = 5, 20


class Attempts:
    """Failed guesses of the last minute: five from one address, ``most`` in all; then nobody may guess."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = _OF_ALL) -> None:
        self._clock = clock
        self._most = most
        self._failed: deque[tuple[float, str]] = deque()

    def wait(self, address: str) -> float:
        """Seconds until this address may guess again; 0 when it may now."""
        now = self._clock()
        while self._failed and self._failed[0][0] <= now - _WINDOW_S:
            self._failed.popleft()
        own = [at for at, who in self._failed if who == address]
        waits = [own[-_OF_ONE] + _WINDOW_S - now] if len(own) >= _OF_ONE else []
        if len(self._failed) >= self._most:
            waits.append(self._failed[-self._most][0] + _WINDOW_S - now)
        return max(waits, default=0.0)

    def failed(self, address: str) -> None:
        """Count one."""
        self._failed.append((self._clock(), address))
