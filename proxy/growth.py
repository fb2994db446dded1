"""What counters have grown by since it was last kept elsewhere: for counts that outlive a process."""

from collections.abc import Awaitable, Callable, Mapping

Place = tuple[str, ...]
Counts = Mapping[Place, int]


class Growth:
    """Carries counts over to where they are kept, each once.

    Args:
        read: the counts since the start; they only grow.
        keep: adds some to what is kept; what it raises leaves them for the next time.
    """

    def __init__(self, read: Callable[[], Counts], keep: Callable[[Counts], Awaitable[None]]) -> None:
        self._read = read
        self._keep = keep
        self._kept: dict[Place, int] = {}

    async def carry(self) -> None:
        """Keep what was counted since the last time."""
        found = {place: count for place, count in self._read().items() if count > self._kept.get(place, 0)}
        if not found:
            return
        await self._keep({place: count - self._kept.get(place, 0) for place, count in found.items()})
        self._kept |= found
