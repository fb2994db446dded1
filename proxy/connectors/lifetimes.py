"""When a token is replaced, and when it is no longer handed out. All times in seconds."""

EXPIRY_S = 1.0  # a token is not handed out in the last second of its life


def margin(lifetime: float) -> float:
    """Seconds before its end when a token is replaced: a tenth of its life, 10 s to 5 min, at most half."""
    return min(max(lifetime / 10, 10.0), 300.0, lifetime / 2)


def refresh_time(expires_at: float, issued_at: float, spread: float = 0.0) -> float:
    """When (epoch) a token is due for its background refresh.

    ``spread`` (0 to 1) brings it forward by up to a quarter of the margin, so that tokens given together are
    not renewed together (R124).
    """
    ahead = margin(max(expires_at - issued_at, 0.0))
    return expires_at - ahead * (1.0 + spread / 4)
