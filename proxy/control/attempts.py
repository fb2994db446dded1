"""Slows those who fail to sign in, so that nobody guesses and nobody can lock another one out for long."""

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from proxy.secret import Secret

_WINDOW_S = 60.0  # no wait is longer
_OF_ONE, _OF_USER, _OF_ALL = 5, 10, 60
_PREFIX = 64  # of an IPv6 address: whoever has one has all of its network
_ID_BYTES = 12


class _Failed(NamedTuple):
    at: float
    source: str
    user: str
    is_known: bool


class Attempts:
    """Failed guesses of the last minute: five from one source, ten for one user, ``most`` in all.

    A browser that has signed in as that user before is its own source, and the limits that strangers use up
    are not for it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = _OF_ALL) -> None:
        self._clock = clock
        self._most = most
        self._failed: deque[_Failed] = deque()

    def wait(self, source: str, user: str = "", *, is_known: bool = False) -> float:
        """Seconds until this source may guess again, for this user where one is named; 0 when it may now."""
        now, source = self._clock(), _network(source)
        while self._failed and self._failed[0].at <= now - _WINDOW_S:
            self._failed.popleft()
        waits = [_rest([one.at for one in self._failed if one.source == source], _OF_ONE, now)]
        if not is_known:
            strangers = [one for one in self._failed if not one.is_known]
            waits.append(_rest([one.at for one in strangers if user and one.user == user], _OF_USER, now))
            waits.append(_rest([one.at for one in strangers], self._most, now))
        return max(waits)

    def failed(self, source: str, user: str = "", *, is_known: bool = False) -> None:
        """Count one."""
        self._failed.append(_Failed(self._clock(), _network(source), user, is_known))


def _rest(failed: list[float], most: int, now: float) -> float:
    return failed[-most] + _WINDOW_S - now if len(failed) >= most else 0.0


def _network(source: str) -> str:
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if address.version == 4:  # noqa: PLR2004  # the other one is 6
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address, _PREFIX), strict=False))


class KnownBrowsers:
    """Marks that browsers keep after signing in; only for how guesses are counted, they open nothing.

    Args:
        key: the vault's secret for this purpose.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mark(self, user: str) -> Secret:
        """A new mark of a browser that has signed in as this user."""
        number = secrets.token_hex(_ID_BYTES)
        return Secret(f"{number}.{self._proof(number, user)}")

    def known(self, user: str, mark: Secret | None) -> str | None:
        """What a browser that has signed in as this user counts as; None for any other browser."""
        number, _, proof = ("" if mark is None else mark.reveal()).partition(".")
        is_genuine = hmac.compare_digest(proof.encode(), self._proof(number, user).encode())
        return f"browser {number}" if is_genuine else None

    def _proof(self, number: str, user: str) -> str:
        return hmac.digest(self._key, f"{number} {user}".encode(), hashlib.sha256).hex()[:32]
