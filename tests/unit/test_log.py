"""The event log: what a line holds, what never gets into it, and what it costs the event loop."""

import asyncio
import io
import json
import logging
import re
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import get_args
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import keys, log
from proxy.accesslog import CALLER_LEFT, AccessEvent, EventWriter, Outcome, access_fields, access_line
from proxy.log import (
    Output,
    configure,
    crash,
    escape,
    event,
    mask_keys,
)
from proxy.secret import Secret

PLAIN = AccessEvent(
    time=1_795_000_000.1234,
    request_id="r-1",
    key_id="abcd1234",
    service="slack",
    connection="default",
    method="GET",
    path="/slack/api/x?token=query-canary",
    status=200,
    bytes_in=10,
    bytes_out=2000,
    duration=0.0123456,
    upstream_time=0.01,
    first_byte=0.009,
    upstream="1.2.3.4:443",
    caller="127.0.0.1",
)


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Puts the standard loggers back, which are the process's."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    for name in ("aiohttp.access", "aiohttp.internal"):
        logging.getLogger(name).disabled = False


class Stream(io.StringIO):
    """Standard error that counts writes, can be a terminal, break, or be held back."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal
        self.writes = 0
        self.broken: Exception | None = None
        self.entered = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.open.wait(10)
        if self.broken is not None:
            raise self.broken
        self.writes += 1
        return super().write(text)

    def events(self) -> list[dict[str, object]]:
        """What was written, as JSON lines."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


def fail(local: str) -> None:
    """Raises an exception whose text nobody may see."""
    raise RuntimeError(f"text-canary {local}")


def written(one: AccessEvent) -> dict[str, object]:
    """One access event as a JSON line."""
    stream = Stream()
    with EventWriter(configure("json", "info", stream), interval=0) as writer:
        writer.emit(one)
    (fields,) = stream.events()
    return fields


def test_one_line_a_request_with_the_safe_fields():
    """R155: ids, service, method, path without query, status, bytes, times, addresses; nothing else."""
    assert written(PLAIN) == {
        "timestamp": "2026-11-18T11:06:40.123Z",
        "level": "info",
        "event": "request",
        "request_id": "r-1",
        "key_id": "abcd1234",
        "service": "slack",
        "connection": "default",
        "method": "GET",
        "path": "/slack/api/x",
        "status": 200,
        "outcome": "answered",
        "bytes_in": 10,
        "bytes_out": 2000,
        "duration_ms": 12.346,
        "upstream_ms": 10.0,
        "first_byte_ms": 9.0,
        "upstream": "1.2.3.4:443",
        "caller": "127.0.0.1",
    }


def test_unknown_fields_are_left_out_and_5xx_are_warnings():
    """A refused request has no upstream; a caller that left is 499 and no error (R58)."""
    refused = AccessEvent(0.0, "r", None, None, None, "GET", "/", 502, 0, 0, 0.0, error="upstream_tls")
    fields = written(refused)
    assert (fields["level"], fields["error"]) == ("warning", "upstream_tls")
    assert not {"key_id", "service", "connection", "upstream", "upstream_ms", "caller"} & set(fields)
    left = written(PLAIN._replace(status=CALLER_LEFT, outcome="caller_left"))
    assert (left["level"], left["outcome"], left["status"]) == ("info", "caller_left", 499)


@pytest.mark.parametrize("wanted", ["json", "console"])
def test_a_callers_text_cannot_make_a_line_or_move_a_cursor(wanted: log.Format):
    """R155: line ends, escapes and direction marks in path and method are written as escapes, in both formats."""
    hostile = "/a\r\n2026 [info] request forged=1\x1b[2J\x00\x7f\x9b\u2028\u202e\u200b/b"
    stream = Stream()
    with EventWriter(configure(wanted, "info", stream), interval=0) as writer:
        writer.emit(PLAIN._replace(path=hostile, method="G\nET\x1b[31m"))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert all(char.isprintable() for char in text[:-1])
    assert "forged" in text


