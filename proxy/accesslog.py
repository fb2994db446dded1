"""One event a request: what it tells, and the thread that writes it.

Nothing here takes free text from a request but ``AccessEvent.method`` and ``.path``; both are cut, escaped
and freed of keys.
"""

import re
import threading
import time
from collections import deque
from functools import lru_cache
from typing import Final, Literal, NamedTuple, Protocol, Self

import orjson
from structlog.typing import EventDict

from proxy.log import Output, escape, mask_keys, rfc3339, second

Outcome = Literal["answered", "refused", "failed", "caller_left", "cut"]

CALLER_LEFT = 499  # what nginx and Caddy record for a caller that went away (R58)
_SERVER_ERRORS = 500
_NEVER = 1000
_ACCESS_FLOOR = {"debug": 0, "info": 0, "warning": _SERVER_ERRORS, "error": _NEVER}
_PATH_LIMIT = 2048
_CAPABILITY = re.compile(r"/~~[^/]*")  # an address that needs no key is one
METHOD_LIMIT = 32
_WHERE_KNOWN = ("key_id", "service", "connection", "error", "observed", "upstream", "caller")
_BOTH_TIMES = ("upstream_ms", "first_byte_ms")
_BATCH = 500
# While this thread renders, no request is served: so a few events at a time, more when many are waiting.
_AT_ONCE, _SLICES, _REST_S = 24, 20, 0.0003


class AccessEvent(NamedTuple):
    """One request, in safe fields only (R155). Built once, at its end.

    Args:
        time: seconds since the epoch when the request's head was complete.
        request_id: of our own making: letters, digits and ``-``.
        method: as sent; path: the caller's raw target, of which only the part before ``?`` is written.
        status: what the caller got, or 499 when it left before; outcome: how it ended.
        bytes_in, bytes_out: body bytes from and to the caller.
        duration, upstream_time, first_byte: seconds; in all, waiting for the service, until its first byte.
        upstream: address dialled, ``ip:port``; caller: address of the peer.
        error: code of ``problems`` when the answer was made here.
        observed: code of what an observing permit would have refused it with.
    """

    time: float
    request_id: str
    key_id: str | None
    service: str | None
    connection: str | None
    method: str
    path: str
    status: int
    bytes_in: int
    bytes_out: int
    duration: float
    upstream_time: float | None = None
    first_byte: float | None = None
    upstream: str | None = None
    error: str | None = None
    caller: str | None = None
    outcome: Outcome = "answered"
    observed: str | None = None


Row = tuple[
    float,
    str,
    str | None,
    str | None,
    str | None,
    str,
    str,
    int,
    int,
    int,
    float,
    float | None,
    float | None,
    str | None,
    str | None,
    str | None,
    Outcome,
    str | None,
]
"""An AccessEvent without its names, as it waits to be written: a quarter of the price."""

_STATUS: Final = 7  # its place


def shown_path(target: str) -> str:
    """A target's path; one that is none may hold ``user:password@`` and is left out."""
    if not target.startswith("/"):
        return "*" if target == "*" else "-"
    path = target.partition("?")[0][:_PATH_LIMIT]
    return escape(mask_keys(_CAPABILITY.sub("/~~...", path) if "/~~" in path else path))


def access_fields(event: AccessEvent) -> EventDict:
    """The event as it is written: without what is unknown, times in milliseconds, the path without query."""
    fields: EventDict = {
        "timestamp": rfc3339(event.time),
        "level": "warning" if event.status >= _SERVER_ERRORS else "info",
        "event": "request",
        "request_id": event.request_id,
        "method": escape(event.method[:METHOD_LIMIT]),
        "path": shown_path(event.path),
        "status": event.status,
        "outcome": event.outcome,
        "bytes_in": event.bytes_in,
        "bytes_out": event.bytes_out,
        "duration_ms": round(event.duration * 1000, 3),
    }
    for name in _WHERE_KNOWN:
        value = getattr(event, name)
        if value is not None:
            fields[name] = escape(value)
    if event.upstream_time is not None:
        fields["upstream_ms"] = round(event.upstream_time * 1000, 3)
    if event.first_byte is not None:
        fields["first_byte_ms"] = round(event.first_byte * 1000, 3)
    return fields


