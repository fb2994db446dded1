"""How often each key called what, and how that went: counted here, kept by the vault day by day."""

from collections.abc import Mapping

KEPT = 1024  # places; what comes then is counted as ``other``
OTHER = ("other", "-", "-", "other", "other")
_CLASSES: Mapping[str, str] = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS"), "read"),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), "write"),
}
_STATUSES = tuple(f"{first}xx" for first in range(10))


def outcome_of(outcome: str, status: int) -> str:
    """What came of a request: the class of the service's status, such as ``2xx``, or why there is none."""
    return _STATUSES[status // 100] if outcome == "answered" else outcome


class KeyCalls:
    """Counts by key id, service, connection (``-`` for none), class of the method, and what came of it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], int] = {}

    def count(
        self, key_id: str, service: str | None, connection: str | None, method: str, outcome: str
    ) -> None:
        """Count a request that is over."""
        place = (key_id, service or "-", connection or "-", _CLASSES.get(method, "other"), outcome)
        try:
            self._counts[place] += 1
        except KeyError:
            if len(self._counts) >= KEPT:
                place = OTHER
            self._counts[place] = self._counts.get(place, 0) + 1

    def tally(self) -> dict[str, int]:
        """The counts since the start, by place with spaces between its parts."""
        return {" ".join("_".join(part.split()) for part in place): n for place, n in self._counts.items()}