@given(st.text(st.characters()))
def test_escaped_text_is_printable_and_plain_text_is_left_alone(text: str):
    """R155: nothing but printable characters comes out, surrogates included, and printable text is unchanged."""
    assert escape(text).isprintable()
    assert escape(text).encode().decode() == escape(text)
    if text.isprintable():
        assert escape(text) == text


@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda key: key.replace("_", "%5F"),
        str.upper,
        lambda key: key[:-9],
        lambda key: "%63" + key[1:],
        lambda key: "C%70%4b%5f" + key[4:],
        lambda key: "%2563%252570k_" + key[4:],
    ],
)
def test_a_key_in_a_path_is_cut_down_to_its_id(spell):
    """R143: a caller that puts its key into the path does not find it in the log, however it spells it."""
    key_id, key = keys.generate()
    shown = mask_keys(f"/slack/{spell(key.reveal())}/x")
    secret = key.reveal()[13:40]
    assert secret.lower() not in shown.lower()
    assert key_id.lower() in shown.lower()
    assert shown.startswith("/slack/")
    assert shown.endswith("/x")


@given(st.lists(st.booleans(), min_size=64, max_size=64), st.integers(0, 3))
def test_no_encoding_of_a_key_gets_its_secret_into_the_log(encoded: list[bool], depth: int):
    """R143: whichever characters are percent-encoded, however often, decoding what is shown gives no secret back."""
    key = keys.generate()[1].reveal()
    spelt = "".join(
        f"%{'25' * depth}{ord(char):02x}" if code else char for char, code in zip(key, encoded, strict=False)
    )
    shown = mask_keys(f"/slack/{spelt}/x")
    for _ in range(depth + 1):
        shown = unquote(shown)
    assert key[13:20] not in shown
    assert "[secret]" in shown


@pytest.mark.parametrize("text", ["/a%20b/c", "/100%", "/%63/%70k", "/cp%6", "/kcp_"])
def test_paths_without_a_key_are_left_alone(text: str):
    """R155: percent-encoded text that holds no key is logged as it came."""
    assert mask_keys(text) == text


_TEXT = st.text(max_size=30)
_SECONDS = st.floats(min_value=0, max_value=1e9)


@given(
    event=st.builds(
        AccessEvent,
        st.floats(min_value=0, max_value=4e9),
        st.from_regex("[0-9a-f]{1,12}-[0-9a-f]{1,9}", fullmatch=True),
        st.none() | _TEXT,
        st.none() | _TEXT,
        st.none() | _TEXT,
        _TEXT,
        _TEXT | st.text(max_size=9).map(lambda text: f"/~~{text}/cpk_abcdefgh_secret/{text}?{text}"),
        st.integers(100, 599),
        st.integers(0, 2**60),
        st.integers(0, 2**60),
        _SECONDS,
        st.none() | _SECONDS,
        st.none() | _SECONDS,
        st.none() | _TEXT,
        st.none() | _TEXT,
        st.none() | _TEXT,
        st.sampled_from(get_args(Outcome)),
        st.none() | _TEXT,
    ),
    worker=st.none() | st.integers(1, 64),
)
def test_the_quick_line_is_the_rendered_event(event: AccessEvent, worker: int | None):
    """R155: JSON lines say what structlog makes of the event's fields, in that order, whatever callers sent."""
    rendered = configure("json", "info", Stream(), worker).render(access_fields(event))
    for _ in range(2):  # the second one comes from what was kept
        line = access_line(event, worker)
        assert json.loads(line, object_pairs_hook=list) == json.loads(rendered, object_pairs_hook=list)


def test_long_texts_of_callers_are_cut():
    """A log line stays a line: 2,048 characters of path, 32 of method."""
    fields = access_fields(PLAIN._replace(path="/" + "x" * 9999, method="M" * 99))
    assert (len(fields["path"]), len(fields["method"])) == (2048, 32)


