"""What counters have grown by since it was last kept elsewhere: for counts that outlive a process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice

Place = tuple[str, ...]
Counts = Mapping[Place, int]
AT_ONCE = 500  # places that are kept together: other writers get their turn after each lot


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
        self._carrying: asyncio.Task[None] | None = None

    async def carry(self) -> None:
        """Keep what was counted since the last time.

        Whoever stops waiting stops nothing: of a commit that is cut off nobody knows whether it counts.
        """
        while self._carrying is not None:
            await asyncio.shield(self._carrying)  # begun earlier: what was counted since is not in it
        self._carrying = asyncio.create_task(self._carry(), name="counts")
        self._carrying.add_done_callback(self._ended)
        await asyncio.shield(self._carrying)

    async def close(self, patience_s: float) -> None:
        """Cut off what is still under way, and wait so many seconds for its end."""
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.wait([self._carrying], timeout=patience_s)

    async def _carry(self) -> None:
        found = {place: count for place, count in self._read().items() if count > self._kept.get(place, 0)}
        places = iter(found.items())
        while some := dict(islice(places, AT_ONCE)):
            await self._keep({place: count - self._kept.get(place, 0) for place, count in some.items()})
            self._kept |= some

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._carrying = None
        if not task.cancelled():
            task.exception()  # who waited may have left: then nobody else looks at it
