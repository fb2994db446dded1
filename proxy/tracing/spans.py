"""OpenTelemetry's library, set up: what samples, what batches, what sends.

Where spans go, which requests are traced and how many spans wait stands in the library's own variables
(``OTEL_EXPORTER_OTLP_...``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_...``), which it reads itself.
"""

import asyncio
import time
import uuid
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy import __version__, log
from proxy.accesslog import AccessEvent
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.timeline import Timeline, Trace
from proxy.threads import in_daemon
from proxy.tracing.request import Making, RequestTrace

CLOSE_S = 3.0  # for what is still to be sent at the end; a supervisor waits longer for its workers
_NAMELESS = "unknown_service"
_PARENT = "traceparent"


class _Fields(Getter[Head]):
    """A request's fields, for OpenTelemetry; two parents are none (W3C Trace Context §3.2)."""

    def get(self, carrier: Head, key: str) -> list[str] | None:
        name = key.encode()
        if name not in carrier.values:
            return None
        found = [value.decode("latin-1") for low, _, value in carrier.fields if low == name]
        return None if key == _PARENT and len(found) > 1 else found

    def keys(self, carrier: Head) -> list[str]:
        return [name.decode() for name in carrier.values]


class Spans:
    """Traces the requests of this process (``record.Tracing``).

    Args:
        provider: of the library; shut down by :meth:`close`.
        making: how spans are made.
    """

    def __init__(self, provider: TracerProvider, making: Making) -> None:
        self._provider = provider
        self._making = making
        self._caller_context = TraceContextTextMapPropagator()
        self._fields = _Fields()

    def begin(self, head: Head, caller: CallerConnection, started: float) -> Trace:
        """See ``record.Tracing``."""
        parent = self._caller_context.extract(head, Context(), self._fields)
        return RequestTrace(self._making, parent, head, caller, started)

    def end(self, trace: Trace, event: AccessEvent, timeline: Timeline, token_s: float) -> None:
        """See ``record.Tracing``."""
        if not isinstance(trace, RequestTrace):
            raise TypeError("begun by another tracer")
        trace.end(event, timeline, token_s)

    async def close(self) -> None:
        """Send what is left, for at most :data:`CLOSE_S` seconds."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await in_daemon(self._provider.shutdown, name="spans")
        except TimeoutError:
            log.event("spans_left", level="warning", waited_s=CLOSE_S)


def opened(
    *,
    continued: bool,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Spans | None:
    """What traces from now on; None where ``OTEL_SDK_DISABLED`` says that nothing shall.

    Args:
        continued: services get our spans as the parents of theirs.
        clock: monotonic seconds.
        wall: seconds since the epoch.

    Raises:
        ValueError: one of the library's variables makes no sense.
    """
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    tracer = provider.get_tracer("connector-proxy", __version__)
    if isinstance(tracer, NoOpTracer):
        return None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider, Making(tracer, continued, clock, wall))


def _resource() -> Resource:
    """Who sends: what the environment says, and otherwise what is known."""
    made = Resource.create({SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: str(uuid.uuid4())})
    if str(made.attributes[SERVICE_NAME]).startswith(_NAMELESS):
        made = made.merge(Resource({SERVICE_NAME: "connector-proxy"}))
    return made