def test_what_is_kept_of_callers_texts_is_small():
    """R155: of a thousand long targets, in paths or queries of callers without a key, a line's worth each is kept."""
    long = "x" * 60_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            for target in (f"/{number}?{long}", f"/{number}{long}"):
                access_line(PLAIN._replace(path=target))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4_000_000  # whole they are 24 MB


def test_events_wait_for_a_batch_and_one_write_takes_them():
    """A thousand events cost a few writes, keep their order, and none is lost at the end."""
    stream = Stream()
    writer = EventWriter(configure("json", "info", stream), interval=5)
    for number in range(1000):
        writer.emit(PLAIN._replace(request_id=str(number)))
    writer.close()
    assert [one["request_id"] for one in stream.events()] == [str(number) for number in range(1000)]
    assert stream.writes <= 3


def test_events_come_out_while_the_writer_lives():
    """An event does not wait for the next one or for the end."""
    stream = Stream()
    with EventWriter(configure("json", "info", stream), interval=0) as writer:
        for _ in range(3):
            stream.entered.clear()
            writer.emit(PLAIN)
            assert stream.entered.wait(10)
    assert len(stream.events()) == 3


def test_no_event_is_left_behind_however_threads_meet():
    """Events that come while a batch ends are written without a later one to push them."""
    stream = Stream()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with EventWriter(configure("json", "info", stream), interval=0) as writer:
            for _ in range(2000):
                writer.emit(PLAIN)
            deadline = time.monotonic() + 10
            while writer._waiting:
                assert time.monotonic() < deadline
                time.sleep(0.001)
    finally:
        sys.setswitchinterval(interval)
    assert len(stream.events()) == 2000


def test_a_log_that_stalls_loses_events_and_counts_them_but_never_waits():
    """R64: the queue is bounded; what does not fit is dropped and counted, emit goes on at once."""
    stream = Stream()
    stream.open.clear()
    writer = EventWriter(configure("json", "info", stream), limit=10, interval=0)
    writer.emit(PLAIN)
    assert stream.entered.wait(10)
    for _ in range(25):
        writer.emit(PLAIN)
    assert writer.dropped == 15
    stream.open.set()
    writer.close()
    assert len(stream.events()) == 11


def test_a_log_that_breaks_does_not_stop_the_writer():
    """Disk full or a closed pipe: later events are written when it works again."""
    stream = Stream()
    stream.broken = OSError(28, "No space left on device")
    with EventWriter(configure("json", "info", stream), interval=0) as writer:
        writer.emit(PLAIN)
        assert stream.entered.wait(10)
        while writer._waiting:
            time.sleep(0.001)
        stream.broken = None
        writer.emit(PLAIN._replace(request_id="r-2"))
    assert [one["request_id"] for one in stream.events()][-1:] == ["r-2"]


def test_an_event_that_cannot_be_rendered_is_counted_and_the_next_one_written():
    """A mistake in one event does not end the log."""
    stream = Stream()
    with EventWriter(configure("json", "info", stream), interval=0) as writer:
        writer.emit(PLAIN._replace(duration=None))
        writer.emit(PLAIN._replace(connection="a\ud800\x1b"))
    assert writer.dropped == 1
    assert [one["connection"] for one in stream.events()] == [r"a\ud800\x1b"]


def test_closing_twice_is_harmless():
    """Shutdown paths may meet."""
    writer = EventWriter(configure("json", "info", Stream()), interval=0)
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    ("level", "statuses"),
    [("debug", [200, 499, 502]), ("info", [200, 499, 502]), ("warning", [502]), ("error", [])],
)
def test_the_level_counts_for_requests_too(level: log.Level, statuses: list[int]):
    """Requests are info, those answered 5xx warning."""
    stream = Stream()
    with EventWriter(configure("json", level, stream), interval=0) as writer:
        for status in (200, 499, 502):
            writer.emit(PLAIN._replace(status=status))
    assert [one["status"] for one in stream.events()] == statuses


