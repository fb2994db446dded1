"""The data path: one coroutine that reads as its own table of contents.

gate -> parse target -> find key -> authenticate -> match service, host, path -> permit -> connection
-> credential -> rewrite -> forward -> relay -> record. The only module that knows both ``forwarding`` and ``connectors``.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy import log
from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Credential
from proxy.errors import AccountError, BodyTooLarge, InvalidKey, Overloaded, RequestError, UnknownService
from proxy.forwarding.exchange import BodyLimits, Exchange, Timeline
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.gate import Head, Limits, gate
from proxy.forwarding.keys import Grant, KeyRing, Presented, find_key
from proxy.forwarding.permits import check, effective_method
from proxy.forwarding.pool import Pool
from proxy.forwarding.rewrite import Injection, prepare, request_head
from proxy.forwarding.routing import Route, Target, match, parse_target, resolve_host, rooted_target
from proxy.forwarding.server import CallerConnection
from proxy.forwarding.slowdown import Slowdown
from proxy.metrics import Metrics
from proxy.problems import Answer, internal, problem, row

HEALTH = b"/-/health"
_INJECTIONS_KEPT = 4096
_UNAUTHORIZED = 401


class Credentials(Protocol):
    """What the data path needs of the connectors module."""

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """The living credential, without waiting; None when it is not at hand."""

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The living credential; raises an AccountError or UnavailableError."""

    async def refused(self, credential: Credential) -> Credential | None:
        """The service refused it: a newer one, or None when there is none to be had."""


@dataclass(frozen=True, slots=True)
class DataPlaneOptions:
    """``body_bytes``: limit of a request body (0: none). ``body_idle_s``: seconds between its pieces.

    ``upstream_per_service``: requests to one service at once. ``connect_base_url``: where a person connects an
    account, None when nothing is served there.
    """

    limits: Limits = field(default_factory=Limits)
    body_bytes: int = 0
    body_idle_s: float = 60.0
    upstream_per_service: int = 256
    connect_base_url: str | None = None


