"""The data path: one coroutine that reads as its own table of contents.

gate -> parse target -> find key -> authenticate -> match service, host, path -> permit -> connection
-> credential -> rewrite -> forward -> relay -> record. The only module that knows both ``forwarding`` and
``connectors``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy import log
from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Credential
from proxy.connectors.module import Obtain
from proxy.connectors.sources.base44 import CONTEXT_HEADERS
from proxy.errors import BodyTooLarge, InvalidKey, RequestError, UnknownService
from proxy.forwarding.arrival import arrival_of, by_arrival, by_path
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.direct import Direct
from proxy.forwarding.exchange import Exchange, Timeline
from proxy.forwarding.form import freed_body, key_in_form
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.gate import Head
from proxy.forwarding.keys import Grant, KeyRing, Presented, body_places
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.links.capability import MARK, Capabilities, bare, known_key
from proxy.forwarding.links.rewriting import AddressMaps, Links
from proxy.forwarding.own_answers import about_the_proxy, refusal, write
from proxy.forwarding.permits import check, check_with_any, effective_method
from proxy.forwarding.places import Place
from proxy.forwarding.pool import Pool
from proxy.forwarding.record import Record, Recorder
from proxy.forwarding.repeat import Repeat
from proxy.forwarding.rewrite import Injection, looks_into, prepare, request_head
from proxy.forwarding.routing import Route, Target, match, parse_target, resolve_host, rooted_target
from proxy.forwarding.slowdown import Slowdown
from proxy.forwarding.upload import BodyLimits, Upload
from proxy.metrics import Metrics
from proxy.problems import Answer, internal, row

_INJECTIONS_KEPT = 4096
_NAMES_AN_APP = frozenset(name.lower().encode() for name in CONTEXT_HEADERS)


class Credentials(Protocol):
    """What the data path needs of the connectors module."""

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """The living credential, without waiting; None when it is not at hand."""

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The living credential; raises an AccountError or UnavailableError."""

    def named_by(self, service: str, header: Callable[[str], str | None]) -> Obtain | None:
        """How to obtain what the request's own headers name; None when they name nothing."""

    async def refused(self, credential: Credential) -> Credential | None:
        """The service refused it: a newer one, or None when there is none to be had."""


class Admitted(NamedTuple):
    """A request that may be made: whose it is, where it goes, with whose token.

    ``presented`` and ``credential`` are None where an address carries its own authorization (``capability``).
    ``body``: the request's, where a key could stand in it, read and freed of it; ``head`` then frames it.
    ``watched``: it is not held, but must not go on where the key stands in it.
    """

    head: Head
    route: Route
    grant: Grant
    presented: Presented | None
    credential: Credential | None
    body: bytes | None = None
    watched: bool = False


class _Admission(NamedTuple):
    """What was found out about a request and from what: while that is the same, it holds."""

    admitted: Admitted
    keyring: KeyRing
    catalog: Catalog


class _Sent(NamedTuple):
    """A request as it went out."""

    admitted: Admitted
    injection: Injection
    outgoing: bytes


@dataclass(slots=True)
class _About:
    """What is told of a request; ``head`` as soon as it is known."""

    record: Record
    timeline: Timeline
    head: Head | None = None


