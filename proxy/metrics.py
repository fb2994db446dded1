"""Counters and histograms of the data path, and their Prometheus exposition.

Recording is a few additions to plain Python values on the event loop's thread; prometheus_client only renders
them when asked. Every label comes from a closed set: service ids of the catalog, codes of ``problems``,
method classes, registered statuses (R158).
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import reduce

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.exposition import (
    ADDED_BUCKETS,
    DURATION_BUCKETS,
    FIXED,
    Definition,
    Tally,
    added,
    by_label,
    cumulative,
    families,
    family,
)
from proxy.keycalls import METHOD_CLASS, KeyCalls

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NONE = "none"


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
        return cumulative(self.bounds, self.counts)

    def tally(self) -> list[float]:
        """The counts and, last, the sum of the values."""
        return [*self.counts, self.total]


OBSERVED_KEPT = 2000  # as many as the vault keeps; of what comes then only the key is told
_SEGMENTS = 9
_NAME = re.compile(r"v[0-9][0-9.]*|[A-Za-z~@][A-Za-z._:@~-]{0,39}", re.ASCII)


def shape_of(target: str) -> str:
    """A target's path with what may be an id, or anything else than a name, as ``*``; without query."""
    segments = target.partition("?")[0].split("/")[1:_SEGMENTS]
    return "/" + "/".join(one if _NAME.fullmatch(one) else "*" for one in segments)


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
        place = (METHOD_CLASS.get(method, "other"), status)
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


@dataclass(slots=True, eq=False)
class Metrics(Collector):
    """All metrics of a process, and of those whose tallies ``others`` gives.

    Args:
        services: type ids of the catalog; anything else is counted under ``none``.
        codes: codes of ``problems``; likewise.
        denials: reasons of ``forwarding.addresses``; likewise.
    """

    services: Iterable[str]
    codes: Iterable[str]
    denials: Iterable[str] = ()
    upstream: UpstreamCounters = field(default_factory=UpstreamCounters)
    calls: KeyCalls = field(default_factory=KeyCalls)
    echoes: int = 0
    others: Callable[[], Iterable[Tally]] = tuple
    _by_service: dict[str, ServiceMetrics] = field(init=False)
    _refusals: dict[str, int] = field(init=False)
    _observed: dict[str, int] = field(init=False, default_factory=dict)
    _denied: dict[str, int] = field(init=False)
    _refreshes: dict[str, int] = field(init=False, default_factory=dict)
    _definitions: dict[str, Definition] = field(init=False, default_factory=lambda: {**FIXED})
    _callbacks: dict[str, Callable[[], float | Mapping[str, float]]] = field(init=False, default_factory=dict)
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

    def observed(self, key_id: str, service: str | None, method: str, target: str) -> None:
        """Count a request that passed and that an observing permit would have refused.

        Args:
            key_id: whose permit.
            service: what was called.
            method: as the caller sent it.
            target: likewise; only its shape is kept.
        """
        key = "_".join(key_id.split())
        method = method if method in METHOD_CLASS else "other"
        place = f"{key} {self.service(service).service} {method} {shape_of(target)}"
        if place not in self._observed and len(self._observed) >= OBSERVED_KEPT:
            place = f"{key} other other other"
        self._observed[place] = self._observed.get(place, 0) + 1

    def counted(self, name: str) -> Mapping[tuple[str, ...], int]:
        """``observed_refusals`` or ``key_calls`` of all processes since they started, by place."""
        counted = self.whole()["counters"].get(name, {})
        return {tuple(place.split()): count for place, count in counted.items()}

    def observed_refusals(self) -> Mapping[tuple[str, ...], int]:
        """(key id, service, method, shape of the path) -> requests, of all processes since they started."""
        return self.counted("observed_refusals")

    def denied(self, reason: str) -> None:
        """Count an address that was not dialled, by reason."""
        self._denied[reason if reason in self._denied else NONE] += 1

    def refreshed(self, service: str, outcome: str) -> None:
        """Count what a refresh came to; ``outcome`` is one of ``connectors.refresh.events.OUTCOMES``."""
        place = f"{self.service(service).service} {outcome}"
        self._refreshes[place] = self._refreshes.get(place, 0) + 1

    def gauge(
        self,
        name: str,
        text: str,
        read: Callable[[], float | Mapping[str, float]],
        *,
        label: str = "",
        shared: bool = False,
    ) -> None:
        """Expose ``connector_proxy_{name}``, read when asked; with ``label`` a map from its values.

        Label values must come from a closed set. Workers' gauges are added up, except ``shared`` ones, which
        say the same in every process.
        """
        self._definitions[name] = Definition(text, label, shared=shared)
        self._callbacks[name] = read

    def counter(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], *, label: str = ""
    ) -> None:
        """The same for a number that only grows; ``_total`` is added to the name."""
        self._definitions[name] = Definition(text, label, is_counter=True)
        self._callbacks[name] = read

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """What is exposed besides that of services."""
        return self._definitions

    def define(self, definitions: Mapping[str, Definition]) -> None:
        """Expose also what only the others count."""
        self._definitions = {**definitions, **self._definitions}

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4 (:data:`CONTENT_TYPE`); no I/O but reading /proc."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client's registry."""
        version = Definition("Version of the running program", "version")
        yield family("build_info", version, {__version__: 1})
        yield from families(self.whole(), self._definitions)

    def whole(self) -> Tally:
        """What this process and the others have counted."""
        return reduce(added, self.others(), self.tally())

    def tally(self, *, for_others: bool = False) -> Tally:
        """What this process has counted; without ``shared`` gauges when others are to add it to theirs."""
        counters: dict[str, object] = {
            "services": {
                name: _service_tally(counts) for name, counts in self._by_service.items() if counts.requests
            },
            "refusals": {**self._refusals},
            "observed_refusals": {**self._observed},
            "key_calls": self.calls.tally(),  # for the vault; no metric, for keys are many
            "token_echoes": self.echoes,
            "denied_addresses": {**self._denied},
            "refreshes": {**self._refreshes},
            "upstream_connections": {
                one.name: getattr(self.upstream, one.name) for one in fields(self.upstream)
            },
        }
        gauges: dict[str, object] = {}
        for name, read in self._callbacks.items():
            definition = self._definitions[name]
            if not (for_others and definition.shared):
                (counters if definition.is_counter else gauges)[name] = read()
        return {"counters": counters, "gauges": gauges}


def _service_tally(counts: ServiceMetrics) -> Tally:
    return {
        "requests": by_label(counts.requests),
        "bytes": {"in": counts.bytes_in, "out": counts.bytes_out},
        "request_duration": counts.duration.tally(),
        "added_latency": counts.added.tally(),
        "first_byte": counts.first_byte.tally(),
    }
