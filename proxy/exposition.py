"""Tallies: what a process has counted, as plain numbers that travel, add up and become Prometheus' text.

A tally is a tree of mappings and lists with numbers as leaves. ``counters`` of a process that is gone still
count; its ``gauges`` went with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from proxy.accesslog import CALLER_LEFT

PREFIX = "connector_proxy_"
Tally = Mapping[str, Any]

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
ADDED_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
HISTOGRAMS: Mapping[str, tuple[tuple[float, ...], str]] = {
    "request_duration": (DURATION_BUCKETS, "From the request's head to the end of its answer"),
    "added_latency": (
        ADDED_BUCKETS,
        "Part of the duration not spent waiting for the service or the caller",
    ),
    "first_byte": (
        DURATION_BUCKETS,
        "From sending the request to the first byte of the service's answer",
    ),
}
_STATUSES = frozenset({*(int(status) for status in HTTPStatus), CALLER_LEFT})


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric of one number, or of several by ``label``. Two labels, and their values, are parted by spaces.

    ``shared``: a gauge that says the same in every process, so that workers' are not added to it.
    """

    text: str
    label: str = ""
    is_counter: bool = False
    shared: bool = False


FIXED: Mapping[str, Definition] = {
    "refusals": Definition("Answers made by the proxy, by code", "code", is_counter=True),
    "observed_refusals": Definition(
        "Requests that passed and that observing permits would have refused",
        "key service method path",
        is_counter=True,
    ),
    "token_echoes": Definition("Tokens masked in answers", is_counter=True),
    "denied_addresses": Definition("Addresses not dialled", "reason", is_counter=True),
    "refreshes": Definition("Refreshes of tokens, by outcome", "service outcome", is_counter=True),
    "upstream_connections": Definition("Connections to services", "event", is_counter=True),
}


def added(one: Any, other: Any) -> Any:
    """The sum of two tallies, place by place; what one does not have counts as nothing."""
    if isinstance(one, Mapping):
        return {
            **one,
            **{key: added(one[key], value) if key in one else value for key, value in other.items()},
        }
    if isinstance(one, list):
        return [first + second for first, second in zip(one, other, strict=True)]
    return one + other


def families(tally: Tally, definitions: Mapping[str, Definition]) -> Iterator[Metric]:
    """Prometheus' families of a tally."""
    counters, gauges = tally["counters"], tally["gauges"]
    yield from _per_service(counters["services"])
    for name, definition in definitions.items():
        value = (counters if definition.is_counter else gauges).get(name)
        if value is not None:
            yield family(name, definition, value)


def family(name: str, definition: Definition, value: float | Mapping[str, float]) -> Metric:
    """One metric; ``value`` is a map from label values where the definition has a label."""
    kind = CounterMetricFamily if definition.is_counter else GaugeMetricFamily
    labels = definition.label.split()
    made = kind(PREFIX + name, definition.text, labels=labels)
    if isinstance(value, Mapping):
        for key, number in value.items():
            made.add_metric(key.split(maxsplit=len(labels) - 1), number)
    else:
        made.add_metric([], value)
    return made


def _per_service(services: Mapping[str, Any]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        f"{PREFIX}requests", "Finished requests", labels=["service", "method", "status"]
    )
    traffic = CounterMetricFamily(
        f"{PREFIX}body_bytes", "Body bytes from (in) and to (out) callers", labels=["service", "direction"]
    )
    histograms = {
        name: HistogramMetricFamily(f"{PREFIX}{name}_seconds", text, labels=["service"])
        for name, (_, text) in HISTOGRAMS.items()
    }
    for service, counts in services.items():
        for place, count in counts["requests"].items():
            requests.add_metric([service, *place.split()], count)
        for direction, number in counts["bytes"].items():
            traffic.add_metric([service, direction], number)
        for name, (bounds, _) in HISTOGRAMS.items():
            *kept, in_all = counts[name]
            histograms[name].add_metric([service], buckets=cumulative(bounds, kept), sum_value=in_all)
    yield from (requests, traffic, *histograms.values())


def cumulative(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus' form of a histogram: (bound, number of values up to it), ending with ``+Inf``."""
    return list(zip((*map(str, bounds), "+Inf"), accumulate(counts), strict=True))


def by_label(requests: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """Unregistered statuses are counted by class, so that an upstream cannot make series."""
    out: dict[str, int] = {}
    for (method, status), count in requests.items():
        label = f"{method} {status if status in _STATUSES else f'{status // 100}xx'}"
        out[label] = out.get(label, 0) + count
    return out
