"""Proxy keys: their form, hash and stored record. ``forwarding.keys`` finds one in a request.

``cpk_`` + id (8 base62) + ``_`` + secret (43 base62, at least 256 bits) + checksum (6 base62, CRC-32 of all
before it).
URL-safe, no dots (a client may take a token with two dots for a JWT), no vendor's prefix.
"""

import hashlib
import ipaddress
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from proxy.secret import Secret

PREFIX = "cpk_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CHECK_LENGTH = 8, 43, 6
KEY_LENGTH = len(PREFIX) + _ID_LENGTH + 1 + _SECRET_LENGTH + _CHECK_LENGTH
KEY_PATTERN = re.compile(rb"cpk_([0-9A-Za-z]{8})_([0-9A-Za-z]{49})", re.ASCII)

Kind = Literal["proxy", "service"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _base62(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def generate(prefix: str = PREFIX) -> tuple[str, Secret]:
    """A new key: its public id and the whole key, to be shown once. ``prefix``: tells kinds of it apart."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    body = f"{prefix}{key_id}_{''.join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))}"
    return key_id, Secret(body + _checksum(body))


def is_well_formed(presented: bytes) -> bool:
    """True when the bytes have a key's form and checksum (says nothing about being valid)."""
    if len(presented) != KEY_LENGTH or KEY_PATTERN.fullmatch(presented) is None:
        return False
    return has_checksum(presented.decode("ascii"))


def has_checksum(text: str) -> bool:
    """True when the last letters of an ASCII text are the checksum of those before."""
    return _checksum(text[:-_CHECK_LENGTH]) == text[-_CHECK_LENGTH:]


def key_id_of(presented: bytes) -> str:
    """The public id inside a well-formed key."""
    return presented[len(PREFIX) : len(PREFIX) + _ID_LENGTH].decode("ascii")


def digest(presented: bytes) -> bytes:
    """SHA-256 of the whole key: what is stored. A key has 256 random bits: it needs no salt or stretching."""
    return hashlib.sha256(presented).digest()


# A unix socket's peer has no address. In records the unspecified one, which no peer has, stands for it: a
# release that does not know this lets nobody in by it.
UNIX: Network = ipaddress.ip_network("::/128")


def parse_network(text: str) -> Network:
    """An address or network such as ``10.1.0.0/16``, or ``unix`` for callers on a unix socket.

    Raises:
        ValueError: it is none of these.
    """
    try:
        return UNIX if text == "unix" else ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address or network such as 10.1.0.0/16, nor unix") from None


def network_text(network: Network) -> str:
    """What :func:`parse_network` reads."""
    return "unix" if network == UNIX else str(network)


MOST_AT_ONCE = 100_000
_RATE = re.compile(r"([1-9][0-9]{0,5})/([smh])", re.ASCII)
_PERIODS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds.

    Raises:
        ValueError: not a positive number, or another period than a second, minute or hour.
    """

    requests: int
    seconds: int

    LONGEST_S: ClassVar[int] = max(_PERIODS.values())

    def __post_init__(self) -> None:
        if self.requests < 1 or self.seconds not in _PERIODS.values():
            raise ValueError("a rate is a number of requests in a second, minute or hour")

    def __str__(self) -> str:
        return f"{self.requests}/{next(name for name, length in _PERIODS.items() if length == self.seconds)}"


def parse_rate(text: str) -> Rate:
    """``10/s``, ``100/m`` or ``1000/h``.

    Raises:
        ValueError: it is none of these.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no rate such as 10/s, 100/m or 1000/h")
    return Rate(int(found[1]), _PERIODS[found[2]])


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it is stored or declared: everything but the key.

    ``permits`` are texts in the grammar of ``forwarding.permits``; ``root``: the service that addresses
    without a service id go to; ``expires_at`` and ``revoked_at``: seconds since the epoch. ``rate``,
    ``concurrency`` (requests at once): None, no limit; they hold for all processes of a host together.
    """

    key_id: str
    name: str
    digest: bytes
    permits: tuple[str, ...]
    kind: Kind = "proxy"
    root: str | None = None
    networks: tuple[Network, ...] = ()
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    declared: bool = False
    rate: Rate | None = None
    concurrency: int | None = None

    def is_live(self, now: float) -> bool:
        """Neither revoked nor expired at ``now`` (seconds since the epoch)."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


Keys = Mapping[str, KeyRecord]