@pytest.mark.parametrize(
    ("wanted", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("json", True, True), ("console", False, False)],
)
def test_the_format_follows_the_terminal_unless_it_is_set(
    wanted: log.Format, *, terminal: bool, is_json: bool
):
    """Console on a terminal, JSON lines otherwise; colours only on a terminal."""
    stream = Stream(terminal=terminal)
    configure(wanted, "info", stream)
    event("started", port=8080)
    assert stream.getvalue().startswith("{") == is_json
    assert ("\x1b[" in stream.getvalue()) == (terminal and not is_json)


def test_lifecycle_events_have_a_level_and_mask_secrets():
    """R143: a Secret among the fields shows its mask; below the level nothing is written."""
    stream = Stream()
    configure("json", "info", stream)
    event("key_declared", token=Secret("canary"), held=[Secret("canary")])
    event("detail", level="debug")
    event("odd", level="warning", text="a\nb")
    first, second = stream.events()
    assert (first["event"], first["token"], first["held"], first["level"]) == (
        "key_declared",
        "[secret]",
        ["[secret]"],
        "info",
    )
    assert (second["event"], second["level"], second["text"]) == ("odd", "warning", r"a\nb")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(first["timestamp"]))
    assert "canary" not in stream.getvalue()


@pytest.mark.parametrize("wanted", ["json", "console"])
def test_a_crash_tells_type_and_places_but_no_text(wanted: log.Format):
    """R143: an exception's message may hold a token, so only its type and where it came from are written."""
    stream = Stream()
    configure(wanted, "info", stream)
    try:
        fail("local-canary")
    except RuntimeError as error:
        crash("data_path_failed", error, request_id="r-1")
    text = stream.getvalue()
    assert "canary" not in text
    assert "RuntimeError" in text
    assert "test_a_crash_tells_type_and_places_but_no_text" in text
    assert "fail" in text


def test_other_libraries_records_come_without_their_arguments():
    """R143: aiohttp and asyncio log bytes of requests and reprs of tasks; here only template, type and place."""
    stream = Stream()
    configure("json", "info", stream)
    try:
        fail("local-canary")
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", "argument-canary")
    logging.getLogger("aiohttp.access").error("access-canary")
    logging.getLogger("somebody").info("not shown")
    first, *rest = stream.events()
    assert rest == []
    assert (first["event"], first["logger"], first["template"], first["error_type"]) == (
        "library",
        "aiohttp.server",
        "Error handling %s",
        "RuntimeError",
    )
    assert "canary" not in stream.getvalue()


def test_a_forgotten_task_is_told_by_asyncio_without_its_exceptions_text():
    """R143: asyncio's report of an unhandled exception has many lines, of which only the first is a constant."""
    stream = Stream()
    configure("json", "info", stream)

    async def main() -> None:
        context = {
            "message": "Task exception was never retrieved",
            "exception": ValueError("text-canary"),
            "task": "t-canary",
        }
        asyncio.get_running_loop().default_exception_handler(context)

    asyncio.run(main())
    (one,) = stream.events()
    assert (one["template"], one["error_type"]) == ("Task exception was never retrieved", "ValueError")
    assert "canary" not in stream.getvalue()


def test_configuring_again_replaces_the_first():
    """A reload does not double the lines."""
    first, second = Stream(), Stream()
    configure("json", "info", first)
    configure("json", "info", second)
    event("once")
    logging.getLogger("somebody").warning("once more")
    assert first.getvalue() == ""
    assert len(second.events()) == 2


def test_batches_and_lifecycle_events_never_mix_within_a_line():
    """Two threads write whole lines."""
    stream = Stream()
    output: Output = configure("json", "info", stream)
    with EventWriter(output, interval=0) as writer:
        for _ in range(300):
            writer.emit(PLAIN)
            event("tick")
    assert len(stream.events()) == 600
