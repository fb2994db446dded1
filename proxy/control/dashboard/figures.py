"""The last hour in figures: what the overview shows of ``proxy.history`` and ``proxy.budgets``."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from proxy.budgets import Budget
from proxy.control.dashboard.charts import bars, lines
from proxy.control.dashboard.words import duration, number
from proxy.exposition import ADDED_BUCKETS, DURATION_BUCKETS
from proxy.forwarding.headroom import Left
from proxy.history import Counts, Minute, quantile

_HALF, _ALMOST_ALL = 0.5, 0.99
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of an hour with its chart. ``about``: what goes with ``value``."""

    title: str
    value: str
    about: str
    chart: Markup


@dataclass(frozen=True, slots=True)
class Hour:
    """Figures of everything, and what each service had, most calls first."""

    figures: tuple[Figure, ...]
    services: tuple[tuple[str, Counts], ...]


def hour_of(minutes: Sequence[Minute]) -> Hour:
    """What an hour came to."""
    counts = [one.counts for one in minutes]
    whole, services = Counts(), dict[str, Counts]()
    for minute in minutes:
        whole.add(minute.counts)
        for name, one in minute.by_service.items():
            services.setdefault(name, Counts()).add(one)
    errors = whole.refused + whole.failed
    share = f"{errors / whole.calls:.1%} of all" if whole.calls else "of none"
    figures = (
        Figure(
            "Calls",
            number(whole.calls),
            "in the last hour",
            bars(
                [float(one.calls) for one in counts],
                [0.0] * len(counts),
                f"Calls each minute, {whole.calls} in all",
            ),
        ),
        Figure(
            "Errors",
            number(errors),
            f"{share}: {number(whole.refused)} 4xx, {number(whole.failed)} 5xx",
            bars(
                [float(one.refused + one.failed) for one in counts],
                [float(one.failed) for one in counts],
                f"Errors each minute, {errors} in all",
            ),
        ),
        _latency("Added latency", "in the proxy", minutes, ADDED_BUCKETS, lambda one: one.added),
        _latency(
            "Service latency", "to the first byte", minutes, DURATION_BUCKETS, lambda one: one.first_byte
        ),
    )
    ranked = sorted(services.items(), key=lambda one: (-one[1].calls, one[0]))
    return Hour(figures, tuple(ranked))


def budgets_of(
    hour: Sequence[tuple[Budget, Sequence[Left | None]]], titles: Mapping[str, str]
) -> tuple[Figure, ...]:
    """What services say is left of their limits, the tightest first; ``titles``: of services, by id."""
    return tuple(
        _budget(one, minutes, titles.get(one.service, one.service)) for one, minutes in hour[:_SHOWN]
    )


def _budget(one: Budget, minutes: Sequence[Left | None], title: str) -> Figure:
    left = one.last.left
    lowest = functools.reduce(Left.tighter, [told for told in minutes if told is not None], left)
    share = left.share is not None
    values = [None if told is None else (told.share if share else float(told.remaining)) for told in minutes]
    about = f"of {number(left.limit)}; " if left.limit is not None else ""
    about += f"lowest in the last hour {number(lowest.remaining)}"
    return Figure(
        f"{title}, {one.connection}",
        number(left.remaining),
        about,
        lines([("one", values)], f"Calls left each minute, {about}", highest=1.0 if share else None),
    )


def _latency(
    title: str,
    about: str,
    minutes: Sequence[Minute],
    bounds: Sequence[float],
    histogram: Callable[[Minute], Sequence[int]],
) -> Figure:
    sums = [sum(column) for column in zip(*map(histogram, minutes), strict=True)]
    half, most = quantile(bounds, sums, _HALF), quantile(bounds, sums, _ALMOST_ALL)
    return Figure(
        title,
        duration(half),
        f"p50 {about}; p99 {duration(most)}",
        lines(
            [
                ("two", [quantile(bounds, histogram(one), _ALMOST_ALL) for one in minutes]),
                ("one", [quantile(bounds, histogram(one), _HALF) for one in minutes]),
            ],
            f"{title} each minute: p50 {duration(half)}, p99 {duration(most)} over the hour",
        ),
    )
