"""What several processes share, piece by piece: log lines, frames, settings handed over, tallies, restarts."""

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from proxy.assembly.inforce import catalog_of
from proxy.channel import Channel, InForce, first_frame, packed, unpacked
from proxy.core import Core
from proxy.exposition import added
from proxy.metrics import Metrics
from proxy.reports import Reports
from proxy.restarts import LONGEST_S, LOOP, QUICK_S, Restarts
from proxy.secret import Secret
from proxy.settings import load_settings
from proxy.sharedlog import SharedStream, make_lock, pieces
from proxy.spawn import interpreter_flags
from proxy.supervised import Supervised

ROOT = Path(__file__).resolve().parents[2]

# --- log ------------------------------------------------------------------------------------------------

WRITER = """
import sys
from proxy.sharedlog import SharedStream
name, lock = sys.argv[1], int(sys.argv[2])
stream = SharedStream(sys.stdout, lock)
for number in range(60):
    stream.write("".join(name * size + "\\n" for size in (5, 700, 9000, 120, 3000)))
"""


def test_lines_of_several_processes_are_never_mixed() -> None:
    """R155: short ones, and ones that are longer than a pipe takes at once, from three writers into one pipe."""
    lock = make_lock()
    ours, theirs = os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(lock)],
            stdout=theirs,
            pass_fds=(lock,),
            cwd=ROOT,
        )
        for name in "abc"
    ]
    os.close(theirs)
    with os.fdopen(ours, encoding="ascii") as pipe:
        lines = pipe.read().splitlines()
    assert [one.wait() for one in writers] == [0, 0, 0]
    os.close(lock)
    assert len(lines) == 3 * 60 * 5
    assert {(len(set(line)), len(line)) for line in lines} == {(1, n) for n in (5, 700, 9000, 120, 3000)}


@given(st.lists(st.text("ab", max_size=40).map(lambda text: text + "\n"), max_size=30), st.integers(5, 60))
def test_pieces_are_whole_lines_as_long_as_they_may_be(lines: list[str], limit: int) -> None:
    """Nothing is lost or moved; only a line that is longer by itself makes a longer piece."""
    raw = "".join(lines).encode()
    cut = pieces(raw, limit)
    assert b"".join(cut) == raw
    for one in cut:
        assert one.endswith(b"\n")
        assert len(one) <= limit or one.count(b"\n") == 1


def test_what_cannot_be_encoded_is_written_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    """A lone surrogate in a path must not cost the line."""
    lock = make_lock()
    SharedStream(sys.stderr, lock).write("a\udcff\n")
    os.close(lock)
    assert capfd.readouterr().err == "a\\udcff\n"


def test_a_piece_is_no_longer_than_a_pipe_takes_at_once() -> None:
    """The default limit is the one of POSIX for writes that are never mixed."""
    assert max(map(len, pieces(b"x\n" * select.PIPE_BUF))) <= select.PIPE_BUF


# --- channel --------------------------------------------------------------------------------------------


def test_settings_and_services_arrive_as_they_were_with_their_secrets(tmp_path: Path) -> None:
    """What a worker works by equals what the supervisor read, however deep; a Secret elsewhere is not pickled."""
    path = tmp_path / "proxy.toml"
    path.write_text(
        '[storage]\ndatabase_url = "postgresql://user:word@db.example/x"\n'
        '[egress]\nconnect_to = { "slack.com:443" = "127.0.0.1:9443" }\n'
        '[sources.slack]\nkind = "static"\ntoken = { env = "TOKEN" }\n'
    )
    settings = load_settings(path, {"HOME": str(tmp_path)})
    in_force = InForce(settings, catalog_of(settings))
    arrived = unpacked(packed(in_force))
    assert arrived == in_force
    assert isinstance(arrived.settings.storage.database_url, Secret)
    with pytest.raises(TypeError):
        arrived.catalog.services["slack"] = None


async def test_frames_arrive_whole_and_in_order_until_the_end() -> None:
    """Small and large ones, empty and with zero bytes; then None, and what is sent after that is dropped."""
    ours, theirs = socket.socketpair()
    here, there = await Channel.over(ours), await Channel.over(theirs)
    sent = [("go", b""), ("start", b"\0\n\0" * 200_000), ("x", b"\0")]
    for kind, body in sent:
        here.send(kind, body)
    here.tell("report", {"n": 1})
    assert [await there.receive() for _ in sent] == sent
    kind, body = await there.receive() or ("", b"")
    assert (kind, json.loads(body)) == ("report", {"n": 1})
    await here.close()
    assert await there.receive() is None
    await there.close()
    there.send("late")


async def test_a_peer_that_reads_nothing_is_noticed() -> None:
    """Reports wait for a supervisor that is stopped; they do not fill the worker's memory."""
    ours, theirs = socket.socketpair()
    here = await Channel.over(ours)
    assert not here.is_clogged
    here.send("report", b"x" * (4 << 20))
    assert here.is_clogged
    theirs.close()
    await asyncio.wait_for(here.close(), 5)


def test_the_first_frame_is_read_and_not_a_byte_more() -> None:
    """A worker reads it before it has a loop; what follows is left for the channel."""
    rest = b"\0\0\0\x03go\0"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\0\0\0\x08start\0ab" + rest)
        assert first_frame(theirs) == ("start", b"ab")
        assert theirs.recv(100) == rest
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            first_frame(theirs)


# --- tallies --------------------------------------------------------------------------------------------

tallies = st.recursive(
    st.integers(0, 1000),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
).filter(lambda one: isinstance(one, dict))
counts = st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 50), min_size=3, max_size=3))


