"""Bounds of the data plane, by who watches over them."""

from dataclasses import dataclass, field

from proxy.forwarding.gate import Limits

KEEP_ALIVE_S = 75.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Sizes in bytes, times in seconds (0: none)."""

    connections: int = 10_000
    request_line: int = 65_536
    header_bytes: int = 131_072
    headers: int = 256
    head_s: float = 15.0
    body_idle_s: float = 60.0
    keep_alive_s: float = KEEP_ALIVE_S


@dataclass(frozen=True, slots=True)
class DataPlaneOptions:
    """``body_bytes``: limit of a request body (0: none). ``body_idle_s``: seconds between its pieces.

    ``replay_bytes``: how much of a body is kept for a replay with a newer token. ``upstream_per_service``:
    requests to one service at once. ``connect_base_url``: where a person connects an account, None when
    nothing is served there. ``host_suffixes``: of virtual hosts, lower case. ``fallback``: paths that only
    one service has go to it. ``public_url``: what addresses in answers begin with; empty: scheme and Host of
    the request. ``share``: how many processes share the limits of keys. ``links``: whether addresses in
    answers are made to lead back here. ``withheld``: lower-case names of callers' fields that do not go on.
    """

    limits: Limits = field(default_factory=Limits)
    body_bytes: int = 0
    body_idle_s: float = 60.0
    replay_bytes: int = 65_536
    upstream_per_service: int = 256
    connect_base_url: str | None = None
    host_suffixes: tuple[str, ...] = ()
    fallback: bool = False
    public_url: bytes = b""
    share: int = 1
    links: bool = True
    withheld: frozenset[bytes] = frozenset()
