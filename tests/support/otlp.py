"""A receiver of OTLP over HTTP on loopback that keeps the spans, decoded from protobuf."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message


@dataclass(frozen=True)
class Received:
    """A span as it came; ids in hex, times in nanoseconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    events: list[str]
    resource: dict[str, Any]


class Receiver:
    """Takes ``POST /v1/traces`` until the end of the block. ``gate``: while it is clear nobody is answered."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.fields: list[dict[str, str]] = []
        self.raw = b""
        self.gate = threading.Event()
        self.gate.set()
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.gate.wait(30)
                assert self.path == "/v1/traces"
                receiver._take(body, {name.lower(): value for name, value in self.headers.items()})
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """An exporter that is cut off is what a test is about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, body: bytes, fields: dict[str, str]) -> None:
        told = ExportTraceServiceRequest.FromString(body)
        with self._news:
            self.raw += body
            self.fields.append(fields)
            for group in told.resource_spans:
                resource = _values(group.resource.attributes)
                for scope in group.scope_spans:
                    self.spans += [_received(span, resource) for span in scope.spans]
            self._news.notify_all()

    def until(self, enough: Callable[[list[Received]], bool], limit: float = 30) -> list[Received]:
        """The spans, once there are enough."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self.spans), limit), self.spans
            return list(self.spans)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


def _received(span: Message, resource: dict[str, Any]) -> Received:
    return Received(
        span.name,
        Message.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        _values(span.attributes),
        [event.name for event in span.events],
        resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
