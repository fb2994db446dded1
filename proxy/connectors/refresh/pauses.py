"""What the store said of a connection a moment ago, so that not every caller asks it again."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.connectors.model import Connection
from proxy.connectors.refresh.results import Later, Lost

_SHORTEST_S, _LONGEST_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class _Pause:
    """Why a generation is not tried again before ``until`` (monotonic seconds)."""

    generation: int
    until: float
    result: Later | Lost


class Pauses:
    """By connection: those that hold for every refresh, and those for forced ones only.

    Args:
        clock: seconds since the epoch; ``monotonic``: of one that never jumps.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._any: dict[str, _Pause] = {}
        self._forced: dict[str, _Pause] = {}

    def begin(self, connection: Connection, result: Later | Lost, *, only_forced: bool = False) -> None:
        """Do not ask again about this generation for as long as the result says, within bounds."""
        wait = _LONGEST_S
        if isinstance(result, Later) and result.retry_at is not None:
            wait = min(max(result.retry_at - self._clock(), _SHORTEST_S), _LONGEST_S)
        pause = _Pause(connection.generation, self._monotonic() + wait, result)
        (self._forced if only_forced else self._any)[connection.connection_id] = pause

    def over(self, connection: Connection) -> None:
        """It was refreshed."""
        self._any.pop(connection.connection_id, None)

    def rests(self, connection_id: str, generation: int) -> bool:
        """Nothing is to be begun in the background."""
        pause = self._any.get(connection_id)
        return pause is not None and pause.generation == generation and self._monotonic() < pause.until

    def result(self, connection_id: str, generation: int, *, forced: bool) -> Later | Lost | None:
        """What a caller is told without asking the store; None: ask."""
        for kept in (self._forced, self._any) if forced else (self._any,):
            pause = kept.get(connection_id)
            if pause is None or pause.generation != generation or self._monotonic() >= pause.until:
                continue
            result = pause.result
            if isinstance(result, Lost):
                return result
            is_open = result.retry_at is None or result.retry_at <= self._clock()
            if not is_open and not (forced and result.unless_forced):
                return result
        return None
