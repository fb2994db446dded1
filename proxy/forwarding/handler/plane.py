"""One request after another, from the first byte to the line in the log."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy import accesslog, log
from proxy.errors import BadRequest, InvalidKey, RequestError
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.direct import Direct, Ways
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.gate import Head
from proxy.forwarding.handler.admission import Admission
from proxy.forwarding.handler.sending import Sending, Sent
from proxy.forwarding.handler.terms import Admitted, Terms
from proxy.forwarding.handshake import SWITCHED
from proxy.forwarding.headroom import Headroom
from proxy.forwarding.keylimits import KeyLimits
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.own_answers import OWN, about_the_proxy, refusal, write
from proxy.forwarding.places import Place
from proxy.forwarding.pool import Pool
from proxy.forwarding.record import Record, Recorder, Tracing, Watcher
from proxy.forwarding.slowdown import Slowdown
from proxy.forwarding.timeline import Timeline
from proxy.metrics import Metrics
from proxy.problems import Answer, internal, row


@dataclass(slots=True)
class _About:
    """What is told of a request; ``head`` as soon as it is known."""

    record: Record
    timeline: Timeline
    head: Head | None = None


class DataPlane:
    """Answers the requests of the data plane.

    Args:
        terms: what requests are judged by; ``terms`` may be replaced at any time.
        pool, metrics, events: the parts, see there.
        options: see DataPlaneOptions.
        capabilities: makes and judges addresses that carry their own authorization.
        clock: monotonic seconds; wall: seconds since the epoch.
        tracing: makes a trace of each request; None: nobody wants one.

    ``draining`` makes ``/-/health`` answer 503. ``take_uses``, ``take_account_uses``: see Admission.
    ``headroom``: how many calls services say are left.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        pool: Pool,
        metrics: Metrics,
        events: accesslog.Events,
        options: DataPlaneOptions,
        capabilities: Capabilities,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
    ) -> None:
        self.draining = False
        self._pool = pool
        self.headroom = Headroom()
        self.headroom.know(terms.catalog.services)
        self._recorder = Recorder(metrics, events, clock, wall, tracing=tracing, headroom=self.headroom)
        self._ways = Ways(self._recorder, self._go_on)
        self._tracing = tracing
        self._options = options
        self._clock = clock
        self._admission = Admission(terms, options, capabilities, clock=clock, wall=wall)
        self._sending = Sending(terms, pool, options, capabilities, clock=clock, wall=wall)
        self._slowdown = Slowdown()
        self._at_work: dict[str, int] = {}
        self._key_limits = KeyLimits(options.share)
        self.take_uses = self._admission.take_uses
        self.take_account_uses = self._admission.take_account_uses

    @property
    def terms(self) -> Terms:
        """What requests are judged by."""
        return self._admission.terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        if terms.catalog is not self.terms.catalog:
            self.headroom.know(terms.catalog.services)
        self._admission.terms = self._sending.terms = terms

    def watch(self, watcher: Watcher | None) -> None:
        """Tell somebody of every request when it is over, or nobody any more."""
        self._recorder.watcher = watcher

    # --- the data path -------------------------------------------------------------------------------

    async def answer(
        self, message: RawRequestMessage, payload: StreamReader, caller: CallerConnection
    ) -> None:
        """Answer one request; lets no exception out but the cancellation of a caller that left."""
        record = self._recorder.begin(message.method, message.path)
        about = _About(record, Timeline())
        await self._told(self._answer(message, payload, caller, about), about, caller, payload)

    async def _answer(
        self, message: RawRequestMessage, payload: StreamReader, caller: CallerConnection, about: _About
    ) -> None:
        head = about.head = caller.repeat.head(message, self._options.limits)
        if head.wants_close:
            caller.keep = False
        own = about_the_proxy(head, draining=self.draining)
        if own is not None:
            caller.keep = caller.keep and caller.payload_read(payload)
            self._write(own, about.record, caller, head)
            return
        if self._tracing is not None:
            about.timeline.trace = self._tracing.begin(head, caller, about.record.started)
        if head.websocket and caller.switching is None:
            raise BadRequest(
                "a WebSocket handshake may not be sent behind a request that is not answered yet"
            )
        admitted = await self._admission.judged(head, payload, caller, about.record)
        if admitted.grant.limited:
            with self._key_limits.place(admitted.grant.record, self._clock(), max(1, admitted.batch)):
                await self._served(admitted, payload, caller, about)
        else:
            await self._served(admitted, payload, caller, about)

    async def _served(
        self, admitted: Admitted, payload: StreamReader, caller: CallerConnection, about: _About
    ) -> None:
        with Place(self._at_work, admitted.lane, self._options.upstream_per_service):
            await self._sending.forward(admitted, payload, caller, about.timeline)
        about.record.status = about.timeline.status or 0

    def begin(self, message: RawRequestMessage, caller: CallerConnection) -> Direct | None:
        """Send a request the short way, if it can go it; else None, and :meth:`answer` has to be asked."""
        try:
            return self._begin(message, caller)
        except Exception:  # noqa: BLE001  # whatever it is, the long way meets it too, and tells
            return None

    def _begin(self, message: RawRequestMessage, caller: CallerConnection) -> Direct | None:
        head = caller.repeat.head(message, self._options.limits)
        if head.body != "none" or head.wants_close or head.http10 or self.draining or head.target in OWN:
            return None
        record = self._recorder.begin(message.method, message.path)
        admitted = self._admission.at_hand(head, caller, record)
        if admitted is None:
            return None
        sent = self._sending.outgoing(admitted, caller.repeat)
        service, most = admitted.route.service.type_id, self._options.upstream_per_service
        if most and self._at_work.get(service, 0) >= most:
            return None
        connection = self._pool.take(sent.injection.origin)
        if connection is None:
            return None
        timeline = Timeline()
        if self._tracing is not None:
            timeline.trace = self._tracing.begin(head, caller, record.started)
        exchange = Exchange(self._pool, head, caller, None, timeline)
        direct = Direct(exchange, Place(self._at_work, service, most), record, sent, self._ways)
        direct.begin(connection)
        return direct

    async def _go_on(self, direct: Direct, caller: CallerConnection) -> None:
        """What :meth:`answer` does, from where the short way ended."""
        about = _About(direct.record, direct.exchange.timeline, direct.exchange.request)
        await self._told(self._see_on(direct, caller), about, caller, EMPTY_PAYLOAD)

    async def _see_on(self, direct: Direct, caller: CallerConnection) -> None:
        exchange, sent = direct.exchange, direct.sent
        if not isinstance(sent, Sent):
            raise TypeError("begun by another handler")
        with direct.place:
            try:
                answer = await exchange.head(sent.injection.origin, sent.outgoing)
                await self._sending.see_through(exchange, answer, sent, caller)
            except BaseException:
                exchange.drop()
                raise
        direct.record.status = direct.exchange.timeline.status or 0

    async def _told(
        self, work: Awaitable[None], about: _About, caller: CallerConnection, payload: StreamReader
    ) -> None:
        """Do the work; what goes wrong is answered, and whatever happens is recorded."""
        record = about.record
        caller.begun(about.timeline)
        try:
            await work
        except RequestError as error:
            await self._refuse(error, record, caller, about.head, payload)
        except asyncio.CancelledError:
            if about.timeline.status == SWITCHED:  # how most WebSockets end, unless it was a stop that cut it
                record.outcome, record.status = "cut" if self.draining else "answered", SWITCHED
            else:
                record.outcome, record.status = "caller_left", accesslog.CALLER_LEFT
            raise
        except Exception as error:  # noqa: BLE001  # a fault of ours needs an answer too
            log.crash("data_path_failed", error, request_id=record.request_id)
            self._fail(record, caller, about.head, about.timeline)
        finally:
            self._recorder.end(record, about.timeline, caller.peer)

    # --- answers of our own --------------------------------------------------------------------------

    async def _refuse(
        self,
        error: RequestError,
        record: Record,
        caller: CallerConnection,
        head: Head | None,
        payload: StreamReader,
    ) -> None:
        """Answer with a problem; the connection goes on only after a request that was read whole."""
        caller.refused(error)
        if isinstance(error, InvalidKey):
            delay = self._slowdown.failed(caller.peer, self._clock())
            try:
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                record.outcome, record.status = "caller_left", accesslog.CALLER_LEFT
                raise
        if head is None or not caller.payload_read(payload):
            caller.keep = False
        base = self._options.connect_base_url
        error.service = error.service or record.service
        made = refusal(error, self.terms.catalog, request_id=record.request_id, connect_base_url=base)
        record.error, record.outcome = row(error).code, "refused"
        self._write(made, record, caller, head)

    def refuse(self, error: RequestError, caller: CallerConnection) -> None:
        """Answer bytes that are no request, or a caller too many, and end the connection."""
        record = self._recorder.begin("-", "-")
        record.error, record.outcome = row(error).code, "refused"
        caller.keep = False
        made = refusal(error, self.terms.catalog, request_id=record.request_id, connect_base_url=None)
        self._write(made, record, caller, None)
        caller.end(linger=True)
        self._recorder.end(record, Timeline(), caller.peer)

    def _fail(self, record: Record, caller: CallerConnection, head: Head | None, timeline: Timeline) -> None:
        record.outcome, record.error, caller.keep = "failed", "internal_error", False
        if timeline.status is not None:  # an answer has begun: all that can be told is that it is cut
            caller.abort()
            return
        self._write(internal(request_id=record.request_id, plane="data"), record, caller, head)

    def _write(self, made: Answer, record: Record, caller: CallerConnection, head: Head | None) -> None:
        record.status = made.status
        if self.draining or caller.is_last:
            caller.keep = False
        write(made, caller, head)
