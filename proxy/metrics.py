"""Counters and histograms of the data path, and their Prometheus exposition.

Recording is a few additions to plain Python values on the event loop's thread; prometheus_client only renders
them when asked. Every label comes from a closed set: service ids of the catalog, codes of ``problems``,
method classes, registered statuses (R158).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.log import CALLER_LEFT

PREFIX = "connector_proxy_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NONE = "none"

_METHOD_CLASS: Mapping[str, str] = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS"), "read"),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), "write"),
}
_STATUSES = frozenset({*(int(status) for status in HTTPStatus), CALLER_LEFT})

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
ADDED_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Histogram:
    """Counts by bucket: upper bounds in seconds, inclusive; the last place is for what is over all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' form: (bound, number of values up to it), ending with ``+Inf``."""
        seen = 0
        out: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            out.append((bound, seen))
        return out


class ServiceMetrics:
    """What is counted for one service; look it up once and keep it."""

    __slots__ = ("added", "bytes_in", "bytes_out", "duration", "first_byte", "requests", "service")

    def __init__(self, service: str) -> None:
        self.service = service
        self.requests: dict[tuple[str, int], int] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.duration = Histogram(DURATION_BUCKETS)
        self.added = Histogram(ADDED_BUCKETS)
        self.first_byte = Histogram(DURATION_BUCKETS)

    def record(
        self,
        method: str,
        status: int,
        *,
        bytes_in: int,
        bytes_out: int,
        duration: float,
        added: float | None = None,
        first_byte: float | None = None,
    ) -> None:
        """Count one finished request.

        Args:
            method: as the caller sent it.
            status: what the caller got, or 499.
            bytes_in: body bytes from the caller.
            bytes_out: body bytes to the caller.
            duration: seconds in all.
            added: seconds of it not spent waiting for the service; None when nothing was forwarded.
            first_byte: seconds from sending to the first byte of the answer; None when there was none.
        """
        place = (_METHOD_CLASS.get(method, "other"), status)
        try:
            self.requests[place] += 1
        except KeyError:
            self.requests[place] = 1
        if bytes_in:
            self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        histogram = self.duration  # what observe() does, without the calls
        histogram.counts[bisect_left(DURATION_BUCKETS, duration)] += 1
        histogram.total += duration
        if added is not None:
            histogram = self.added
            histogram.counts[bisect_left(ADDED_BUCKETS, added)] += 1
            histogram.total += added
        if first_byte is not None:
            histogram = self.first_byte
            histogram.counts[bisect_left(DURATION_BUCKETS, first_byte)] += 1
            histogram.total += first_byte


@dataclass(slots=True)
class UpstreamCounters:
    """Connections to services, and requests sent once more on another: add to the fields directly."""

    opened: int = 0
    reused: int = 0
    failed: int = 0
    retried: int = 0
    replayed: int = 0


@dataclass(frozen=True, slots=True)
class _Callback:
    name: str
    text: str
    read: Callable[[], float | Mapping[str, float]]
    label: str
    is_counter: bool


