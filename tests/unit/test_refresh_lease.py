"""Who may refresh, when again, and who is dead: decided without I/O."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from proxy.connectors.lifetimes import margin, refresh_time
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.refresh.lease import (
    FORCED_S,
    LAST_WAIT_S,
    LONGEST_WAIT_S,
    Claimed,
    ForcedLately,
    HeldBy,
    Intent,
    Interrupted,
    Lease,
    Newer,
    NotBefore,
    Standing,
    Unsearched,
    Unusable,
    Wanted,
    after,
    judge,
    wait_after,
)
from proxy.connectors.refresh.owner import Owner, is_dead, parse_owner, this_process
from proxy.connectors.refresh.ways import Way
from proxy.secret import Secret

NOW = 1_800_000_000.0
STRICT = Way("refresh", Secret("spend"), repeatable=False, grace_s=0.0)
TOKENS = Tokens(Secret("a"), Secret("spend"))
LIVING = Connection("con_1", "slack", "main", is_default=True, generation=4, expires_at=NOW + 600)
TRIED = Intent("att_1", b"mark", 4, NOW - 5, 0)


def standing(**changes: Any) -> Standing:
    given = Standing(LIVING, TOKENS, STRICT, b"mark", Lease(fence=2), is_copy=False)
    return replace(given, **changes)


def lease(**changes: Any) -> Lease:
    return Lease(fence=2, **changes)


@pytest.mark.parametrize(
    ("found", "wanted", "verdict"),
    [
        (standing(), Wanted(4), None),
        (standing(), Wanted(3), Newer(4)),
        (standing(tokens=None), Wanted(4), Unusable("damaged")),
        (standing(way=None), Wanted(4), Unusable("nothing")),
        (standing(is_copy=True), Wanted(4), Unusable("copy")),
        (standing(connection=replace(LIVING, state="frozen", cause="operator")), Wanted(4), Unusable("frozen", "operator")),
        (standing(connection=replace(LIVING, state="reauthorization_required", cause="x")), Wanted(4), Unusable("dead", "x")),
        (standing(lease=lease(owner="o", beat=7)), Wanted(4), HeldBy("o", 2, 7)),
        (standing(lease=lease(owner="o", beat=7)), Wanted(4, takeover=(2, 6)), HeldBy("o", 2, 7)),
        (standing(lease=lease(owner="o", beat=7)), Wanted(4, takeover=(2, 7)), None),
        (standing(lease=lease(retry_at=NOW + 20, last_error="busy")), Wanted(4), NotBefore(NOW + 20, "busy")),
        (standing(lease=lease(retry_at=NOW - 1)), Wanted(4), None),
        (standing(lease=lease(retry_at=NOW + LONGEST_WAIT_S + 1)), Wanted(4), None),
        (standing(lease=lease(retry_at=NOW + 20, last_error="e", refused_app="a")), Wanted(4, app="a"), NotBefore(NOW + 20, "e")),
        (standing(lease=lease(retry_at=NOW + 20, last_error="e", refused_app="a")), Wanted(4, app="b"), None),
        (standing(lease=lease(forced_at=NOW - 1)), Wanted(4, forced=True), ForcedLately(NOW - 1 + FORCED_S)),
        (standing(lease=lease(forced_at=NOW - 1)), Wanted(4), None),
        (standing(lease=lease(forced_at=NOW - FORCED_S - 1)), Wanted(4, forced=True), None),
        (standing(lease=lease(forced_at=NOW + 7200)), Wanted(4, forced=True), None),
    ],
)  # fmt: skip
def test_a_claim(found: Standing, wanted: Wanted, verdict: object) -> None:
    """The lease goes to one asker, for a generation nobody has replaced, when it is time (R110-R112, R120, R122, R127).

    A wait that no clock of ours can have set is none (R125).
    """
    assert judge(found, wanted, NOW) == verdict


@pytest.mark.parametrize(
    ("found", "wanted", "verdict"),
    [
        (standing(lease=lease(intent=TRIED)), Wanted(4, searched=2), Interrupted(TRIED, NOW + 599)),
        (standing(lease=lease(intent=TRIED)), Wanted(4, searched=2, forced=True), None),
        (standing(lease=lease(intent=replace(TRIED, mark=b"other"))), Wanted(4, searched=2), None),
        (standing(lease=lease(intent=replace(TRIED, generation=3))), Wanted(4, searched=2), None),
        (standing(lease=lease(intent=TRIED, owner="o")), Wanted(4, searched=2, takeover=(2, 0)), Interrupted(TRIED, NOW + 599)),
        (standing(lease=lease(intent=TRIED), connection=replace(LIVING, expires_at=NOW + 1)), Wanted(4, searched=2), None),
        (standing(lease=lease(intent=TRIED), connection=replace(LIVING, expires_at=None)), Wanted(4, searched=2), Interrupted(TRIED, None)),
        (standing(lease=lease(intent=TRIED), way=replace(STRICT, repeatable=True)), Wanted(4, searched=2), None),
        (standing(lease=lease(intent=TRIED), way=replace(STRICT, grace_s=10.0)), Wanted(4, searched=2), None),
        (standing(lease=lease(intent=TRIED), way=replace(STRICT, grace_s=4.0)), Wanted(4, searched=2), Interrupted(TRIED, NOW + 599)),
    ],
)  # fmt: skip
def test_an_interrupted_attempt(found: Standing, wanted: Wanted, verdict: object) -> None:
    """A grant that may be spent is asked with again only in its grace time, or when nothing else is left (R117, R121)."""
    assert judge(found, wanted, NOW) == verdict


@pytest.mark.parametrize(
    ("found", "wanted", "verdict"),
    [
        (standing(lease=lease(intent=TRIED)), Wanted(4), Unsearched(2, 4)),
        (standing(lease=lease(intent=TRIED)), Wanted(4, searched=1), Unsearched(2, 4)),
        (standing(lease=lease(intent=TRIED)), Wanted(4, forced=True), Unsearched(2, 4)),
        (standing(lease=lease(intent=TRIED), way=replace(STRICT, repeatable=True)), Wanted(4), Unsearched(2, 4)),
        (standing(lease=lease(intent=TRIED, owner="o")), Wanted(4, takeover=(2, 0)), Unsearched(2, 4)),
        (standing(lease=lease(intent=TRIED, owner="o")), Wanted(4), HeldBy("o", 2, 0)),
        (standing(lease=lease(intent=TRIED)), Wanted(3), Newer(4)),
        (standing(lease=lease(intent=replace(TRIED, generation=3))), Wanted(4), None),
    ],
)  # fmt: skip
def test_an_attempt_whose_answer_may_lie_in_the_journal(
    found: Standing, wanted: Wanted, verdict: object
) -> None:
    """Nobody goes on from an open attempt before the journal was searched since that very attempt (R117, R118)."""
    assert judge(found, wanted, NOW) == verdict


def claimed(**changes: Any) -> Claimed:
    return replace(Claimed(3, "att_2", LIVING, TOKENS, STRICT, 0, 0, NOW), **changes)


def test_back_off_doubles_to_a_quarter_of_an_hour() -> None:
    """30 s, doubling to 15 min, with up to a quarter of jitter on top (R122)."""
    assert [wait_after(n, 0.0) for n in range(1, 8)] == [30, 60, 120, 240, 480, 900, 900]
    assert wait_after(1, 1.0) == 37.5
    assert wait_after(10_000, 0.0) == 900


def test_what_a_failure_leaves() -> None:
    """Waits honour Retry-After up to an hour; only an unknown end keeps the intent, and earlier ones stay (R121, R122)."""
    busy = after(claimed(failures=1), "busy", NOW, retry_after=300.0, spread=0.0)
    assert (busy.failures, busy.retry_at, busy.keeps_intent) == (2, NOW + 300, False)
    assert after(claimed(), "busy", NOW, retry_after=1e9, spread=0.0).retry_at == NOW + LONGEST_WAIT_S
    assert after(claimed(unknowns=2), "not_sent", NOW, retry_after=None, spread=0.0).keeps_intent
    assert (
        after(claimed(), "application_fault", NOW, retry_after=None, spread=0.0).retry_at == NOW + LAST_WAIT_S
    )
    unknown = after(claimed(), "unknown", NOW, retry_after=None, spread=0.0)
    assert (unknown.unknowns, unknown.retry_at, unknown.keeps_intent) == (1, NOW + 30, True)


def test_in_its_grace_time_an_unknown_end_is_tried_again_once_at_once() -> None:
    """One more try without waiting, from then on with back-off (R117, R121)."""
    kind = replace(STRICT, grace_s=10.0)
    assert after(claimed(way=kind), "unknown", NOW + 1, retry_after=None, spread=0.0).retry_at is None
    assert (
        after(claimed(way=kind, unknowns=1), "unknown", NOW + 1, retry_after=None, spread=0.0).retry_at
        == NOW + 31
    )


@pytest.mark.parametrize(
    ("lifetime", "ahead"),
    [(86400, 300), (3600, 300), (1000, 100), (60, 10), (20, 10), (10, 5), (2, 1), (0, 0)],
)
def test_the_margin(lifetime: float, ahead: float) -> None:
    """A tenth of the lifetime, 10 s to 5 min, at most half; tokens given together are not due together (R124)."""
    assert margin(lifetime) == ahead
    assert refresh_time(NOW + lifetime, NOW) == NOW + lifetime - ahead
    assert refresh_time(NOW + lifetime, NOW, 1.0) == NOW + lifetime - ahead * 1.25


def test_a_process_knows_itself() -> None:
    """Its description survives being written down, and it does not take itself for dead."""
    me = this_process()
    assert me.pid == os.getpid()
    assert parse_owner(str(me)) == me
    assert not is_dead(me, me)


def test_only_proof_makes_a_process_dead() -> None:
    """Gone, a zombie, or its pid another's: dead; on another machine, in another container, before a reboot: not known (R112, R152)."""
    me = this_process()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    gone = replace(me, pid=child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(gone, me), "a zombie does nothing any more"
    child.wait()
    assert is_dead(gone, me)
    assert is_dead(replace(me, start=me.start - 1), me), "the pid was given to another process"
    assert not is_dead(replace(gone, instance="elsewhere/pid:[1]"), me)
    assert not is_dead(replace(gone, boot="another boot"), me)
    assert not is_dead(replace(gone, boot=""), replace(me, boot="")), "nothing can be proven without /proc"


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "[1]", '{"pid": "x"}', '{"instance": 1, "boot": 2, "pid": null}']
)
def test_an_owner_of_another_release_is_nobody_we_know(text: str) -> None:
    """What cannot be read is no proof of anything."""
    assert parse_owner(text) is None


def test_an_owner_reads_as_written() -> None:
    """The text in the lease is stable: another release compares it."""
    assert str(Owner("h/pid:[1]", "b", 7, 9)) == '{"boot":"b","instance":"h/pid:[1]","pid":7,"start":9}'
