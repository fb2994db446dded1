"""How often each key called what, and how that went: counted here, kept by the vault day by day."""

from collections.abc import Mapping

KEPT = 4096  # places; what comes then is counted as ``other``
OTHER = ("other", "-", "-", "other", "other")
METHOD_CLASS: Mapping[str, str] = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS"), "read"),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), "write"),
}
_STATUSES = tuple(f"{first}xx" for first in range(10))

Place = tuple[str, str | None, str | None, str, int, str]
"""Key id, service, connection, class of the method, status, and how the request ended."""


def outcome_of(outcome: str, status: int) -> str:
    """What came of a request: the class of the service's status, such as ``2xx``, or why there is none."""
    return _STATUSES[status // 100] if outcome == "answered" else outcome


class KeyCalls:
    """Counts by place; each request adds to one."""

    def __init__(self) -> None:
        self._counts: dict[Place, int] = {}
        self._rest = 0

    def count(self, place: Place) -> None:
        """Count a request that is over."""
        try:
            self._counts[place] += 1
        except KeyError:
            if len(self._counts) < KEPT:
                self._counts[place] = 1
            else:
                self._rest += 1

    def tally(self) -> dict[str, int]:
        """The counts since the start, by key, service, connection (``-`` for none), class and outcome."""
        found = {" ".join(OTHER): self._rest} if self._rest else {}
        for (key_id, service, connection, kind, status, ended), n in self._counts.items():
            parts = (key_id, service or "-", connection or "-", kind, outcome_of(ended, status))
            name = " ".join("_".join(part.split()) for part in parts)
            found[name] = found.get(name, 0) + n
        return found
