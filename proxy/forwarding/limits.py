"""Bounds of the caller's side."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Sizes in bytes, times in seconds (0: none)."""

    connections: int = 10_000
    request_line: int = 65_536
    header_bytes: int = 131_072
    headers: int = 256
    head_s: float = 15.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 75.0
