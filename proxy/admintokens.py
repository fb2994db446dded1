"""Admin tokens: what programs present to the admin API. Their form is a proxy key's, with another prefix.

``cpa_`` + id (8 base62) + ``_`` + secret (43 base62) + checksum; shown once, only a hash is stored.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from proxy import keys
from proxy.secret import Secret

PREFIX = "cpa_"
Scope = Literal["read", "connections:write", "registrations:write", "keys:write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_PATTERN = re.compile(r"cpa_([0-9A-Za-z]{8})_[0-9A-Za-z]{49}", re.ASCII)


def generate() -> tuple[str, Secret]:
    """A new token: its public id and the whole token, to be shown once."""
    return keys.generate(PREFIX)


def token_id_of(presented: str) -> str | None:
    """The public id inside a well-formed token; None for anything else (says nothing about being valid)."""
    found = _PATTERN.fullmatch(presented)
    return found.group(1) if found is not None and keys.has_checksum(presented) else None


def grants(scopes: frozenset[Scope], wanted: Collection[Scope]) -> bool:
    """Whether one of the ``wanted`` scopes is granted; ``admin`` is every scope."""
    return "admin" in scopes or not scopes.isdisjoint(wanted)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as it is stored: everything but the token. Times: epoch seconds."""

    token_id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None

    def is_live(self, now: float) -> bool:
        """Neither revoked nor expired at ``now`` (epoch seconds)."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
