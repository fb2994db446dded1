"""When a service that said "too fast" may be called again, from the headers its catalog file names. Pure.

Services disagree on the unit: seconds, with decimals or not, or a moment in seconds or milliseconds since the
epoch (facts of each file's ``[rate_limit]``).
"""

from collections.abc import Callable, Mapping

from multidict import MultiMapping

from proxy.catalog.model import RateLimit

LONGEST_S = 86_400.0  # what is further away than a day is a mistake, not a wait

_WAITS: Mapping[str, Callable[[float, float], float]] = {
    "seconds": lambda value, now: value,  # noqa: ARG005  # one shape for all
    "seconds_decimal": lambda value, now: value,  # noqa: ARG005  # likewise
    "epoch_s": lambda value, now: value - now,
    "epoch_s_decimal": lambda value, now: value - now,
    "epoch_ms": lambda value, now: value / 1000 - now,
}


def wait_seconds(limit: RateLimit, status: int, headers: MultiMapping[str], now: float) -> float | None:
    """Seconds until another call makes sense; None when the answer is no refusal for speed or does not say.

    Args:
        limit: of the service's file; its headers are tried in the file's order.
        status: of the answer.
        headers: of the answer, looked up by name whatever its case.
        now: seconds since the epoch.
    """
    if status not in limit.statuses:
        return None
    for name, unit in limit.headers.items():
        wait = _WAITS.get(unit)
        if wait is None:
            continue
        for text in headers.getall(name, []):
            try:
                seconds = wait(float(text), now)
            except ValueError:
                continue
            if 0 <= seconds <= LONGEST_S:
                return seconds
    return None