class DataPlane:
    """Answers the requests of the data plane.

    Args:
        catalog, connectors, pool, metrics, events: the parts, see there.
        options: see DataPlaneOptions.
        capabilities: makes and judges addresses that carry their own authorization.
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
        capabilities: Capabilities,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = catalog
        self.connectors = connectors
        self.keyring = KeyRing({})
        self.draining = False
        self.used: dict[str, float] = {}
        self._pool = pool
        self._recorder = Recorder(metrics, events, clock, wall)
        self._options = options
        self._capabilities = capabilities
        self._maps = AddressMaps()
        self._body_limits = BodyLimits(options.body_bytes, options.body_idle_s, options.replay_bytes)
        self._clock = clock
        self._wall = wall
        self._slowdown = Slowdown()
        self._injections: dict[tuple[str, str, str], tuple[Credential, Injection]] = {}
        self._at_work: dict[str, int] = {}

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
            self._write(own, about.record, caller, head)
            return
        admitted = await self._admit(head, payload, caller, about.record)
        with Place(self._at_work, admitted.route.service.type_id, self._options.upstream_per_service):
            await self._forward(admitted, payload, caller, about.timeline)
        about.record.status = about.timeline.status or 0

    def begin(self, message: RawRequestMessage, caller: CallerConnection) -> Direct | None:
        """Send a request the short way, if it can go it; else None, and :meth:`answer` has to be asked."""
        try:
            return self._begin(message, caller)
        except Exception:  # noqa: BLE001  # whatever it is, the long way meets it too, and tells
            return None

    def _begin(self, message: RawRequestMessage, caller: CallerConnection) -> Direct | None:
        head = caller.repeat.head(message, self._options.limits)
        if head.body != "none" or head.wants_close or head.http10 or self.draining:
            return None
        if about_the_proxy(head, draining=False) is not None:
            return None
        record = self._recorder.begin(message.method, message.path)
        admitted = self._admit_at_hand(head, caller, record)
        if admitted is None:
            return None
        injection, outgoing = self._outgoing(admitted, caller.repeat)
        service, most = injection.service.type_id, self._options.upstream_per_service
        connection = None
        if not most or self._at_work.get(service, 0) < most:
            connection = self._pool.take(injection.origin)
        if connection is None:
            return None
        timeline = Timeline()
        direct = Direct(
            Exchange(self._pool, head, caller, upload=None, timeline=timeline, clock=self._clock),
            connection,
            caller,
            record=record,
            timeline=timeline,
            place=Place(self._at_work, service, most),
            recorder=self._recorder,
            as_it_is=not looks_into(injection, admitted.route.path),
            admitted=admitted,
            injection=injection,
            outgoing=outgoing,
            long_way=self._go_on,
        )
        direct.begin()
        return direct

    async def _go_on(self, direct: Direct, caller: CallerConnection) -> None:
        """What :meth:`answer` does, from where the short way ended."""
        about = _About(direct.record, direct.timeline, direct.head)
        await self._told(self._see_on(direct, caller), about, caller, EMPTY_PAYLOAD)

    async def _see_on(self, direct: Direct, caller: CallerConnection) -> None:
        exchange, injection = direct.exchange, direct.injection
        if not isinstance(direct.admitted, Admitted):
            raise TypeError("begun by another handler")
        with direct.place:
            try:
                answer = await exchange.head(injection.origin, direct.outgoing)
                sent = _Sent(direct.admitted, injection, direct.outgoing)
                await self._see_through(exchange, answer, sent, caller)
            except BaseException:
                exchange.drop()
                raise
        direct.record.status = direct.timeline.status or 0

    async def _told(
        self, work: Awaitable[None], about: _About, caller: CallerConnection, payload: StreamReader
    ) -> None:
        """Do the work; what goes wrong is answered, and whatever happens is recorded."""
        record = about.record
        try:
            await work
        except RequestError as error:
            await self._refuse(error, record, caller, about.head, payload)
        except asyncio.CancelledError:
            record.outcome, record.status = "caller_left", log.CALLER_LEFT
            raise
        except Exception as error:  # noqa: BLE001  # a fault of ours needs an answer too
            log.crash("data_path_failed", error, request_id=record.request_id)
            self._fail(record, caller, about.head, about.timeline)
        finally:
            self._recorder.end(record, about.timeline, caller.peer)

    async def _admit(
        self, head: Head, payload: StreamReader, caller: CallerConnection, record: Record
    ) -> Admitted:
        """Find out who asks, for what, and with whose account; nothing has left the process yet."""
        now = self._wall()
        remembered = self._remembered(head, caller, record, now)
        if remembered is not None:
            return remembered
        admitted = await self._judge(head, payload, caller, record, now)
        self._note(record, admitted, now)
        if admitted.body is None and admitted.credential is not None:
            caller.repeat.admission = _Admission(admitted, self.keyring, self.catalog)
        return admitted

    def _admit_at_hand(self, head: Head, caller: CallerConnection, record: Record) -> Admitted | None:
        """As :meth:`_admit`, for a request without a body; None when it takes waiting."""
        now = self._wall()
        remembered = self._remembered(head, caller, record, now)
        if remembered is not None:
            return remembered
        target, service = self._by_arrival(head, caller)
        if _is_capability(target):
            return None
        presented = caller.repeat.presented(head, service, target.query)
        grant = self._grant(caller, record, now, presented)
        route, method = self._route(head, record, grant, target, service)
        _, credential = self._account(head, route.service, route)
        if credential is None:
            return None
        check(grant.permits, route.service, credential.connection, method, route.path)
        admitted = Admitted(head, route, grant, presented, credential)
        self._note(record, admitted, now)
        caller.repeat.admission = _Admission(admitted, self.keyring, self.catalog)
        return admitted

    def _remembered(
        self, head: Head, caller: CallerConnection, record: Record, now: float
    ) -> Admitted | None:
        """What was found out about the same request before, if all that it was found out from is the same."""
        last = caller.repeat.admission
        if (
            isinstance(last, _Admission)
            and last.admitted.head is head
            and last.keyring is self.keyring
            and last.catalog is self.catalog
            and last.admitted.grant.record.is_live(now)
        ):
            route, credential = last.admitted.route, last.admitted.credential
            if self.connectors.ready(route.service.type_id, route.connection) is credential:
                self._note(record, last.admitted, now)
                return last.admitted
        return None

    def _note(self, record: Record, admitted: Admitted, now: float) -> None:
        key_id, credential = admitted.grant.record.key_id, admitted.credential
        record.key_id = key_id
        record.service = admitted.route.service.type_id
        record.connection = None if credential is None else credential.connection
        self.used[key_id] = now

    async def _judge(
        self, head: Head, payload: StreamReader, caller: CallerConnection, record: Record, now: float
    ) -> Admitted:
        target, service = self._by_arrival(head, caller)
        if service is not None and _is_capability(target):
            record.service = service.type_id
            self._check_size(head)
            return self._by_capability(head, target, service, caller, now)
        body: bytes | None = None
        try:
            presented = caller.repeat.presented(head, service, target.query)
        except InvalidKey:
            presented, body = await key_in_form(head, target, service, payload, caller)
        grant = self._grant(caller, record, now, presented)
        route, method = self._route(head, record, grant, target, service)
        service = route.service
        obtain, credential = self._account(head, service, route)
        name = route.connection if credential is None else credential.connection
        if name is None and grant.permits.names_connections(service.type_id):
            check_with_any(grant.permits, service, method, route.path)
            credential = await obtain(service.type_id, None)
            name = credential.connection
        check(grant.permits, service, name, method, route.path)
        if credential is None:
            credential = await obtain(service.type_id, route.connection)
        places = body_places(service, route.path) if head.body != "none" and service.key_places else ()
        if not places:
            return Admitted(head, route, grant, presented, credential)
        framed, body = await freed_body(head, body, payload, caller, places=places, key=presented.key)
        return Admitted(framed, route, grant, presented, credential, body, watched=body is None)

    def _by_capability(
        self, head: Head, target: Target, service: Service, caller: CallerConnection, now: float
    ) -> Admitted:
        """A presigned address needs no key; one that comes along all the same goes no further."""
        grant, route = self._capabilities.judged(
            target, head.method, service, keyring=self.keyring, now=now, peer=caller.peer or None
        )
        presented = known_key(head)
        return Admitted(head, route, grant, presented, None, watched=presented is not None)

    def _by_arrival(self, head: Head, caller: CallerConnection) -> tuple[Target, Service | None]:
        return by_arrival(
            parse_target(head.target),
            head.target,
            self.catalog.services,
            listener=caller.listener,
            host=head.host,
            suffixes=self._options.host_suffixes,
        )

    def _grant(self, caller: CallerConnection, record: Record, now: float, presented: Presented) -> Grant:
        """Whose key it is."""
        grant = caller.repeat.grant(presented, self.keyring, now, caller.peer)
        record.key_id = grant.record.key_id
        self.used[grant.record.key_id] = now
        return grant

    def _route(
        self, head: Head, record: Record, grant: Grant, target: Target, service: Service | None
    ) -> tuple[Route, str]:
        """Where the request goes, and the method that counts for permits."""
        if service is None:
            target, service = self._rooted(grant, head)
        record.service = service.type_id
        self._check_size(head)
        route = match(target, head.method, service)
        return route, effective_method(head, route.query, service)

    def _check_size(self, head: Head) -> None:
        if self._options.body_bytes and head.length > self._options.body_bytes:
            raise BodyTooLarge(f"the request body is larger than {self._options.body_bytes} bytes")

    def _account(self, head: Head, service: Service, route: Route) -> tuple[Obtain, Credential | None]:
        """How to obtain the account's credential, and the one that is at hand."""
        if not head.values.keys().isdisjoint(_NAMES_AN_APP):
            named = self.connectors.named_by(service.type_id, lambda name: _text(head, name))
            if named is not None:
                return named, None
        return self.connectors.obtain, self.connectors.ready(service.type_id, route.connection)

    def _rooted(self, grant: Grant, head: Head) -> tuple[Target, Service]:
        """A key made for one service reaches it without its prefix; a path of one service only may, too."""
        root = grant.record.root
        if root is None and self._options.fallback:
            root = by_path(head.target)
            root = root if root is not None and grant.permits.reaches(root) else None
        service = None if root is None else self.catalog.services.get(root)
        if service is None:
            raise UnknownService("there is no service of that name; the first path segment names the service")
        return rooted_target(head.target, service.type_id), service

    async def _forward(
        self,
        admitted: Admitted,
        payload: StreamReader,
        caller: CallerConnection,
        timeline: Timeline,
    ) -> None:
        """Send the request with the account's token and relay the answer."""
        head = admitted.head
        upload = None
        if head.body != "none":
            presented = admitted.presented
            watch = presented.key if presented is not None and admitted.watched else None
            upload = Upload(head, payload, caller, self._body_limits, body=admitted.body, watch=watch)
        exchange = Exchange(self._pool, head, caller, upload=upload, timeline=timeline, clock=self._clock)
        try:
            injection, outgoing = self._outgoing(admitted, caller.repeat)
            answer = await exchange.send(injection.origin, outgoing)
            await self._see_through(exchange, answer, _Sent(admitted, injection, outgoing), caller)
        except BaseException:
            exchange.drop()
            raise
        finally:
            if upload is not None:
                timeline.bytes_in = upload.size

    async def _see_through(
        self, exchange: Exchange, answer: AnswerHead, sent: _Sent, caller: CallerConnection
    ) -> None:
        """Relay the answer; after a refusal of the token, that to the request with a newer one (R63)."""
        admitted, injection, outgoing = sent
        rule, credential = injection.refusals.get(answer.status), admitted.credential
        if (
            rule is not None
            and credential is not None
            and injection.line in outgoing
            and await exchange.is_refused(rule, answer)
        ):
            newer = await self.connectors.refused(credential)
            if newer is not None and newer is not credential and exchange.replayable:
                again = admitted._replace(credential=newer)
                injection, outgoing = self._outgoing(again, caller.repeat)
                answer = await exchange.send_again(injection.origin, outgoing)
        links = None
        if answer.addressed or looks_into(injection, admitted.route.path):
            links = self._links(admitted, injection, caller)
        await exchange.relay(answer, injection.token, links)

    def _links(self, admitted: Admitted, injection: Injection, caller: CallerConnection) -> Links:
        """What becomes of the addresses in the answer."""
        head, route, grant, _, credential, _, _ = admitted
        public, service = self._options.public_url, route.service
        base = public
        if not public and head.host:
            base = b"%b://%b" % (b"https" if caller.tls else b"http", head.host)
        arrival = arrival_of(
            head.target,
            route,
            base=base,
            services=self.catalog.services,
            roots=() if public else (caller.listener, grant.record.root),
            host=b"" if public else head.host,
            suffixes=self._options.host_suffixes,
        )
        addresses = self._maps.of(
            service,
            arrival,
            config={} if credential is None else credential.config or {},
            who=("" if credential is None else credential.connection_id, grant.record.key_id),
            holder=(credential, grant),
            now=self._wall(),
            minting=lambda now: self._capabilities.minting(service, grant.record, now),
        )
        names = injection.links.at(route.path) if injection.links is not None else None
        return Links(addresses, str(injection.origin).encode(), names)

    def _outgoing(self, admitted: Admitted, repeat: Repeat) -> tuple[Injection, bytes]:
        """What the account puts into the request, and the request's head as bytes with it in."""
        head, route, _, presented, credential, body, _ = admitted
        if credential is None:
            injection = bare(route)
            return injection, request_head(head, route, injection, presented)
        injection = self._injection(route, credential)
        if body is not None or presented is None:
            return injection, request_head(head, route, injection, presented)
        return injection, repeat.outgoing(head, route, injection, presented)

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
            try:
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                record.outcome, record.status = "caller_left", log.CALLER_LEFT
                raise
        if head is None or not (payload is EMPTY_PAYLOAD or payload.is_eof()):
            caller.keep = False
        base = self._options.connect_base_url
        error.service = error.service or record.service
        made = refusal(error, self.catalog, request_id=record.request_id, connect_base_url=base)
        record.error, record.outcome = row(error).code, "refused"
        self._write(made, record, caller, head)

    def refuse(self, error: RequestError, caller: CallerConnection) -> None:
        """Answer bytes that are no request, or a caller too many, and end the connection."""
        record = self._recorder.begin("-", "-")
        record.error, record.outcome = row(error).code, "refused"
        caller.keep = False
        made = refusal(error, self.catalog, request_id=record.request_id, connect_base_url=None)
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
        if self.draining:
            caller.keep = False
        write(made, caller, head)


def _is_capability(target: Target) -> bool:
    return target.host is not None and target.host.startswith(MARK)


def _text(head: Head, name: str) -> str | None:
    """A field of the request as text, for whoever reads it by name."""
    value = head.values.get(name.lower().encode())
    return None if value is None else value.decode("latin-1")


def key_uses(plane: DataPlane) -> Mapping[str, float]:
    """Take the last uses noted since the last call: key id -> seconds since the epoch."""
    used, plane.used = plane.used, {}
    return used
