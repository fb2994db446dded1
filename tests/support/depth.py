"""How many examples the property tests try: a quarter, or all of them (``make fuzz``)."""

import os

from hypothesis import HealthCheck, settings

DEEP = "DEEP_PROPERTIES" in os.environ


def examples(most: int) -> int:
    """How many of ``most`` examples to try."""
    return most if DEEP else -(-most // 4)


def choose() -> None:
    """For all properties that say nothing themselves. No example is judged by the time that it takes."""
    settings.register_profile(
        "suite", max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("suite")
