"""Who asks, for what, and with whose account: decided before anything leaves the process."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiohttp.streams import StreamReader

from proxy.catalog.model import Service
from proxy.connectors.model import Credential
from proxy.connectors.module import Obtain
from proxy.connectors.sources.base44 import CONTEXT_HEADERS
from proxy.errors import InvalidKey, UnknownService
from proxy.forwarding.arrival import by_arrival, by_path
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.handler.batches import Whole, judged
from proxy.forwarding.handler.bodies import Arrived, freed
from proxy.forwarding.handler.everybody import NOBODY, public_route
from proxy.forwarding.handler.restricted import Asking, passed
from proxy.forwarding.handler.terms import Admitted, Terms
from proxy.forwarding.handler.waiting import timed
from proxy.forwarding.held import check_size, key_in_body
from proxy.forwarding.keys import Grant, Presented
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.links.capability import MARK, Capabilities, known_key
from proxy.forwarding.nested import judging
from proxy.forwarding.permits import check, check_with_any, effective_method
from proxy.forwarding.record import Record
from proxy.forwarding.routing import Route, Target, match, parse_target, rooted_target

_NAMES_AN_APP = frozenset(name.lower().encode() for name in CONTEXT_HEADERS)


class _Request(NamedTuple):
    """A request that nobody knows yet. ``service``: None where its path does not name one."""

    head: Head
    target: Target
    service: Service | None
    caller: CallerConnection
    record: Record
    now: float


class _Asked(NamedTuple):
    """What somebody with a good key wants. ``credential``: the account's, if it is at hand."""

    route: Route
    method: str
    grant: Grant
    obtain: Obtain
    credential: Credential | None


class _Known(NamedTuple):
    """What was found out about a request and from what: while that is the same, it holds."""

    admitted: Admitted
    terms: Terms


