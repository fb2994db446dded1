"""How many refreshes run at once: a bound for all, a lower one for each service, callers before schedules.

A provider that hangs takes up its own share only, and 10,000 tokens that end together make no storm.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

AT_ONCE = 32
AT_ONCE_A_SERVICE = 16


class _Gate:
    """So many at once; whoever is hurried goes before those who are not."""

    def __init__(self, limit: int, hurried: set[str]) -> None:
        self._free = limit
        self._hurried = hurried
        self._first: OrderedDict[str, asyncio.Future[None]] = OrderedDict()
        self._later: OrderedDict[str, asyncio.Future[None]] = OrderedDict()

    def hurry(self, name: str) -> None:
        """Let a waiting one go before others."""
        future = self._later.pop(name, None)
        if future is not None:
            self._first[name] = future

    async def enter(self, name: str) -> None:
        """Wait for a place."""
        if self._free:
            self._free -= 1
            return
        future = asyncio.get_running_loop().create_future()
        (self._first if name in self._hurried else self._later)[name] = future
        try:
            await future
        except asyncio.CancelledError:
            self._first.pop(name, None)
            self._later.pop(name, None)
            if not future.cancelled():
                self.leave()  # the place was given to one who does not come
            raise

    def leave(self) -> None:
        """Give the place to the next."""
        for queue in (self._first, self._later):
            while queue:
                _, future = queue.popitem(last=False)
                if not future.done():
                    future.set_result(None)
                    return
        self._free += 1


class Gates:
    """See the module. Names are connection ids: each waits at most once at a time."""

    def __init__(self, at_once: int = AT_ONCE, a_service: int = AT_ONCE_A_SERVICE) -> None:
        self._hurried: set[str] = set()
        self._all = _Gate(at_once, self._hurried)
        self._a_service = a_service
        self._services: dict[str, _Gate] = {}

    def hurry(self, service: str, name: str) -> None:
        """A caller waits for this one."""
        self._hurried.add(name)
        self._all.hurry(name)
        if service in self._services:
            self._services[service].hurry(name)

    def calm(self, name: str) -> None:
        """Nobody waits for it any more."""
        self._hurried.discard(name)

    @asynccontextmanager
    async def place(self, service: str, name: str) -> AsyncIterator[None]:
        """One of the places, held for the block."""
        own = self._services.get(service)
        if own is None:
            own = self._services[service] = _Gate(self._a_service, self._hurried)
        await own.enter(name)
        try:
            await self._all.enter(name)
            try:
                yield
            finally:
                self._all.leave()
        finally:
            own.leave()
