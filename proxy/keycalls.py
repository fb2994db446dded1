"""How often each key called what, and how that went: counted here, kept by the vault day by day."""

from collections.abc import Mapping

KEPT = 4096  # places; of calls beyond them only the key is told
REST = ("-", "-", "other", "other")
METHOD_CLASS: Mapping[str, str] = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS"), "read"),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), "write"),
}
STATUS_CLASS = tuple(f"{status // 100}xx" for status in range(1000))
"""By status: its class, such as ``2xx``."""

Place = tuple[str, str | None, str | None, str, str]
"""Key id, service, connection, class of the method, and outcome: the status's class, or why there is none."""


class KeyCalls:
    """Counts by place; each request adds to one. At most :data:`KEPT`, and one more for each key."""

    def __init__(self) -> None:
        self._counts: dict[Place, int] = {}
        self._rest: dict[str, int] = {}

    def count(self, place: Place) -> None:
        """Count a request that is over."""
        try:
            self._counts[place] += 1
        except KeyError:
            if len(self._counts) < KEPT:
                self._counts[place] = 1
            else:
                self._rest[place[0]] = self._rest.get(place[0], 0) + 1

    def tally(self) -> dict[str, int]:
        """The counts since the start, by key, service, connection (``-`` for none), class and outcome."""
        found = {_name((key_id, *REST)): n for key_id, n in self._rest.items()}
        for place, n in self._counts.items():
            name = _name(place)
            found[name] = found.get(name, 0) + n
        return found


def _name(place: Place) -> str:
    return " ".join("_".join((part or "-").split()) for part in place)
