"""A request that may be made: rewritten, sent with the account's token, its answer relayed."""

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from aiohttp.streams import StreamReader

from proxy.connectors.model import Credential
from proxy.errors import RequestError
from proxy.forwarding.arrival import arrival_of
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.handler.everybody import NOBODY
from proxy.forwarding.handler.standing import why_over
from proxy.forwarding.handler.terms import Admitted, Terms
from proxy.forwarding.injection import Injection, looks_into, prepare
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.links.capability import Capabilities, bare
from proxy.forwarding.links.rewriting import AddressMaps, Links
from proxy.forwarding.nested.answers import answers_of
from proxy.forwarding.nested.refused import UNAUTHORIZED, Refused
from proxy.forwarding.pool import Pool
from proxy.forwarding.repeat import Repeat
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import Route, resolve_host
from proxy.forwarding.timeline import Timeline
from proxy.forwarding.upload import BodyLimits, Upload
from proxy.forwarding.websocket import Judge
from proxy.secret import Secret

_INJECTIONS_KEPT = 4096


class Sent(NamedTuple):
    """A request as it goes out. ``looked``: the body of its answer is looked into for addresses."""

    admitted: Admitted
    injection: Injection
    outgoing: bytes
    looked: bool


class Sending:
    """Sends requests that may be made.

    Args:
        terms: services, for the addresses in answers; accounts, for a token that was refused.
        pool: connections to services.
        options: see DataPlaneOptions.
        capabilities: makes addresses that carry their own authorization.
        clock: monotonic seconds; wall: seconds since the epoch.
    """

    def __init__(
        self,
        terms: Terms,
        pool: Pool,
        options: DataPlaneOptions,
        capabilities: Capabilities,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.terms = terms
        self._pool = pool
        self._options = options
        self._capabilities = capabilities
        self._clock = clock
        self._wall = wall
        self._maps = AddressMaps()
        self._body_limits = BodyLimits(options.body_bytes, options.body_idle_s, options.replay_bytes)
        self._injections: dict[tuple[str, str, str], tuple[Credential, Injection]] = {}

    async def forward(
        self, admitted: Admitted, payload: StreamReader, caller: CallerConnection, timeline: Timeline
    ) -> None:
        """Send the request with the account's token and relay the answer."""
        head = admitted.head
        upload = None
        if head.body != "none":
            presented = admitted.presented
            watch = presented.key if presented is not None and admitted.watched else None
            body, rest = admitted.body, admitted.rest
            upload = Upload(head, payload, caller, self._body_limits, body=body, rest=rest, watch=watch)
        judge = self._judge(admitted, caller) if head.websocket else None
        exchange = Exchange(self._pool, head, caller, upload, timeline, judge=judge)
        try:
            sent = self.outgoing(admitted, caller.repeat)
            answer = await exchange.send(sent.injection.origin, sent.outgoing)
            await self.see_through(exchange, answer, sent, caller)
        except BaseException:
            exchange.drop()
            raise
        finally:
            if upload is not None:
                timeline.bytes_in = upload.size

    def _judge(self, admitted: Admitted, caller: CallerConnection) -> Judge:
        """What ends a WebSocket: that its handshake would be refused by now (R89)."""
        return lambda: why_over(admitted, self.terms, self._capabilities, now=self._wall(), peer=caller.peer)

    async def see_through(
        self, exchange: Exchange, answer: AnswerHead, sent: Sent, caller: CallerConnection
    ) -> None:
        """Relay the answer; after a refusal of the token, that to the request with a newer one (R63)."""
        admitted, injection, outgoing, looked = sent
        rule, credential = injection.refusals.get(answer.status), admitted.credential
        if (
            rule is not None
            and credential is not None
            and not admitted.spliced
            and injection.line in outgoing
            and await exchange.is_refused(rule, answer)
        ):
            since = exchange.now()
            newer = await self.terms.connectors.refused(credential)
            exchange.waited_for_token(since)
            if newer is not None and newer is not credential and exchange.replayable:
                again = admitted._replace(credential=newer)
                _, injection, outgoing, looked = self.outgoing(again, caller.repeat)
                answer = await exchange.send_again(injection.origin, outgoing)
                credential = newer
        links, refused = None, Refused() if admitted.batch else None
        if refused is not None or ((answer.addressed or looked) and self._options.links):
            links = self._links(admitted, injection, caller, refused)
        await exchange.relay(answer, injection.token, links)
        if refused is not None and refused.seen:
            await self._renew(exchange, injection, credential)

    async def _renew(self, exchange: Exchange, injection: Injection, credential: Credential | None) -> None:
        """After the service refused the token for a part of a batch: the next request has a newer one.

        The batch is not sent again: others of its parts may have been done.
        """
        rule = injection.refusals.get(UNAUTHORIZED)
        if rule is None or not rule.otherwise or credential is None:
            return
        since = exchange.now()
        with contextlib.suppress(RequestError):  # the answer is on its way; the next request is told
            await self.terms.connectors.refused(credential)
        exchange.waited_for_token(since)

    def outgoing(self, admitted: Admitted, repeat: Repeat) -> Sent:
        """The request's head as bytes, with what the account puts into it."""
        last = repeat.sent
        if isinstance(last, Sent) and last.admitted is admitted:
            return last
        head, route, _, presented, credential, body, *_ = admitted
        if admitted.grant is NOBODY:
            host = resolve_host(route, None)
            injection = prepare(route.service, host, token=Secret(""), withheld=self._options.withheld)
        elif credential is None:
            injection = bare(route, self._options.withheld)
        else:
            injection = self._injection(route, credential)
        looked = looks_into(injection, route.path)
        if credential is None or body is not None or presented is None:
            return Sent(admitted, injection, request_head(head, route, injection, presented), looked)
        outgoing = repeat.outgoing(head, route, injection, presented)
        repeat.sent = sent = Sent(admitted, injection, outgoing, looked)
        return sent

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
            withheld=self._options.withheld,
        )
        if len(self._injections) >= _INJECTIONS_KEPT:
            self._injections.clear()
        self._injections[place] = (credential, injection)
        return injection

    def _links(
        self, admitted: Admitted, injection: Injection, caller: CallerConnection, refused: Refused | None
    ) -> Links:
        """What becomes of the addresses in the answer; ``refused``: to be told of the parts of a batch's."""
        head, route, grant, _, credential, *_ = admitted
        public, service = self._options.public_url, route.service
        base = public
        if not public and head.host:
            base = b"%b://%b" % (b"https" if caller.tls else b"http", head.host)
        arrival = arrival_of(
            head.target,
            route,
            base=base,
            services=self.terms.catalog.services,
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
        declared, here = injection.links, str(injection.origin).encode()
        if refused is not None:
            names = None if declared is None else declared.in_batch(route.path)
            return Links(addresses, here, names, answers_of(here, addresses, names, refused))
        return Links(addresses, here, None if declared is None else declared.at(route.path))