@dataclass(slots=True)
class Record:
    """What the log will say of a request: written step by step, read once at the end, decides nothing."""

    request_id: str
    started: float
    method: str
    path: str
    key_id: str | None = None
    service: str | None = None
    connection: str | None = None
    status: int = 0
    error: str | None = None
    outcome: log.Outcome = "answered"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be made: whose it is, where it goes, with whose token."""

    head: Head
    route: Route
    presented: Presented
    credential: Credential


class DataPlane:
    """Answers the requests of the data plane.

    Args:
        catalog, connectors, pool, metrics, events: the parts, see there.
        options: see DataPlaneOptions.
        clock: monotonic seconds; wall: seconds since the epoch.

    ``keyring`` is replaced whole when keys change; ``draining`` makes ``/-/health`` answer 503.
    ``used`` holds the last use (seconds since the epoch) of keys since it was last taken.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        connectors: Credentials,
        pool: Pool,
        metrics: Metrics,
        events: log.EventWriter,
        options: DataPlaneOptions,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = catalog
        self.connectors = connectors
        self.keyring = KeyRing({})
        self.draining = False
        self.used: dict[str, float] = {}
        self._pool = pool
        self._metrics = metrics
        self._events = events
        self._options = options
        self._body_limits = BodyLimits(options.body_bytes, options.body_idle_s)
        self._clock = clock
        self._wall = wall
        self._slowdown = Slowdown()
        self._injections: dict[tuple[str, str, str], tuple[Credential, Injection]] = {}
        self._at_work: dict[str, int] = {}
        self._id_prefix = secrets.token_hex(5)
        self._ids = count(1)

    # --- the data path -------------------------------------------------------------------------------

    async def answer(
        self, message: RawRequestMessage, payload: StreamReader, caller: CallerConnection
    ) -> None:
        """Answer one request; lets no exception out but the cancellation of a caller that left."""
        record = Record(self._new_id(), self._clock(), message.method, message.path)
        timeline = Timeline()
        head: Head | None = None
        try:
            head = gate(
                message.method, message.path, message.version, message.raw_headers, self._options.limits
            )
            if head.wants_close:
                caller.keep = False
            own = self._own_answer(head)
            if own is not None:
                self._write(own, record, caller, head)
                return
            admitted = await self._admit(head, caller, record)
            with _Place(self._at_work, admitted.route.service.type_id, self._options.upstream_per_service):
                await self._forward(admitted, payload, caller, timeline)
            record.status = timeline.status or 0
        except RequestError as error:
            await self._refuse(error, record, caller, head, payload)
        except asyncio.CancelledError:
            record.outcome, record.status = "caller_left", log.CALLER_LEFT
            raise
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end the connection without an answer
            log.crash("data_path_failed", error, request_id=record.request_id)
            self._fail(record, caller, head, timeline)
        finally:
            self._record(record, timeline, caller)

    async def _admit(self, head: Head, caller: CallerConnection, record: Record) -> Admitted:
        """Find out who asks, for what, and with whose account; nothing has left the process yet."""
        target = parse_target(head.target)
        service = self.catalog.services.get(target.service)
        presented = find_key(head, service, target.query)
        grant = self.keyring.authenticate(presented.key, now=self._wall(), peer_ip=caller.peer or None)
        record.key_id = grant.record.key_id
        self.used[grant.record.key_id] = self._wall()
        target, service = self._rooted(target, service, grant, head)
        if service is None:
            raise UnknownService("there is no service of that name; the first path segment names the service")
        record.service = service.type_id
        if self._options.body_bytes and head.length > self._options.body_bytes:
            raise BodyTooLarge(f"the request body is larger than {self._options.body_bytes} bytes")
        route = match(target, head.method, service)
        method = effective_method(head, route.query, service)
        credential = self.connectors.ready(service.type_id, route.connection)
        name = route.connection if credential is None else credential.connection
        if name is None and grant.permits.names_connections(service.type_id):
            credential = await self.connectors.obtain(service.type_id, None)
            name = credential.connection
        check(grant.permits, service, name, method, route.path)
        if credential is None:
            credential = await self.connectors.obtain(service.type_id, route.connection)
        record.connection = credential.connection
        return Admitted(head, route, presented, credential)

    def _rooted(
        self, target: Target, service: Service | None, grant: Grant, head: Head
    ) -> tuple[Target, Service | None]:
        """A key made for one service reaches it without its prefix; a literal service id always wins."""
        root = grant.record.root
        if service is not None or root is None:
            return target, service
        return rooted_target(head.target, root), self.catalog.services.get(root)

    async def _forward(
        self, admitted: Admitted, payload: StreamReader, caller: CallerConnection, timeline: Timeline
    ) -> None:
        """Send the request with the account's token and relay the answer."""
        head, route, credential = admitted.head, admitted.route, admitted.credential
        exchange = Exchange(
            self._pool, head, payload, caller, limits=self._body_limits, timeline=timeline, clock=self._clock
        )
        try:
            answer = await self._send(exchange, admitted, credential)
            if answer.status == _UNAUTHORIZED and head.body == "none":
                newer = await self.connectors.refused(credential)
                if newer is not None and newer is not credential:
                    exchange.drop()
                    answer = await self._send(
                        exchange, Admitted(head, route, admitted.presented, newer), newer
                    )
            await exchange.relay(answer)
        except BaseException:
            exchange.drop()
            raise

    async def _send(self, exchange: Exchange, admitted: Admitted, credential: Credential) -> AnswerHead:
        injection = self._injection(admitted.route, credential)
        outgoing = request_head(admitted.head, admitted.route, injection, admitted.presented)
        return await exchange.send(injection.origin, outgoing)

    def _injection(self, route: Route, credential: Credential) -> Injection:
        """What this credential puts into requests to this host; kept as long as the credential lives."""
        host = resolve_host(route, credential.config)
        place = (credential.service, credential.connection, host.name)
        known = self._injections.get(place)
        if known is not None and known[0] is credential and known[1].service is route.service:
            return known[1]
        injection = prepare(
            route.service,
            host,
            token=credential.access_token,
            scheme=credential.scheme,
            config=credential.config,
        )
        if len(self._injections) >= _INJECTIONS_KEPT:
            self._injections.clear()
        self._injections[place] = (credential, injection)
        return injection

    # --- answers of our own --------------------------------------------------------------------------

    def _own_answer(self, head: Head) -> Answer | None:
        if head.is_asterisk:
            return Answer(204, ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),), b"")
        if head.target != HEALTH:
            return None
        body = b'{"status":"draining"}' if self.draining else b'{"status":"ok"}'
        fields = (
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Cache-Control", b"no-store"),
        )
        return Answer(503 if self.draining else 200, fields, body)

    async def _refuse(
        self,
        error: RequestError,
        record: Record,
        caller: CallerConnection,
        head: Head | None,
        payload: StreamReader,
    ) -> None:
        """Answer with a problem; the connection goes on only after a request that was read whole."""
        if isinstance(error, InvalidKey):
            delay = self._slowdown.failed(caller.peer, self._clock())
            if delay:
                await asyncio.sleep(delay)
        if head is None or not (payload is EMPTY_PAYLOAD or payload.is_eof()):
            caller.keep = False
        service = self.catalog.services.get(error.service) if error.service else None
        base = self._options.connect_base_url
        connect_url = f"{base}/connect/{error.service}" if base and isinstance(error, AccountError) else None
        made = problem(
            error,
            request_id=record.request_id,
            plane="data",
            connect_url=connect_url,
            shape=service.errors if service is not None else None,
        )
        record.error = row(error).code
        record.outcome = "refused"
        self._write(made, record, caller, head)

    def refuse(self, error: RequestError, caller: CallerConnection) -> None:
        """Answer bytes that are no request, or a caller too many, and end the connection."""
        record = Record(self._new_id(), self._clock(), "-", "-", error=row(error).code, outcome="refused")
        caller.keep = False
        made = problem(error, request_id=record.request_id, plane="data")
        self._write(made, record, caller, None)
        caller.end(linger=True)
        self._record(record, Timeline(), caller)

    def _fail(self, record: Record, caller: CallerConnection, head: Head | None, timeline: Timeline) -> None:
        record.outcome, record.error, caller.keep = "failed", "internal_error", False
        if timeline.status is not None:  # an answer has begun: all that can be told is that it is cut
            caller.abort()
            return
        self._write(internal(request_id=record.request_id, plane="data"), record, caller, head)

    def _write(self, made: Answer, record: Record, caller: CallerConnection, head: Head | None) -> None:
        record.status = made.status
        if self.draining:
            caller.keep = False
        http10 = head is not None and head.http10
        lines = [b"HTTP/1.%d %d \r\n" % (0 if http10 else 1, made.status)]
        lines += [b"%b: %b\r\n" % pair for pair in made.headers]
        if not caller.keep:
            lines.append(b"Connection: close\r\n")
        elif http10:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        if head is None or head.method != b"HEAD":
            lines.append(made.body)
        caller.write(b"".join(lines))

    # --- the record ----------------------------------------------------------------------------------

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids):x}"

    def _record(self, record: Record, timeline: Timeline, caller: CallerConnection) -> None:
        ended = self._clock()
        duration = ended - record.started
        waited = first_byte = None
        if timeline.sent_at is not None:
            waited = (timeline.head_at or ended) - timeline.sent_at
            first_byte = waited if timeline.head_at is not None else None
        if timeline.cut is not None:
            record.outcome, record.error = "cut", row(timeline.cut).code
        added = None
        if timeline.sent_at is not None and timeline.head_at is not None and timeline.written_at is not None:
            added = timeline.sent_at - record.started + timeline.written_at - timeline.head_at
        if record.error is not None:
            self._metrics.refused(record.error)
        self._metrics.service(record.service).record(
            record.method,
            record.status,
            bytes_in=timeline.bytes_in,
            bytes_out=timeline.bytes_out,
            duration=duration,
            added=added,
            first_byte=first_byte,
        )
        self._events.emit(
            log.AccessEvent(
                self._wall() - duration,
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
                caller.peer,
                record.outcome,
            )
        )


class _Place:
    """One of a service's places for requests at work; refuses when all are taken (R64)."""

    __slots__ = ("_at_work", "_service")

    def __init__(self, at_work: dict[str, int], service: str, most: int) -> None:
        taken = at_work.get(service, 0)
        if most and taken >= most:
            raise Overloaded(
                "the proxy already has as many requests to this service at work as it may have",
                retry_after=1.0,
                service=service,
            )
        at_work[service] = taken + 1
        self._at_work = at_work
        self._service = service

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._at_work[self._service] -= 1


def key_uses(plane: DataPlane) -> Mapping[str, float]:
    """Take the last uses noted since the last call: key id -> seconds since the epoch."""
    used, plane.used = plane.used, {}
    return used