class Admission:
    """Judges requests.

    Args:
        terms: what they are judged by, see there.
        options: see DataPlaneOptions.
        capabilities: judges addresses that carry their own authorization.
        clock: monotonic seconds; wall: seconds since the epoch.

    ``used`` and ``used_accounts`` hold the last use (seconds since the epoch) of keys and connections, by id,
    not of what requests themselves name.
    """

    def __init__(
        self,
        terms: Terms,
        options: DataPlaneOptions,
        capabilities: Capabilities,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.terms = terms
        self.used: dict[str, float] = {}
        self.used_accounts: dict[str, float] = {}
        self._options = options
        self._capabilities = capabilities
        self._clock = clock
        self._wall = wall

    async def judged(
        self, head: Head, payload: StreamReader, caller: CallerConnection, record: Record
    ) -> Admitted:
        """The request, if it may be made; raises a RequestError that says why not."""
        now = record.at
        remembered = self._remembered(head, caller, record, now)
        if remembered is not None:
            return remembered
        request = _Request(head, *self._by_arrival(head, caller), caller, record, now)
        if request.service is not None and _is_capability(request.target):
            admitted = self._by_capability(request, request.service)
        else:
            admitted = await self._by_key(request, payload)
        return self._kept(admitted, caller, record, now)

    def at_hand(self, head: Head, caller: CallerConnection, record: Record) -> Admitted | None:
        """As :meth:`judged`, for a request without a body; None when it takes waiting."""
        now = record.at
        remembered = self._remembered(head, caller, record, now)
        if remembered is not None:
            return remembered
        request = _Request(head, *self._by_arrival(head, caller), caller, record, now)
        if _is_capability(request.target):
            return None
        presented = caller.repeat.presented(head, request.service, request.target.query)
        route, method, grant, _, credential = self._asked(request, presented)
        if credential is None or grant.restricted:
            return None
        check(grant.permits, route.service, credential.connection, method, route.path)
        return self._kept(Admitted(head, route, grant, presented, credential), caller, record, now)

    def take_uses(self) -> Mapping[str, float]:
        """The last uses noted since this was last called: key id -> seconds since the epoch."""
        used, self.used = self.used, {}
        return used

    def take_account_uses(self) -> Mapping[str, float]:
        """The same for connections."""
        used, self.used_accounts = self.used_accounts, {}
        return used

    # --- what is known already -----------------------------------------------------------------------

    def _remembered(
        self, head: Head, caller: CallerConnection, record: Record, now: float
    ) -> Admitted | None:
        """What was found out about the same request before, if all that it was found out from is the same."""
        last = caller.repeat.admission
        if (
            isinstance(last, _Known)
            and last.admitted.head is head
            and last.terms is self.terms
            and last.admitted.grant.record.is_live(now)
        ):
            route, credential = last.admitted.route, last.admitted.credential
            if self.terms.connectors.ready(route.service.type_id, route.connection) is credential:
                self._note(record, last.admitted, now)
                return last.admitted
        return None

    def _kept(self, admitted: Admitted, caller: CallerConnection, record: Record, now: float) -> Admitted:
        self._note(record, admitted, now)
        if admitted.body is None and admitted.credential is not None and not admitted.grant.restricted:
            caller.repeat.admission = _Known(admitted, self.terms)
        return admitted

    def _note(self, record: Record, admitted: Admitted, now: float) -> None:
        key_id, credential = admitted.grant.record.key_id, admitted.credential
        record.service = admitted.route.service.type_id
        if credential is not None:
            record.connection = credential.connection
            if credential.listed:
                self.used_accounts[credential.connection_id] = now
        if admitted.grant is not NOBODY:
            record.key_id = key_id
            self.used[key_id] = now

    # --- the steps -----------------------------------------------------------------------------------

    def _by_arrival(self, head: Head, caller: CallerConnection) -> tuple[Target, Service | None]:
        return by_arrival(
            parse_target(head.target),
            head.target,
            self.terms.catalog.services,
            listener=caller.listener,
            host=head.host,
            suffixes=self._options.host_suffixes,
        )

    def _by_capability(self, request: _Request, service: Service) -> Admitted:
        """A presigned address needs no key; one that comes along all the same goes no further."""
        head, target, _, caller, record, now = request
        record.service = service.type_id
        self._check_size(head)
        grant, route = self._capabilities.judged(
            target,
            head.method,
            service,
            keyring=self.terms.keyring,
            now=now,
            peer=caller.peer or None,
            websocket=head.websocket,
        )
        presented = known_key(head)
        return Admitted(head, route, grant, presented, None, watched=presented is not None)

    async def _by_key(self, request: _Request, payload: StreamReader) -> Admitted:
        head, target, service, caller, record, _ = request
        body: bytes | None = None
        try:
            presented = caller.repeat.presented(head, service, target.query)
        except InvalidKey:
            everybodys = public_route(head, target, service)
            if everybodys is not None:
                self._check_size(head)
                return Admitted(head, everybodys, NOBODY, None, None)
            presented, body = await key_in_body(
                head, target, service, payload, caller, allowed=self._options.body_bytes
            )
        asked = self._asked(request, presented)
        if asked.credential is None:
            asked = asked._replace(obtain=timed(asked.obtain, record, self._clock))
        route, grant = asked.route, asked.grant
        if judging.is_open(route) and head.body != "none":
            whole = Whole(presented, payload, caller, record, body)
            arrived = self._arrived(request, grant)
            framed, credential, body, count = await judged(
                whole, arrived, route, asked.obtain, asked.credential
            )
            return Admitted(framed, route, grant, presented, credential, body, batch=count)
        if grant.permits.marked:
            asking = Asking(head, grant, payload, caller, record, body)
            credential, body = await passed(asking, route, asked.method, asked.obtain, asked.credential)
        else:
            credential = await _permitted(asked)
        if head.body == "none" or not (route.service.key_places or route.service.links_back):
            return Admitted(head, route, grant, presented, credential, body)
        arrived = self._arrived(request, grant)
        free = await freed(arrived, route, presented, credential, held=body, payload=payload)
        head, body, watched, spliced, rest = free
        return Admitted(head, route, grant, presented, credential, body, watched, spliced=spliced, rest=rest)

    def _arrived(self, request: _Request, grant: Grant) -> Arrived:
        terms, options = self.terms, self._options
        by = terms.catalog, terms.keyring, self._capabilities, options
        return Arrived(request.head, grant, request.caller, request.now, *by)

    def _asked(self, request: _Request, presented: Presented) -> _Asked:
        """Whose key it is, where the request goes, and the method that counts for permits."""
        head, target, service, caller, record, now = request
        grant = caller.repeat.grant(presented, self.terms.keyring, now, caller.peer)
        record.key_id = grant.record.key_id
        self.used[grant.record.key_id] = now
        if service is None:
            target, service = self._rooted(grant, head)
        record.service = service.type_id
        self._check_size(head)
        route = match(target, head.method, service)
        method = effective_method(head, route.query, service)
        return _Asked(route, method, grant, *self._account(head, route))

    def _rooted(self, grant: Grant, head: Head) -> tuple[Target, Service]:
        """A key made for one service reaches it without its prefix; a path of one service only may, too."""
        root = grant.record.root
        if root is None and self._options.fallback:
            root = by_path(head.target)
            root = root if root is not None and grant.permits.reaches(root) else None
        service = None if root is None else self.terms.catalog.services.get(root)
        if service is None:
            raise UnknownService("there is no service of that name; the first path segment names the service")
        return rooted_target(head.target, service.type_id), service

    def _check_size(self, head: Head) -> None:
        allowed = self._options.body_bytes
        if allowed:
            check_size(head.length, allowed)

    def _account(self, head: Head, route: Route) -> tuple[Obtain, Credential | None]:
        """How to obtain the account's credential, and the one that is at hand."""
        connectors, service = self.terms.connectors, route.service.type_id
        if not head.values.keys().isdisjoint(_NAMES_AN_APP):
            named = connectors.named_by(service, lambda name: _text(head, name))
            if named is not None:
                return named, None
        return connectors.obtain, connectors.ready(service, route.connection)


async def _permitted(asked: _Asked) -> Credential:
    """The account's credential; nobody is asked for it unless the key may use it, or could."""
    route, method, grant, obtain, credential = asked
    service = route.service
    name = route.connection if credential is None else credential.connection
    if name is None and grant.permits.names_connections(service.type_id):
        check_with_any(grant.permits, service, method, route.path)
        credential = await obtain(service.type_id, None)
        name = credential.connection
    check(grant.permits, service, name, method, route.path)
    return credential or await obtain(service.type_id, route.connection)


def _is_capability(target: Target) -> bool:
    return target.host is not None and target.host.startswith(MARK)


def _text(head: Head, name: str) -> str | None:
    """A field of the request as text, for whoever reads it by name."""
    value = head.values.get(name.lower().encode())
    return None if value is None else value.decode("latin-1")