@dataclass(slots=True, eq=False)
class Metrics(Collector):
    """All metrics of a process.

    Args:
        services: type ids of the catalog; anything else is counted under ``none``.
        codes: codes of ``problems``; likewise.
        denials: reasons of ``forwarding.addresses``; likewise.
    """

    services: Iterable[str]
    codes: Iterable[str]
    denials: Iterable[str] = ()
    upstream: UpstreamCounters = field(default_factory=UpstreamCounters)
    echoes: int = 0
    _by_service: dict[str, ServiceMetrics] = field(init=False)
    _refusals: dict[str, int] = field(init=False)
    _denied: dict[str, int] = field(init=False)
    _callbacks: list[_Callback] = field(init=False, default_factory=list)
    _registry: CollectorRegistry = field(init=False)

    def __post_init__(self) -> None:
        self._by_service = {name: ServiceMetrics(name) for name in (*self.services, NONE)}
        self._refusals = dict.fromkeys((*self.codes, NONE), 0)
        self._denied = dict.fromkeys((*self.denials, NONE), 0)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(namespace="connector_proxy", registry=self._registry)

    def service(self, type_id: str | None) -> ServiceMetrics:
        """The service's counters; those of ``none`` for an unknown one."""
        found = self._by_service.get(type_id or NONE)
        return self._by_service[NONE] if found is None else found

    def set_services(self, type_ids: Iterable[str]) -> None:
        """After a reload of the catalog: add new services; counters of earlier ones stay."""
        for type_id in type_ids:
            self._by_service.setdefault(type_id, ServiceMetrics(type_id))

    def refused(self, code: str) -> None:
        """Count an answer made by the proxy, by its code."""
        self._refusals[code if code in self._refusals else NONE] += 1

    def denied(self, reason: str) -> None:
        """Count an address that was not dialled, by reason."""
        self._denied[reason if reason in self._denied else NONE] += 1

    def gauge(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], *, label: str = ""
    ) -> None:
        """Expose ``connector_proxy_{name}``, read when asked; with ``label`` a map from its values.

        Label values must come from a closed set.
        """
        self._callbacks.append(_Callback(name, text, read, label, is_counter=False))

    def counter(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], *, label: str = ""
    ) -> None:
        """The same for a number that only grows; ``_total`` is added to the name."""
        self._callbacks.append(_Callback(name, text, read, label, is_counter=True))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4 (:data:`CONTENT_TYPE`); no I/O but reading /proc."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client's registry."""
        yield _family(
            "build_info", "Version of the running program", {__version__: 1}, "version", is_counter=False
        )
        yield from self._per_service()
        yield _family(
            "refusals", "Answers made by the proxy, by code", self._refusals, "code", is_counter=True
        )
        yield _family("token_echoes", "Tokens masked in answers", self.echoes, "", is_counter=True)
        yield _family("denied_addresses", "Addresses not dialled", self._denied, "reason", is_counter=True)
        upstream = self.upstream
        events = {
            "opened": upstream.opened,
            "reused": upstream.reused,
            "failed": upstream.failed,
            "retried": upstream.retried,
            "replayed": upstream.replayed,
        }
        yield _family("upstream_connections", "Connections to services", events, "event", is_counter=True)
        for callback in self._callbacks:
            value = callback.read()
            yield _family(callback.name, callback.text, value, callback.label, is_counter=callback.is_counter)

    def _per_service(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{PREFIX}requests", "Finished requests", labels=["service", "method", "status"]
        )
        traffic = CounterMetricFamily(
            f"{PREFIX}body_bytes",
            "Body bytes from (in) and to (out) callers",
            labels=["service", "direction"],
        )
        histograms = {
            name: HistogramMetricFamily(f"{PREFIX}{name}_seconds", text, labels=["service"])
            for name, text in _HISTOGRAMS.items()
        }
        for service, counts in self._by_service.items():
            if not counts.requests:
                continue
            for place, count in _by_label(counts.requests).items():
                requests.add_metric([service, *place], count)
            traffic.add_metric([service, "in"], counts.bytes_in)
            traffic.add_metric([service, "out"], counts.bytes_out)
            for name, kept in zip(
                _HISTOGRAMS, (counts.duration, counts.added, counts.first_byte), strict=True
            ):
                histograms[name].add_metric([service], buckets=kept.cumulative(), sum_value=kept.total)
        yield from (requests, traffic, *histograms.values())


_HISTOGRAMS = {
    "request_duration": "From the request's head to the end of its answer",
    "added_latency": "Part of the duration not spent waiting for the service or the caller",
    "first_byte": "From sending the request to the first byte of the service's answer",
}


def _by_label(requests: Mapping[tuple[str, int], int]) -> dict[tuple[str, str], int]:
    """Unregistered statuses are counted by class, so that an upstream cannot make series."""
    out: dict[tuple[str, str], int] = {}
    for (method, status), count in requests.items():
        label = str(status) if status in _STATUSES else f"{status // 100}xx"
        out[method, label] = out.get((method, label), 0) + count
    return out


def _family(
    name: str, text: str, value: float | Mapping[str, float], label: str, *, is_counter: bool
) -> Metric:
    kind = CounterMetricFamily if is_counter else GaugeMetricFamily
    family = kind(PREFIX + name, text, labels=[label] if label else [])
    if isinstance(value, Mapping):
        for key, number in value.items():
            family.add_metric([key], number)
    else:
        family.add_metric([], value)
    return family
