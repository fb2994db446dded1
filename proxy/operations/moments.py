"""Times as operators write and read them."""

import re
from datetime import UTC, datetime

from proxy.errors import ConfigurationError, Fault

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])", re.ASCII)
_YEAR_9999 = 253_370_764_800.0  # its first second
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def rfc3339(moment: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339 in UTC, None stays None."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str, now: float, direction: int) -> float:
    """``30d``, ``12h`` after (``direction`` 1) or before (-1) ``now``, or an RFC 3339 time; epoch seconds.

    Raises:
        ValueError: it is neither.
    """
    found = _DURATION.fullmatch(text)
    if found is not None:
        moment = max(now + direction * int(found.group(1)) * _UNITS[found.group(2)], 0.0)
    else:
        moment = _time(text)
    if not 0 <= moment < _YEAR_9999:
        raise ValueError(f"{text!r} is not between the years 1970 and 9999")
    return moment


def _time(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError(f"{text!r} is neither 30d, 12h, 15m nor a time with offset (RFC 3339)")
    return time.timestamp()


def parse_since(text: str, *, now: float, place: str = "since") -> float:
    """``7d``, ``12h`` before ``now``, or an RFC 3339 time, as seconds since the epoch.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        return parse_moment(text, now, -1)
    except ValueError as error:
        raise ConfigurationError(Fault(place, str(error))) from None