@given(counts, counts, counts)
def test_adding_tallies_does_not_depend_on_order(one: dict, other: dict, third: dict) -> None:
    """Workers may be added up as they come; nothing is changed on the way."""
    before = json.dumps([one, other])
    assert added(added(one, other), third) == added(one, added(third, other))
    assert added(one, {}) == one
    assert json.dumps([one, other]) == before
    for key in one.keys() & other.keys():
        assert added(one, other)[key] == [a + b for a, b in zip(one[key], other[key], strict=True)]


def metrics(requests: int) -> Metrics:
    """Those of a process that has answered so many requests."""
    made = Metrics(["slack"], ["bad_request"])
    for _ in range(requests):
        made.service("slack").record("GET", 200, bytes_in=1, bytes_out=2, duration=0.01)
    made.gauge("keys", "Keys", lambda: 7, shared=True)
    made.gauge("open", "Open", lambda: requests)
    made.counter("lost", "Lost", lambda: {"a": requests}, label="kind")
    return made


def test_what_workers_report_is_exposed_as_one() -> None:
    """Counters and gauges add up after a journey through JSON; what is the same everywhere does not."""
    ours = metrics(1)
    told = [json.loads(json.dumps(metrics(number).tally(for_others=True))) for number in (10, 100)]
    ours.others = lambda: told
    text = ours.exposition().decode()
    for line in (
        'connector_proxy_requests_total{method="read",service="slack",status="200"} 111.0',
        'connector_proxy_request_duration_seconds_count{service="slack"} 111.0',
        'connector_proxy_body_bytes_total{direction="out",service="slack"} 222.0',
        'connector_proxy_lost_total{kind="a"} 111.0',
        "connector_proxy_open 111.0",
        "connector_proxy_keys 7.0",
    ):
        assert line in text.splitlines()


def test_what_only_workers_count_is_exposed_too() -> None:
    """The supervisor has no data plane of its own, and shows the gauges of those that have."""
    ours, worker = Metrics(["slack"], []), metrics(3)
    ours.others = lambda: [worker.tally(for_others=True)]
    ours.define(worker.definitions)
    text = ours.exposition().decode()
    assert "connector_proxy_open 3.0" in text
    assert "connector_proxy_keys" not in text


# --- keeping workers ------------------------------------------------------------------------------------


def test_back_off_grows_to_a_bound_and_begins_anew_after_a_long_life() -> None:
    """One end costs no pause; ends in a row do, up to half a minute; the third is called a loop."""
    restarts = Restarts()
    assert restarts.after(QUICK_S - 1) == 0.0
    delays = []
    for _ in range(12):
        assert restarts.is_loop == (restarts.quick >= LOOP)
        delays.append(restarts.after(0.1))
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == LONGEST_S
    assert delays == sorted(delays)
    assert restarts.after(QUICK_S) == 0.0
    assert not restarts.is_loop


def test_a_worker_gets_the_interpreter_flags_of_its_supervisor() -> None:
    """Isolation, development mode and warnings are the operator's choice for every process."""
    told = subprocess.run(
        [
            sys.executable,
            *("-I", "-X", "dev", "-W", "error::SyntaxWarning", "-c"),
            f"import sys; sys.path.append({str(ROOT)!r}); import proxy.spawn as s; print(s.interpreter_flags())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for flag in ("-I", "-Xdev", "-Werror::SyntaxWarning"):
        assert repr(flag) in told
    assert all(flag.startswith("-") for flag in interpreter_flags())


def _worker(number: int, taken: int) -> Supervised:
    """One that has loaded its vault, as the supervisor knows it."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()
    child = subprocess.Popen(["true"])
    child.wait()
    worker = Supervised(number, child, ours, lambda *_: None)
    worker.state, worker.taken = "loaded", taken
    return worker


def test_a_database_that_falls_back_lets_new_workers_in() -> None:
    """After a fail-over that lost changes, a worker with all there is gets to work, and later changes are told (R89)."""
    reports, first = Reports(), _worker(1, 50)
    assert reports.settle(50, [first]) == 50
    first.taken = 40
    second = _worker(2, 40)
    assert reports.settle(50, [first, second]) is None
    assert not second.may_go, "this process may know of a revocation that the new worker has not read"
    assert reports.settle(40, [first, second]) is None
    assert second.may_go
    first.taken = second.taken = 41
    assert reports.settle(41, [first, second]) == 41


# --- keeping endless work -------------------------------------------------------------------------------


async def _story_of(
    start: Callable[[Core, Callable[[], Coroutine[Any, Any, None]]], None], home: Path
) -> int:
    """How often work that fails twice was begun, once it has not failed or nothing runs any more."""
    settings = load_settings(None, {"HOME": str(home)})
    core = Core(settings, catalog_of(settings), (), None)
    begun, settled = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun <= 2:
            raise KeyError("a secret")
        settled.set()
        await asyncio.Event().wait()

    start(core, work)
    idle = asyncio.create_task(settled.wait())
    await asyncio.wait({idle, *core._tasks}, return_when=asyncio.FIRST_COMPLETED)
    idle.cancel()
    await core.close()
    assert not core._tasks
    return begun


def test_endless_work_begins_anew_after_a_fault(tmp_path: Path) -> None:
    """What a server does again and again goes on after unexpected failures, each logged; other work is done once."""
    with capture_logs() as logged:
        assert asyncio.run(_story_of(lambda core, work: core.keep(work, "look"), tmp_path)) == 3
    assert [(one["event"], one["task"], one["again_after_s"]) for one in logged] == [
        ("background_task_failed", "look", 0.0),
        ("background_task_failed", "look", 0.5),
    ]
    assert "a secret" not in str(logged)
    assert asyncio.run(_story_of(lambda core, work: core.go(work(), "once"), tmp_path)) == 1