@lru_cache(maxsize=1024)
def _form(
    kind: tuple[str, int, str], where: tuple[str | None, ...], times: tuple[str, ...], worker: int | None
) -> str:
    """What lines of one kind of request share, with places for the rest; ``times``: names of the last."""
    method, status, outcome = kind
    level = "warning" if status >= _SERVER_ERRORS else "info"
    known = "".join(
        f',"{name}":{_fixed(value)}'
        for name, value in zip(_WHERE_KNOWN, where, strict=True)
        if value is not None
    )
    ending = "".join(f',"{name}":%.3f' for name in times)
    if worker is not None:
        ending += f',"worker":{worker}'
    return (
        f'{{"timestamp":"%s.%03dZ","level":"{level}","event":"request","request_id":"%s",'
        f'"method":{_fixed(method[:METHOD_LIMIT])},"path":%s,"status":{status},"outcome":"{outcome}",'
        f'"bytes_in":%d,"bytes_out":%d,"duration_ms":%.3f{known}{ending}}}'
    )


def _fixed(text: str) -> str:
    return _json(escape(text)).replace("%", "%%")


@lru_cache(maxsize=1024)
def _path_json(target: str) -> str:
    """Of a target that is cut already: what is kept here must be small."""
    return _json(shown_path(target))


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def access_line(event: Row, worker: int | None = None) -> str:
    """:func:`access_fields` as JSON, at a fifth of what structlog's renderer takes; nothing else differs."""
    moment, request_id, key, service, connection, method, path, status, bytes_in, bytes_out = event[:10]
    duration, upstream_time, first_byte, upstream, error, caller, outcome, observed = event[10:]
    where = (key, service, connection, error, observed, upstream, caller)
    whole = int(moment)
    if "?" in path or len(path) > _PATH_LIMIT:
        path = path.partition("?")[0][:_PATH_LIMIT]
    values = (
        second(whole),
        (moment - whole) * 1000,
        request_id,
        _path_json(path),
        bytes_in,
        bytes_out,
        duration * 1000,
    )
    kind = (method, status, outcome)
    if upstream_time is not None and first_byte is not None:  # of nearly all
        form = _form(kind, where, _BOTH_TIMES, worker)
        return form % (*values, upstream_time * 1000, first_byte * 1000)
    times = {
        name: at * 1000
        for name, at in zip(_BOTH_TIMES, (upstream_time, first_byte), strict=True)
        if at is not None
    }
    return _form(kind, where, tuple(times), worker) % (*values, *times.values())


class Events(Protocol):
    """Takes access events."""

    def emit(self, event: Row) -> None:
        """Take one, without waiting."""


class EventWriter:
    """Takes access events for almost nothing and writes them in batches from its own thread.

    Args:
        output: what :func:`configure` gave.
        limit: events waiting at most; more are lost and counted in ``dropped``: nothing waits for the log.
        interval: seconds between two batches at most.
    """

    def __init__(self, output: Output, *, limit: int = 20_000, interval: float = 0.05) -> None:
        self.dropped = 0
        self._output = output
        self._limit = limit
        self._interval = interval
        self._floor = _ACCESS_FLOOR[output.level]
        self._waiting: deque[Row] = deque()
        self._wake = threading.Event()
        self._woken = self._wake.is_set
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def emit(self, event: Row) -> None:
        """Queue one event: no I/O, a lock only for the first of a batch, never raises."""
        if event[_STATUS] < self._floor:
            return
        waiting = self._waiting
        if len(waiting) >= self._limit:
            self.dropped += 1
            return
        waiting.append(event)
        if not self._woken():  # after appending, so that a batch that ends meanwhile cannot miss it
            self._wake.set()

    def close(self) -> None:
        """Write what is waiting and end the thread; events that come later are lost."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(self._interval)  # lets a batch gather
            self._drain()
        self._drain()

    def _rendered(self, event: Row) -> str:
        output = self._output
        if output.is_json:
            return access_line(event, output.worker)
        return output.render(access_fields(AccessEvent(*event)))

    def _drain(self) -> None:
        waiting, output = self._waiting, self._output
        lines: list[str] = []
        while waiting:
            for _ in range(min(len(waiting), max(_AT_ONCE, len(waiting) // _SLICES))):
                event = waiting.popleft()
                try:
                    lines.append(self._rendered(event) + "\n")
                except (TypeError, ValueError):  # a field of a wrong type: one event is lost, not the log
                    self.dropped += 1
            if len(lines) >= _BATCH or not waiting:
                output.write("".join(lines))
                lines.clear()
            if waiting and not self._closing.is_set():
                time.sleep(_REST_S)
