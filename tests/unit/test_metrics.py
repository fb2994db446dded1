"""Metrics: what is counted, under closed sets of labels, in a format that Prometheus reads."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy.metrics import ADDED_BUCKETS, DURATION_BUCKETS, OBSERVED_KEPT, Histogram, Metrics, shape_of
from proxy.problems import CODES


def make() -> Metrics:
    """Metrics of a catalog with two services."""
    return Metrics(services=("slack", "github"), codes=CODES, denials=("private",))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Everything exposed: (name, labels) -> value, read by Prometheus' own parser."""
    return {
        (sample.name.removeprefix("connector_proxy_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    """A key of ``samples``."""
    return tuple(sorted(values.items()))


def test_a_request_is_counted_by_service_method_class_and_status():
    """Finished requests, bytes and three durations, a service each."""
    metrics = make()
    slack = metrics.service("slack")
    for method in ("GET", "HEAD", "POST"):
        slack.record(method, 200, bytes_in=10, bytes_out=100, duration=0.02, added=0.0003, first_byte=0.019)
    slack.record("PROPFIND", 499, bytes_in=0, bytes_out=0, duration=1.0)
    found = samples(metrics)
    assert found["requests_total", labels(service="slack", method="read", status="200")] == 2
    assert found["requests_total", labels(service="slack", method="write", status="200")] == 1
    assert found["requests_total", labels(service="slack", method="other", status="499")] == 1
    assert found["body_bytes_total", labels(service="slack", direction="in")] == 30
    assert found["body_bytes_total", labels(service="slack", direction="out")] == 300
    assert found["request_duration_seconds_count", labels(service="slack")] == 4
    assert found["request_duration_seconds_sum", labels(service="slack")] == pytest.approx(1.06)
    assert found["request_duration_seconds_bucket", labels(service="slack", le="0.025")] == 3
    assert found["added_latency_seconds_count", labels(service="slack")] == 3
    assert found["added_latency_seconds_bucket", labels(service="slack", le="0.00025")] == 0
    assert found["added_latency_seconds_bucket", labels(service="slack", le="0.0005")] == 3
    assert found["first_byte_seconds_count", labels(service="slack")] == 3
    assert not any(("service", "github") in key for _, key in found)


def test_labels_come_from_closed_sets_whatever_callers_and_services_send():
    """R158: unknown services, codes, reasons, methods and statuses make no series of their own."""
    metrics = make()
    for number in range(200):
        metrics.service(f"evil{number}").record(
            f"M{number}", 600 + number, bytes_in=0, bytes_out=0, duration=0
        )
        metrics.refused(f"code{number}")
        metrics.denied(f"reason{number}")
    found = samples(metrics)
    assert found["requests_total", labels(service="none", method="other", status="6xx")] == 100
    assert found["refusals_total", labels(code="none")] == 200
    assert found["denied_addresses_total", labels(reason="none")] == 200
    services = {value for _, key in found for name, value in key if name == "service"}
    assert services == {"none"}
    assert len(found) < 150


def test_refusals_are_counted_by_code_from_zero():
    """R157: every code is there before it happens, so that a rate over it is right from the first."""
    metrics = make()
    metrics.refused("invalid_key")
    metrics.denied("private")
    found = samples(metrics)
    assert found["refusals_total", labels(code="invalid_key")] == 1
    assert found["refusals_total", labels(code="upstream_tls")] == 0
    assert found["denied_addresses_total", labels(reason="private")] == 1
    assert {value for name, key in found if name == "refusals_total" for _, value in key} == {*CODES, "none"}


def test_upstream_connections_and_callbacks_are_read_when_asked():
    """Gauges cost nothing until somebody looks."""
    metrics = make()
    state = {"in_flight": 3}
    metrics.upstream.opened += 2
    metrics.upstream.reused += 5
    metrics.gauge("in_flight", "Requests being served", lambda: state["in_flight"])
    metrics.gauge("pool", "Connections", lambda: {"idle": 1, "busy": 2}, label="state")
    metrics.counter("log_events_dropped", "Events lost", lambda: 7)
    state["in_flight"] = 4
    found = samples(metrics)
    assert found["in_flight", ()] == 4
    assert found["pool", labels(state="busy")] == 2
    assert found["log_events_dropped_total", ()] == 7
    assert found["upstream_connections_total", labels(event="opened")] == 2
    assert found["upstream_connections_total", labels(event="reused")] == 5


def test_every_name_begins_with_the_programs():
    """Names outside ``connector_proxy_`` could collide with others on a shared page."""
    text = make().exposition().decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names
    assert all(name.startswith("connector_proxy_") for name in names)
    assert 'connector_proxy_build_info{version="' in text


def test_services_of_a_reloaded_catalog_are_added_and_counters_stay():
    """R160: a reload resets nothing."""
    metrics = make()
    metrics.service("slack").record("GET", 200, bytes_in=0, bytes_out=0, duration=0)
    metrics.set_services(["slack", "mine"])
    metrics.service("mine").record("GET", 200, bytes_in=0, bytes_out=0, duration=0)
    found = samples(metrics)
    for service in ("slack", "mine"):
        assert found["requests_total", labels(service=service, method="read", status="200")] == 1


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_counts_every_value_once(values: list[float]):
    """Buckets are inclusive upper bounds, cumulative, and end with the number of all values."""
    histogram = Histogram(DURATION_BUCKETS)
    for value in values:
        histogram.observe(value)
    cumulative = dict(histogram.cumulative())
    for bound in DURATION_BUCKETS:
        assert cumulative[str(bound)] == sum(value <= bound for value in values)
    assert cumulative["+Inf"] == len(values)
    assert histogram.total == pytest.approx(sum(values))


@given(st.floats(0, 500), st.floats(0, 2))
def test_recording_a_request_and_observing_a_value_agree(duration: float, added: float):
    """The unrolled additions of the hot path are those of ``observe``."""
    one = make().service("slack")
    one.record("GET", 200, bytes_in=0, bytes_out=0, duration=duration, added=added, first_byte=duration)
    expected = Histogram(DURATION_BUCKETS)
    expected.observe(duration)
    assert one.duration.counts == one.first_byte.counts == expected.counts
    assert one.added.counts[bisect_left(ADDED_BUCKETS, added)] == 1


def test_observed_refusals_are_bounded_and_show_no_ids():
    """Shapes of paths, in which nothing but names stands; of calls beyond a number only the key is told (R157)."""
    metrics = make()
    for number in range(OBSERVED_KEPT):
        metrics.observed(f"key{number}", "slack", "POST", "/slack/api/chat.delete?ts=1")
    metrics.observed("key0", "slack", "POST", "/slack/api/chat.delete")
    for number in range(300):
        metrics.observed("new", "slack", "POST", f"/slack/api/{chr(97 + number % 26)}{number}x")
        metrics.observed("new", "slack", "POST", f"/slack/api/method.{'a' * (number % 30)}")
    metrics.observed("a key", "slack", "NOPE", "/slack/v1.0/a1b2/cpk_secret%20/x y/")
    counted = metrics.observed_refusals()
    assert len(counted) == OBSERVED_KEPT + 2
    assert counted["key0", "slack", "POST", "/slack/api/chat.delete"] == 2
    assert counted["new", "other", "other", "other"] == 600
    assert counted["a_key", "other", "other", "other"] == 1
    assert b'key="key1",' in metrics.exposition()
    assert shape_of("/slack/v1.0/a1b2/cpk_secret%20/x y/") == "/slack/v1.0/*/*/*/*"
