"""What each key did, day by day: counted over instances, then a row of the audit for each key (R157)."""

import itertools

import pytest
from support.stores import VaultPlace
from support.vaults import NOW, Clock

from proxy.accesslog import Row
from proxy.connectors.audit import About
from proxy.connectors.key_days import MOST_TOLD, day_of
from proxy.forwarding.record import Recorder
from proxy.forwarding.timeline import Timeline
from proxy.keycalls import KEPT, KeyCalls
from proxy.metrics import Metrics

pytestmark = pytest.mark.usefixtures("runner")
DAY = 86_400.0
CONNECTIONS = tuple(f"c{at}" for at in range(11))
READ = ("k1", "slack", "work", "read", "2xx")


class Lines(list[Row]):
    """Events as they are told."""

    def emit(self, event: Row) -> None:
        self.append(event)


async def test_a_day_is_a_row_for_each_key_once_it_is_over(place: VaultPlace) -> None:
    """Two instances count one day together; the audit has it afterwards, by key, in the chain, and only once."""
    clock = Clock()
    async with place.opened(clock=clock) as one, place.opened(clock=clock) as two:
        await one.add_key_calls({READ: 2, ("k2", "box", "-", "write", "refused"): 1})
        await two.add_key_calls({READ: 3, ("k1", "slack", "work", "write", "4xx"): 1})
        await one.prune_audit()
        assert await one.audit() == (), "the day is not over"
        clock.now += DAY
        await two.add_key_calls({READ: 1})
        await one.add_key_calls({READ: 1})
        (row,) = await one.audit(about=About(key="k1"))
        assert (row.actor, row.action, row.subject) == ("proxy", "key.used", "k1")
        assert row.detail == {
            "day": day_of(NOW),
            "requests": 6,
            "calls": {"slack@work read 2xx": 5, "slack@work write 4xx": 1},
        }
        assert len(await one.audit()) == 2
        clock.now += DAY
        await one.prune_audit()  # nobody called, and the day before is told all the same
        newest, _ = await one.audit(about=About(key="k1"))
        assert newest.detail["requests"] == 2
        assert (await one.verify_audit()).faults == ()


async def test_a_row_has_an_end(place: VaultPlace) -> None:
    """A key that called very many accounts has a row of bounded length, whose sum is right."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await vault.add_key_calls({("k", "slack", f"c{at}", "read", "2xx"): 2 for at in range(MOST_TOLD + 5)})
        clock.now += DAY
        await vault.prune_audit()
        (row,) = await vault.audit(about=About(key="k"))
        assert (row.detail["requests"], row.detail["more"], len(row.detail["calls"])) == (
            2 * (MOST_TOLD + 5),
            10,
            MOST_TOLD,
        )


def test_what_is_counted_in_a_process_has_an_end() -> None:
    """Of calls beyond a number of places only the key is told, so that none is lost, however many accounts (R158)."""
    calls = KeyCalls()
    calls.count(("declared:a b", "slack", None, "other", "2xx"))
    calls.count(("k", None, None, "read", "refused"))
    assert calls.tally() == {"declared:a_b slack - other 2xx": 1, "k - - read refused": 1}
    for at in range(KEPT):
        calls.count(("k", "slack", f"c{at}", "write", "2xx"))
    calls.count(("new", "slack", "work", "write", "2xx"))
    calls.count(("new", "slack", "home", "write", "4xx"))
    assert len(calls.tally()) == KEPT + 2
    assert (calls.tally()["k - - other other"], calls.tally()["new - - other other"]) == (2, 2)


def test_a_place_has_the_class_of_a_status() -> None:
    """A service that answers with many statuses takes no more places than there are classes (R158)."""
    metrics = Metrics(["slack"], [])
    recorder = Recorder(metrics, Lines(), lambda: 0.0, lambda: NOW)
    statuses = range(200, 600)
    for connection, status in itertools.product(CONNECTIONS, statuses):
        record = recorder.begin("GET", "/slack/x")
        record.key_id, record.service, record.connection, record.status = "k", "slack", connection, status
        recorder.end(record, Timeline(), "127.0.0.1")
    record = recorder.begin("GET", "/slack/x")
    record.key_id, record.status, record.outcome = "k", 404, "refused"
    recorder.end(record, Timeline(), "127.0.0.1")
    assert len(CONNECTIONS) * len(statuses) > KEPT
    classes = {f"k slack {name} read {first}xx": 100 for name in CONNECTIONS for first in range(2, 6)}
    assert metrics.calls.tally() == {**classes, "k - - read refused": 1}
