"""Rates and numbers of requests at once that keys are held to; time is what the test says."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.steps import record

from proxy.errors import RateLimited
from proxy.forwarding.keylimits import KeyLimits
from proxy.keys import UNIX, Rate, network_text, parse_network, parse_rate

RATES = st.builds(Rate, st.integers(1, 50), st.sampled_from([1, 60, 3600]))


def passes(limits: KeyLimits, rate: Rate, now: float) -> float:
    """0 when a request of the key passes at ``now``, else after how many seconds it is told to come back."""
    try:
        with limits.place(record("*", rate=rate), now):
            return 0.0
    except RateLimited as error:
        return error.retry_after or 0.0


@given(rate=RATES, gaps=st.lists(st.floats(0, 30), min_size=1, max_size=120), share=st.integers(1, 4))
def test_no_stretch_of_time_has_more_than_the_rate(rate, gaps, share):
    """In any stretch of time, a process lets pass its share of the rate for that time and of one full bucket (R64)."""
    limits, now, passed = KeyLimits(share), 1000.0, []
    for gap in gaps:
        now += gap
        if passes(limits, rate, now) == 0:
            passed.append(now)
    for first in range(len(passed)):
        length = passed[-1] - passed[first]
        most = max(1.0, rate.requests / share) + length * rate.requests / rate.seconds / share
        assert len(passed) - first <= most + 1e-6


@given(rate=RATES, asked=st.integers(0, 80))
def test_who_waits_as_told_passes(rate, asked):
    """A key at rest may spend its whole rate at once; then the time that it is told is enough, and less is not (R64)."""
    limits = KeyLimits()
    assert [passes(limits, rate, 5.0) for _ in range(rate.requests)] == [0.0] * rate.requests
    for _ in range(asked):
        wait = passes(limits, rate, 5.0)
    wait = passes(limits, rate, 5.0)
    assert 0 < wait <= rate.seconds / rate.requests + 1e-9
    assert passes(limits, rate, 5.0 + wait * 0.9) > 0
    assert passes(limits, rate, 5.0 + wait + 1e-6) == 0


def test_keys_do_not_share_limits():
    """One key's haste is not another's; a changed rate counts at once, downwards too (R64)."""
    limits, slow = KeyLimits(), Rate(1, 3600)
    assert passes(limits, slow, 0.0) == 0
    with limits.place(record("*", key=b"cpk_AAAAAAAA_x", rate=slow), 0.0):
        pass
    assert passes(limits, slow, 1.0) > 3000
    assert passes(limits, Rate(100, 1), 1.1) == 0


def test_requests_at_once():
    """A place is taken for as long as its request lasts, given back however it ends, and divided among processes (R64)."""
    key, limits = record("*", concurrency=3), KeyLimits(2)
    with ExitStack() as stack:
        stack.enter_context(limits.place(key, 0.0))
        with pytest.raises(ZeroDivisionError), limits.place(key, 0.0):
            raise ZeroDivisionError
        stack.enter_context(limits.place(key, 0.0))
        with pytest.raises(RateLimited) as caught, limits.place(key, 0.0):
            pass
        assert caught.value.retry_after == 1.0
    with limits.place(key, 0.0):
        pass


def test_refused_requests_cost_nothing_of_the_rate():
    """A request that finds no place takes nothing from the rate (R64)."""
    key, limits = record("*", concurrency=1, rate=Rate(2, 3600)), KeyLimits()
    with limits.place(key, 0.0):
        for _ in range(9):
            with pytest.raises(RateLimited), limits.place(key, 0.0):
                pass
    with limits.place(key, 0.0):
        pass


def test_memory_is_bounded_by_keys_in_use():
    """What keys used long ago is forgotten once there are many (R64)."""
    limits = KeyLimits()
    for number in range(3000):
        with limits.place(record("*", key=b"cpk_%08d_x" % number, rate=Rate(1, 1)), float(number * 10)):
            pass
    assert len(limits._uses) < 1500


@pytest.mark.parametrize("text", ["10/s", "100/m", "1/h", "999999/s"])
def test_rates_read_back(text):
    """A rate prints as the text that it was made of."""
    assert str(parse_rate(text)) == text


@pytest.mark.parametrize(
    "text", ["", "10", "0/s", "-1/s", "10/d", "1.5/s", "10/S", "10/s ", "1000000/s", "\u0661/s"]
)
def test_malformed_rates(text):
    """What is no rate is named, with what would be one (R160)."""
    with pytest.raises(ValueError) as caught:
        parse_rate(text)
    assert "10/s" in str(caught.value)
    with pytest.raises(ValueError):
        Rate(0, 1)


def test_networks_read_back():
    """``unix`` is a network like others; what is none is named (R160)."""
    assert parse_network("unix") == UNIX
    assert [network_text(parse_network(text)) for text in ("unix", "10.0.0.0/8", "::1")] == [
        "unix",
        "10.0.0.0/8",
        "::1/128",
    ]
    with pytest.raises(ValueError) as caught:
        parse_network("10.0.0.0/99")
    assert "'10.0.0.0/99'" in str(caught.value)


def test_a_batch_counts_for_what_is_in_it():
    """A batch passes while one request is left, and the rest of what it costs is waited for by those behind it (R64)."""
    limits, rate = KeyLimits(), Rate(10, 1)
    with limits.place(record("*", rate=rate), 0.0, 30):
        pass
    assert passes(limits, rate, 1.0) == pytest.approx(1.1)
    assert passes(limits, rate, 2.0) > 0
    assert passes(limits, rate, 2.1 + 1e-6) == 0
