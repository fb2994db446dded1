"""When to start a worker again that keeps ending."""

from dataclasses import dataclass

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
