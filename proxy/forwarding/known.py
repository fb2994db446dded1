"""What is known of the addresses of origins: looked up once for all, kept while the resolver is silent."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from proxy.catalog.origin import Origin
from proxy.errors import AddressRefused, UpstreamUnreachable
from proxy.forwarding.addresses import Dial

ADDRESS_TTL_S = 20.0
FAILURE_TTL_S = 1.0
RESOLVE_TIMEOUT_S = 10.0
KEPT_S = 300.0  # for how long past their time addresses serve while the resolver says nothing
LATE_S = 0.5  # how long a new look may take before such addresses are used meanwhile
CACHE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a look gave: addresses, or the kind of failure.

    ``until``: when to look again. ``kept``: until when the addresses serve if that look gets no answer.
    ``answered``: the resolver said so; False: it said nothing, which changes nothing. ``doubtful``: no
    address accepted a connection.
    """

    dials: tuple[Dial, ...]
    failure: type[AddressRefused] | type[UpstreamUnreachable] | None
    until: float
    kept: float = 0.0
    answered: bool = True
    doubtful: bool = False


class Lookups:
    """The last look at each origin, at most ``CACHE_SIZE`` of them.

    When an origin that was known gets no answer, or a late one, its last addresses serve up to ``KEPT_S``
    more, judged once more. Any answer ends that, also one that there is no such name (RFC 8767 §4).

    Args:
        clock: monotonic seconds.
        look: resolves and judges, within a bounded time.
        still: whether an address that was judged before may be dialled now.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        look: Callable[[Origin], Awaitable[Lookup]],
        still: Callable[[Origin, Dial], bool],
    ) -> None:
        self._clock = clock
        self._look = look
        self._still = still
        self._known: dict[Origin, Lookup] = {}
        self._running: dict[Origin, asyncio.Task[Lookup]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def ready(self, origin: Origin) -> tuple[Dial, ...] | None:
        """The addresses if they are known without waiting, else None."""
        known = self._known.get(origin)
        if known is None or known.failure is not None or known.until <= self._clock():
            return None
        return known.dials

    async def get(self, origin: Origin) -> Lookup:
        """What is known; looks, or waits for a look that is under way, where that has run out."""
        while (known := self._known.get(origin)) is None or known.until <= self._clock():
            task = self._running.get(origin)
            if task is None:
                task = asyncio.create_task(self._look_up(origin))
                self._running[origin] = task
                task.add_done_callback(lambda _: self._running.pop(origin, None))
            kept = self._kept(origin)
            patience = None if kept is None or kept.doubtful else LATE_S
            done, _ = await asyncio.wait({task}, timeout=patience)
            if done:
                return task.result()
            self._keep(origin, RESOLVE_TIMEOUT_S)
        return known

    def forget(self, origin: Origin) -> None:
        """Wait for a new look next time; what is known serves only if that one gets no answer."""
        kept = self._kept(origin)
        if kept is not None:
            self._known[origin] = replace(kept, until=self._clock(), doubtful=True)
        else:
            self._known.pop(origin, None)

    async def aclose(self) -> None:
        """Cancel looks that are still running."""
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, origin: Origin) -> Lookup:
        result = await self._look(origin)
        if not result.answered:
            result = self._keep(origin, FAILURE_TTL_S) or result
        if len(self._known) >= CACHE_SIZE:
            self._known.pop(next(iter(self._known)))
        self._known[origin] = result
        return result

    def _kept(self, origin: Origin) -> Lookup | None:
        """What may serve in place of an answer."""
        known = self._known.get(origin)
        return known if known is not None and known.kept > self._clock() else None

    def _keep(self, origin: Origin, seconds: float) -> Lookup | None:
        """Let the addresses serve a while longer, those of them that may be dialled now."""
        known = self._kept(origin)
        dials = () if known is None else tuple(dial for dial in known.dials if self._still(origin, dial))
        if known is None or not dials:
            self._known.pop(origin, None)
            return None
        until = min(self._clock() + seconds, known.kept)
        self._known[origin] = kept = replace(known, dials=dials, until=until, doubtful=False)
        return kept
