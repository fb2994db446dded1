"""A token that a service echoes is masked with equal length: hygiene, not protection (design §7).

A service that encodes, compresses or splits the token defeats this. Nothing is held back but the end of a
piece that may be the beginning of the token. Pure.
"""

SHORTEST = 16  # a shorter token could be a word of the answer
_MASK = b"*"


def masked(data: bytes, token: bytes) -> bytes:
    """The data with every occurrence of the token replaced by as many asterisks."""
    return data.replace(token, _MASK * len(token))


def worth_scrubbing(token: bytes) -> bool:
    """True when the token is long enough to be told from text."""
    return len(token) >= SHORTEST


class Scrubber:
    """Masks a token in a body that comes in pieces. ``found``: how often it was there."""

    __slots__ = ("_held", "_token", "found")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._held = b""
        self.found = 0

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on now: all but an end that may turn out to be the token's beginning."""
        token = self._token
        data = self._held + piece if self._held else piece
        if token in data:
            self.found += data.count(token)
            data = masked(data, token)
        start = max(0, len(data) - len(token) + 1)
        while (start := data.find(token[:1], start)) >= 0:
            if token.startswith(data[start:]):
                self._held = data[start:]
                return data[:start]
            start += 1
        self._held = b""
        return data

    def flush(self) -> bytes:
        """The rest, at the end of the body."""
        held, self._held = self._held, b""
        return held
