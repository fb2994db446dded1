"""What is remembered of a request: one log event, its counts, its key's last use. Decides nothing."""

import secrets
from collections.abc import Callable
from itertools import count
from typing import NamedTuple, Protocol

from proxy import accesslog
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.handshake import SWITCHED
from proxy.forwarding.headroom import Headroom
from proxy.forwarding.timeline import Timeline, Trace
from proxy.keycalls import METHOD_CLASS, STATUS_CLASS
from proxy.metrics import Metrics
from proxy.problems import row


class Record:
    """What the log will say of a request: written step by step, read once at the end.

    ``started``: monotonic seconds, ``at``: since the epoch. ``observed``: code of what an observing permit
    would have refused it with. ``token_s``: waited for the account's token. Defaults are the class's: one is
    made for each request, and most of them stay.
    """

    key_id: str | None = None
    service: str | None = None
    connection: str | None = None
    status: int = 0
    error: str | None = None
    outcome: accesslog.Outcome = "answered"
    observed: str | None = None
    token_s: float = 0.0

    def __init__(self, request_id: str, started: float, at: float, method: str, path: str) -> None:
        self.request_id = request_id
        self.started = started
        self.at = at
        self.method = method
        self.path = path


class Spent(NamedTuple):
    """Where the time of a request went, in seconds; None for what it did not come to.

    ``queue``: until it was sent, without ``token``, the wait for a token. ``connect``: for a new connection.
    ``first_byte``: from then on to the answer's head.
    """

    queue: float
    token: float
    connect: float | None
    first_byte: float | None
    total: float


class Tracing(Protocol):
    """Traces requests."""

    def begin(self, head: Head, caller: CallerConnection, started: float) -> Trace:
        """A trace of a request; ``started``: monotonic seconds."""

    def end(self, trace: Trace, event: accesslog.AccessEvent, timeline: Timeline, token_s: float) -> None:
        """The request is over. ``token_s``: it waited so long for a token before it was sent."""


Watcher = Callable[[accesslog.AccessEvent, Spent], None]


class Recorder:
    """Turns records into events and counts.

    Args:
        metrics: where requests are counted.
        events: where one event a request goes.
        clock: monotonic seconds.
        wall: seconds since the epoch.

    ``watcher`` is told of each request that is over, while somebody looks on. ``tracing``: of those that have
    a trace. ``headroom``: of answers that may tell how many calls are left.
    """

    def __init__(
        self,
        metrics: Metrics,
        events: accesslog.Events,
        clock: Callable[[], float],
        wall: Callable[[], float],
        *,
        tracing: Tracing | None = None,
        headroom: Headroom | None = None,
    ) -> None:
        self._metrics = metrics
        self._events = events
        self._clock = clock
        self._wall = wall
        self.watcher: Watcher | None = None
        self.tracing = tracing
        self.headroom = headroom
        self._prefix = secrets.token_hex(5)
        self._numbers = count(1)

    def begin(self, method: str, path: str) -> Record:
        """A record with an id that no other request has."""
        request_id = "%s-%x" % (self._prefix, next(self._numbers))  # noqa: UP031  # half the time
        return Record(request_id, self._clock(), self._wall(), method, path)

    def end(self, record: Record, timeline: Timeline, caller: str) -> None:
        """Count and log a request that is over.

        Args:
            record: what happened to it here.
            timeline: what happened on the way to the service.
            caller: address of the peer.
        """
        duration = self._clock() - record.started
        waited = first_byte = added = None
        if timeline.sent_at is not None:
            if timeline.head_at is None:
                waited = record.started + duration - timeline.sent_at
            else:
                waited = first_byte = timeline.head_at - timeline.sent_at
                if timeline.written_at is not None:
                    added = timeline.sent_at - record.started + timeline.written_at - timeline.head_at
        if timeline.cut is not None:
            record.outcome, record.error = "cut", row(timeline.cut).code
        answered = duration
        if record.status == SWITCHED and first_byte is not None:
            answered = first_byte + (added or 0.0)  # how long a WebSocket lives is its own affair
        self._metrics.echoes += timeline.echoes
        if record.error is not None:
            self._metrics.refused(record.error)
        if record.observed is not None:
            self._metrics.observed(record.key_id or "", record.service, record.method, record.path)
        if record.key_id is not None:
            kind = METHOD_CLASS.get(record.method, "other")
            ended = STATUS_CLASS[record.status] if record.outcome == "answered" else record.outcome
            self._metrics.calls.count((record.key_id, record.service, record.connection, kind, ended))
        self._metrics.service(record.service).record(
            record.method,
            record.status,
            bytes_in=timeline.bytes_in,
            bytes_out=timeline.bytes_out,
            duration=answered,
            added=added,
            first_byte=first_byte,
        )
        event: accesslog.Row = (
            record.at,
            record.request_id,
            record.key_id,
            record.service,
            record.connection,
            record.method,
            record.path,
            record.status,
            timeline.bytes_in,
            timeline.bytes_out,
            duration,
            waited,
            first_byte,
            timeline.upstream,
            record.error,
            caller,
            record.outcome,
            record.observed,
        )
        self._events.emit(event)
        if self.watcher is not None or timeline.trace is not None or timeline.budget is not None:
            self._tell(record, timeline, accesslog.AccessEvent(*event))

    def _tell(self, record: Record, timeline: Timeline, event: accesslog.AccessEvent) -> None:
        """Tell those who look on."""
        if self.watcher is not None:
            self.watcher(event, _spent(record, timeline, event.duration))
        if timeline.budget is not None and self.headroom is not None and record.connection is not None:
            self.headroom.note(record.service or "", record.connection, timeline.budget, self._wall())
        if timeline.trace is not None and self.tracing is not None:
            self.tracing.end(timeline.trace, event, timeline, record.token_s)


def _spent(record: Record, timeline: Timeline, duration: float) -> Spent:
    token, sent_at, head_at = record.token_s + timeline.token_s, timeline.sent_at, timeline.head_at
    if sent_at is None:
        return Spent(max(duration - token, 0.0), token, None, None, duration)
    connect = timeline.connect_s
    first = None if head_at is None else max(head_at - sent_at - connect, 0.0)
    return Spent(max(sent_at - record.started - token, 0.0), token, connect, first, duration)
