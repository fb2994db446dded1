"""The last hour: what came between two looks, minute by minute, and quantiles of what was only counted in buckets."""

from typing import Any

import pytest

from proxy.exposition import ADDED_BUCKETS, DURATION_BUCKETS
from proxy.history import MINUTES, History, quantile

NONE = [0] * (len(ADDED_BUCKETS) + 1)


class Counted:
    """Tallies as a process gives them, and the time."""

    def __init__(self) -> None:
        self.now = 600.0
        self.services: dict[str, Any] = {}
        self.history = History(
            lambda: {"counters": {"services": self.services}, "gauges": {}}, lambda: self.now
        )

    def count(self, service: str, requests: dict[str, int], added: list[int] | None = None) -> None:
        self.services = {
            **self.services,
            service: {
                "requests": requests,
                "added_latency": [*(added or NONE), 0.5],
                "first_byte": [0] * (len(DURATION_BUCKETS) + 2),
            },
        }
        self.history.look()


def test_a_minute_holds_what_came_since_the_last_look() -> None:
    """What was there at the first look is no news; then each minute has its own calls, 4xx and 5xx (R158)."""
    one = Counted()
    one.count("slack", {"read 200": 100})
    one.count("slack", {"read 200": 105, "write 404": 2, "read 503": 1, "read 4xx": 1})
    one.now += 60
    one.count("slack", {"read 200": 106, "write 404": 2, "read 503": 1, "read 4xx": 1})
    one.count("github", {"read 499": 1})
    *before, first, second = one.history.minutes()
    assert len(before) == MINUTES - 2
    assert (first.counts.calls, first.counts.refused, first.counts.failed) == (9, 3, 1)
    assert second.counts.calls == 2
    assert {name: each.calls for name, each in second.by_service.items()} == {"slack": 1, "github": 1}


def test_memory_ends_after_an_hour() -> None:
    """However long it runs, there are sixty minutes, and old ones are gone."""
    one = Counted()
    for number in range(MINUTES * 3):
        one.now += 60
        one.count("slack", {"read 200": number})
    minutes = one.history.minutes()
    assert len(minutes) == MINUTES
    assert sum(each.counts.calls for each in minutes) == MINUTES
    one.now += 3600 * 24
    assert sum(each.counts.calls for each in one.history.minutes()) == 0


def test_a_tally_that_shrinks_takes_nothing_away() -> None:
    """A worker that died before its last report makes sums smaller for a moment; no minute becomes negative."""
    one = Counted()
    one.count("slack", {"read 200": 50}, [5, *NONE[1:]])
    one.count("slack", {"read 200": 40}, [3, *NONE[1:]])
    assert one.history.minutes()[-1].counts.calls == 0
    assert one.history.minutes()[-1].added == NONE
    one.count("slack", {"read 200": 45}, [4, *NONE[1:]])
    assert one.history.minutes()[-1].counts.calls == 5
    assert one.history.minutes()[-1].added[0] == 1


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 0.5),
        ([0, 10, 0], 0.5, 1.5),
        ([5, 5, 0], 0.5, 1.0),
        ([0, 0, 10], 0.99, 2.0),
        ([99, 1, 0], 0.99, 1.0),
        ([0, 4, 0], 1.0, 2.0),
    ],
)
def test_quantiles_lie_between_the_bounds(counts: list[int], share: float, expected: float | None) -> None:
    """A quantile is straight between the bounds of its bucket; over the last bound it is that bound."""
    assert quantile((1.0, 2.0), counts, share) == expected
