"""When to start again what keeps ending: a worker, or endless work of a server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy import log

_FIRST_S = 0.5
LONGEST_S = 30.0
QUICK_S = 10.0  # who lived longer than this starts from the beginning
LOOP = 3  # ends in a row, each soon after the start, that are told as a loop


@dataclass(slots=True)
class Restarts:
    """Counts ends that came soon after their start."""

    quick: int = 0

    def after(self, lived_s: float) -> float:
        """Seconds to wait after an end: none after the first, then twice as long each time."""
        self.quick = self.quick + 1 if lived_s < QUICK_S else 1
        return 0.0 if self.quick == 1 else min(_FIRST_S * 2.0 ** min(self.quick - 2, 10), LONGEST_S)

    @property
    def is_loop(self) -> bool:
        """It is time to tell somebody."""
        return self.quick >= LOOP


async def kept(
    work: Callable[[], Awaitable[None]], name: str, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Do endless work until cancelled: an unexpected failure is logged, and it begins anew after a pause.

    ``clock``: monotonic seconds.
    """
    restarts = Restarts()
    while True:
        begun = clock()
        try:
            return await work()
        except Exception as error:  # noqa: BLE001  # a fault of ours costs one turn, not all that follow
            delay = restarts.after(clock() - begun)
            log.crash("background_task_failed", error, task=name, again_after_s=delay)
        await asyncio.sleep(delay)
