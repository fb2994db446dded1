"""The spans of one request: begun while it is under way, told about when it is over.

Names and attributes are OpenTelemetry's semantic conventions for HTTP (1.4x). Values are those of the log: no
query, no header field, no body.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from yarl import URL

from proxy.accesslog import METHOD_LIMIT, AccessEvent, shown_path
from proxy.catalog.origin import Origin
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.timeline import Timeline
from proxy.forwarding.upstream import UpstreamConnection

_OURS = "connector_proxy."
_SERVER_ERROR, _CLIENT_ERROR = 500, 400
_NANO = 1_000_000_000
# What the conventions know; any other method is _OTHER, so that strangers cannot make up names of spans.
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"})
_OURS_KNOWN = ("service", "connection", "key_id", "outcome", "error", "observed")
Attributes = dict[str, str | int]


class Making(NamedTuple):
    """How spans are made. ``continued``: services get ours as the parent of their own.

    ``clock``: monotonic seconds; ``wall``: seconds since the epoch.
    """

    tracer: Tracer
    continued: bool
    clock: Callable[[], float]
    wall: Callable[[], float]


class RequestTrace:
    """A SERVER span, and in it a CLIENT span for each time that the request went to its service.

    Args:
        making: see there.
        parent: the caller's span, where it named one.
        head: of the request.
        caller: who sent it.
        started: when (seconds of the clock).
    """

    __slots__ = (
        "_client",
        "_connecting",
        "_epoch",
        "_making",
        "_method",
        "_refused",
        "_sent_at",
        "_server",
        "_tries",
        "_under",
    )

    def __init__(
        self, making: Making, parent: Context, head: Head, caller: CallerConnection, started: float
    ) -> None:
        self._making = making
        self._epoch = making.wall() - making.clock()
        self._method = _method_of(head)
        self._server = making.tracer.start_span(
            self._named(),
            context=parent,
            kind=SpanKind.SERVER,
            attributes={**self._method, **_about(head, caller)},
            start_time=self._at(started),
        )
        self._under = set_span_in_context(self._server, Context())
        self._client: Span | None = None
        self._tries = 0
        self._sent_at: float | None = None
        self._connecting: float | None = None
        self._refused = False

    # --- while it is under way ---------------------------------------------------------------------------

    def connecting(self, origin: Origin, outgoing: bytes) -> None:
        """See ``exchange.Trace``."""
        if self._is_of_use:
            self._connecting = self._making.clock()
            self._go_out(origin, outgoing, self._connecting)

    def sent(self, connection: UpstreamConnection, outgoing: bytes) -> bytes:
        """See ``exchange.Trace``."""
        if not self._is_of_use:
            return outgoing
        now = self._making.clock()
        if self._connecting is not None:
            self._span("connect", self._connecting, now, self._client)
            self._connecting = None
        elif connection.lane is not None:
            self._go_out(Origin(*connection.lane[:3]), outgoing, now)
        if not self._making.continued or self._client is None:
            return outgoing
        return b"%b%b\r\n" % (outgoing[:-2], _fields_of(self._client))

    def refused(self, since: float) -> None:
        """See ``exchange.Trace``."""
        self._refused = True
        self._span("wait for a newer token", since, self._making.clock(), self._server)

    @property
    def _is_of_use(self) -> bool:
        """Somebody will see it: what collects the spans, or the service."""
        return self._making.continued or self._server.is_recording()

    def _go_out(self, origin: Origin, outgoing: bytes, now: float) -> None:
        """Begin the span of this try, and end that of the one before."""
        if self._client is not None:
            why = "token_refused" if self._refused else "connection_lost"
            self._client.set_attribute("error.type", why)
            self._client.set_status(Status(StatusCode.ERROR))
            self._client.end(self._at(now))
        target = outgoing.split(b" ", 2)[1].decode("latin-1")
        about: Attributes = {
            **self._method,
            "url.full": f"{origin}{shown_path(target)}",
            "server.address": origin.host,
            "server.port": origin.port,
            "network.protocol.version": "1.1",
        }
        if self._tries:
            about["http.request.resend_count"] = self._tries
        self._tries += 1
        self._sent_at = now if self._sent_at is None else self._sent_at
        self._refused = False
        self._client = self._making.tracer.start_span(
            self._named(),
            context=self._under,
            kind=SpanKind.CLIENT,
            attributes=about,
            start_time=self._at(now),
        )

    # --- when it is over ---------------------------------------------------------------------------------

    def end(self, event: AccessEvent, timeline: Timeline, token_s: float) -> None:
        """Tell what came of it, and let the spans go.

        Args:
            event: what the log tells.
            timeline: what happened on the way to the service.
            token_s: it waited so long for a token before it was sent.
        """
        if not self._server.is_recording():
            return
        now = self._making.clock()
        if token_s:
            until = now if self._sent_at is None else self._sent_at
            self._span("wait for a token", until - token_s, until, self._server)
        if self._client is not None:
            self._end_client(self._client, event, timeline, now)
        self._server.set_attributes(_outcome(event))
        if event.service is not None:
            self._server.update_name(self._named(f"/{event.service}/{{path}}"))
        if event.status >= _SERVER_ERROR or event.outcome in {"failed", "cut"}:
            self._server.set_attribute("error.type", event.error or str(event.status))
            self._server.set_status(Status(StatusCode.ERROR))
        self._server.end(self._at(now))

    def _end_client(self, client: Span, event: AccessEvent, timeline: Timeline, now: float) -> None:
        status, peer = timeline.status, timeline.upstream
        if timeline.head_at is not None:
            client.add_event("first_byte", timestamp=self._at(timeline.head_at))
        if status is not None:
            client.set_attribute("http.response.status_code", status)
        if peer is not None and self._connecting is None:
            address, _, port = peer.rpartition(":")
            client.set_attributes(
                {"network.peer.address": address.strip("[]"), "network.peer.port": int(port)}
            )
        if event.outcome == "cut" or status is None or status >= _CLIENT_ERROR:
            why = event.error or (event.outcome if status is None else str(status))
            client.set_attribute("error.type", why)
            client.set_status(Status(StatusCode.ERROR))
        client.end(self._at(now))

    def _span(self, name: str, since: float, until: float, under: Span | None) -> None:
        if under is not None and under.is_recording():
            context = set_span_in_context(under, Context())
            span = self._making.tracer.start_span(name, context=context, start_time=self._at(since))
            span.end(self._at(until))

    def _named(self, route: str = "") -> str:
        method = self._method["http.request.method"]
        return f"{'HTTP' if method == '_OTHER' else method} {route}".rstrip()

    def _at(self, moment: float) -> int:
        """A moment of the clock, as OpenTelemetry has it."""
        return int((self._epoch + moment) * _NANO)


def _method_of(head: Head) -> Attributes:
    method = head.method.decode()
    if method in _METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method[:METHOD_LIMIT]}


def _about(head: Head, caller: CallerConnection) -> Attributes:
    """What is known of a request before it is judged."""
    found: Attributes = {
        "url.scheme": "https" if caller.tls else "http",
        "url.path": shown_path(head.target.decode()),
        "network.protocol.version": "1.0" if head.http10 else "1.1",
    }
    if caller.peer:
        found["client.address"] = caller.peer
    if head.host:
        found["server.address"], found["server.port"] = _place(caller.tls, head.host)
    return found


@lru_cache(maxsize=256)
def _place(tls: bool, host: bytes) -> tuple[str, int]:  # noqa: FBT001  # lru_cache wants positions
    url = URL.build(scheme="https" if tls else "http", authority=host.decode())
    return url.host or "", url.port or 0


def _outcome(event: AccessEvent) -> Attributes:
    told: Attributes = {
        _OURS + "request_id": event.request_id,
        "http.request.body.size": event.bytes_in,
        "http.response.body.size": event.bytes_out,
    }
    if event.outcome != "caller_left":
        told["http.response.status_code"] = event.status
    if event.service is not None:
        told["http.route"] = f"/{event.service}/{{path}}"
    known = ((name, getattr(event, name)) for name in _OURS_KNOWN)
    return told | {_OURS + name: value for name, value in known if value is not None}


def _fields_of(span: Span) -> bytes:
    """The fields that make it a parent (W3C Trace Context §3.2, §3.3); none where it has no ids."""
    context = span.get_span_context()
    if not context.is_valid:
        return b""
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    state = context.trace_state.to_header() if context.trace_state else ""
    lines = f"traceparent: {parent}\r\n" + (f"tracestate: {state}\r\n" if state else "")
    return lines.encode("latin-1")
