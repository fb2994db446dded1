"""The last hour of what services said is left of their limits, by connection. In memory only."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proxy.forwarding.headroom import Left, Told
from proxy.history import MINUTES

KEPT = 500  # connections; beyond them the one that was told of longest ago is forgotten
_MINUTE_S = 60.0
FRESH_S = 300.0  # limits begin anew: what was told longer ago says nothing of now


@dataclass(slots=True)
class Budget:
    """Of one connection. ``last``: the newest; ``lowest``: the tightest of a minute, by its number."""

    service: str
    connection: str
    last: Told
    lowest: dict[int, Left] = field(default_factory=dict)


class Budgets:
    """Keeps what is told.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], Budget] = {}  # told of longest ago first

    def take(self, told: Iterable[Told]) -> None:
        """Some more, of any process."""
        for one in told:
            place = (one.service, one.connection)
            kept = self._kept.pop(place, None) or Budget(one.service, one.connection, one)
            if one.at >= kept.last.at:
                kept.last = one
            number = int(one.at // _MINUTE_S)
            before = kept.lowest.get(number)
            kept.lowest[number] = one.left if before is None else one.left.tighter(before)
            self._kept[place] = kept
            if len(kept.lowest) > MINUTES:
                del kept.lowest[min(kept.lowest)]
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]

    def hour(self) -> list[tuple[Budget, list[Left | None]]]:
        """Each connection that was told of within the hour, minute by minute; the least share left first."""
        last = int(self._clock() // _MINUTE_S)
        numbers = range(last - MINUTES + 1, last + 1)
        found = [(one, [one.lowest.get(number) for number in numbers]) for one in self._kept.values()]
        told = [(one, minutes) for one, minutes in found if any(minutes)]
        return sorted(told, key=lambda one: _order(one[0]))

    def shares(self) -> dict[str, float]:
        """Service -> the least share of a limit that a connection of it has left, told within 5 minutes."""
        since = self._clock() - FRESH_S
        shares: dict[str, float] = {}
        for one in self._kept.values():
            share = one.last.left.share
            if share is not None and one.last.at >= since:
                shares[one.service] = min(share, shares.get(one.service, share))
        return shares


def _order(one: Budget) -> tuple[bool, float, str, str]:
    share = one.last.left.share
    return (share is None, share or 0.0, one.service, one.connection)
