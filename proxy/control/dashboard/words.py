"""How values read on pages: states as words with a tone, times as distances with the exact one behind."""

from datetime import UTC, datetime
from typing import Literal

from markupsafe import Markup

Tone = Literal["good", "busy", "warn", "bad", "quiet"]
_STATES: dict[str, tuple[str, Tone]] = {
    "active": ("Active", "good"),
    "refreshing": ("Refreshing", "busy"),
    "reauthorization_required": ("Needs a person", "bad"),
    "frozen": ("Frozen", "warn"),
    "disconnected": ("Disconnected", "quiet"),
    "declared": ("Declared", "good"),
    "expired": ("Expired", "quiet"),
    "revoked": ("Revoked", "quiet"),
}
NONE = "\N{EN DASH}"
_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MILLISECOND = 0.001
_SERVER_ERROR, _CLIENT_ERROR = 500, 400


def state(code: str) -> Markup:
    """A state as a pill: colour and word say the same."""
    word, tone = _STATES.get(code, (code, "quiet"))
    return pill(word, tone)


def pill(word: str, tone: Tone) -> Markup:
    """A word with a colour."""
    return Markup('<span class="pill {}">{}</span>').format(tone, word)


def status(code: int) -> Markup:
    """A status of an answer."""
    tone = "bad" if code >= _SERVER_ERROR else "warn" if code >= _CLIENT_ERROR else "good"
    return Markup('<span class="status {}">{}</span>').format(tone, code)


def distance(seconds: float) -> str:
    """``in 5 min`` or ``2 d ago``, in the largest unit that fits."""
    size = abs(seconds)
    if size < _UNITS[-1][0]:
        return "now"
    unit, name = next((unit, name) for unit, name in _UNITS if size >= unit)
    count = f"{int(size // unit)} {name}"
    return f"in {count}" if seconds > 0 else f"{count} ago"


def when(moment: float | None, now: float, *, none: str = NONE) -> Markup:
    """A time (epoch seconds) by its distance; the exact one is its title."""
    if moment is None:
        return Markup("{}").format(none)
    exact = datetime.fromtimestamp(moment, UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.strftime("%Y-%m-%dT%H:%M:%SZ"),
        exact.strftime("%Y-%m-%d %H:%M:%S UTC"),
        distance(moment - now),
    )


def number(value: float) -> str:
    """``1,234``; ``12.3k`` and ``4.5M`` where it gets long."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e6 if letter == 'M' else 1e3):.1f}{letter}"
    return f"{int(value):,}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that reads best."""
    if seconds is None:
        return NONE
    if seconds < _MILLISECOND:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"
