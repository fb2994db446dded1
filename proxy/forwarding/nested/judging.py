"""A part of a batch goes through the very steps that a request of its own goes through, in the same order.

Its head through the gate, its address through routing, its method, path and account through the key's
permits, its fields and query through the rewriting that takes keys out. What is sent is what was judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from proxy.catalog.model import Host
from proxy.errors import BadRequest, CallerError, NotPermitted, RequestError
from proxy.forwarding.form import refuse_key
from proxy.forwarding.gate import Head, Limits, gate
from proxy.forwarding.injection import Injection, prepare
from proxy.forwarding.keys import Grant, Presented, find_key
from proxy.forwarding.links.declared import sent_back_to
from proxy.forwarding.links.sent_back import MOST_BYTES, Own, may_hold, with_own
from proxy.forwarding.nested import multipart, objects
from proxy.forwarding.nested.parts import Envelope, Inner, Outer, numbered
from proxy.forwarding.nested.targets import Whereabouts, route_of
from proxy.forwarding.permits import check, effective_method, hides_method, marked
from proxy.forwarding.permits.preset import Call
from proxy.forwarding.permits.verdicts import check_open
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import Route, resolve_host
from proxy.secret import Secret

_CODINGS = b"accept-encoding"
_OF_MESSAGES = frozenset({b"host", b"content-length"})


@dataclass(frozen=True, slots=True)
class Account:
    """Whose token the batch goes with: name and ``connection_config`` of the connection."""

    connection: str
    config: Mapping[str, str]


def is_open(route: Route) -> bool:
    """True when requests to this path hold requests that can be judged one by one."""
    batch = route.service.batch
    return batch is not None and route.path in batch.paths


def check_whole(head: Head, route: Route) -> None:
    """Refuse a batch whose own head says more than that it is one: services apply its fields to all parts.

    Raises:
        BadRequest: not a POST, or with a content coding. NotPermitted: a method override.
    """
    service = route.service.type_id
    if head.method != b"POST":
        raise BadRequest("a batch is a POST", service=service)
    if head.values.get(b"content-encoding", b"identity").lower() != b"identity":
        raise BadRequest("a batch with a content coding cannot be read", service=service)
    if hides_method(head, route.query):
        raise NotPermitted("a batch has no method override: it would be that of each part", service=service)


def read(head: Head, route: Route, body: bytes) -> Envelope:
    """The batch in the body of a request to a path that :func:`is_open`.

    Raises:
        BadRequest: it is not one, or has two readings.
    """
    batch = route.service.batch
    if batch is None:
        raise RuntimeError("no path for batches")
    content_type = head.values.get(b"content-type", b"")
    if batch.form == "multipart":
        return multipart.read(content_type, body, most=batch.most)
    return objects.read(content_type, body, path=route.path, most=batch.most)


def origins(host: bytes, public_url: bytes) -> frozenset[bytes]:
    """Scheme and authority under which the caller of a request reaches the proxy.

    Args:
        host: value of its Host field, empty when it has none.
        public_url: what addresses in answers begin with, or empty.
    """
    found = {b"http://" + host, b"https://" + host} if host else set()
    return frozenset(origin.lower() for origin in {*found, public_url} if origin)


def framed(head: Head, length: int) -> Head:
    """The head of a batch with a body of that length; its answer is looked into, so it has no coding."""
    fields = [field for field in head.fields if field[0] != _CODINGS]
    fields.append((_CODINGS, b"Accept-Encoding", b"identity"))
    values = {name: value for name, _, value in fields}
    return head._replace(body="length", length=length, fields=tuple(fields), values=values)


class Judge:
    """Judges the parts of one batch.

    Args:
        route: of the batch.
        grant: of the key.
        presented: the key.
        account: see there.
        ours: scheme and authority under which the caller reaches the proxy, lower case.
        own: what an address of the proxy in a body stands for; raises a CallerError.
        known: ids of all services.
        limits: of a head.

    ``observed``: what an observing permit would have refused first.
    """

    def __init__(
        self,
        route: Route,
        *,
        grant: Grant,
        presented: Presented,
        account: Account,
        ours: frozenset[bytes],
        own: Own,
        known: Mapping[str, object],
        limits: Limits,
    ) -> None:
        self._route = route
        self._own = own
        self._grant = grant
        self._presented = presented
        self._account = account
        self._limits = limits
        self.observed: RequestError | None = None
        self._host = resolve_host(route, account.config)
        self._injection = _without_token(route, self._host, account)
        self._authorities = frozenset(origin.partition(b"://")[2] for origin in ours)
        is_default = self._host is route.service.default_host(account.config)
        is_json = route.service.batch is not None and route.service.batch.form == "json"
        self._at = Whereabouts(
            route.service,
            None if is_default else self._host.name,
            str(self._injection.origin).encode(),
            ours,
            objects.root_of(route.path) if is_json else None,
            known,
        )

    def judged(self, number: int, inner: Inner) -> Outer:
        """What is sent in place of the part of that number, counted from 1.

        Raises:
            CallerError: as for a request of its own, and it says which part.
        """
        with numbered(number):
            return self._judged(inner)

    def _judged(self, inner: Inner) -> Outer:
        service = self._route.service
        self._check_host(inner)
        route = route_of(inner.url, inner.method, self._at)
        if resolve_host(route, self._account.config).name != self._host.name:
            raise BadRequest("its address is on a host that the batch does not go to")
        if route.connection not in {None, self._account.connection}:
            raise BadRequest("its address names another connection than the batch's")
        body = self._body(inner, route)
        head = self._head(inner, route, body)
        method = effective_method(head, route.query, service)
        find_key(head, service, route.query, [self._presented.key])
        self._check_permits(inner, route, method)
        out = request_head(head, route, self._injection, self._presented)
        first = out.partition(b"\r\n")[0].split(b" ")[1]
        path, mark, query = first.partition(b"?")
        return Outer(out, path, query if mark else None, body)

    def _check_permits(self, inner: Inner, route: Route, method: str) -> None:
        """By permits with words too, one of which may only note what it would have refused."""
        service, permits, connection = route.service, self._grant.permits, self._account.connection
        if not permits.marked:
            check(permits, service, connection, method, route.path)
            return
        check_open(service, route.path)
        # services apply the parameters of a batch to each of its parts
        query = b"&".join(filter(None, (route.query, self._route.query))) or None
        host = None if route.host is None else route.host.name
        call = Call(
            service, connection, method, route.path, host, query, inner.method.decode(), bool(inner.body)
        )
        refused, document, observed = marked.judge(permits, call)
        if document is not None:
            refused = NotPermitted("the key is read-only: GraphQL inside of a batch is not read")
        if refused is not None and not observed:
            raise refused
        self.observed = self.observed or refused

    def _check_host(self, inner: Inner) -> None:
        hosts = [value.lower() for name, value in inner.fields if name.lower() == b"host"]
        allowed = {*self._authorities, self._injection.origin.authority.encode()}
        if len(hosts) > 1 or not allowed.issuperset(hosts):
            raise BadRequest("its Host is neither the proxy's nor the service's")

    def _head(self, inner: Inner, route: Route, body: bytes | None) -> Head:
        fields = [(name, value) for name, value in inner.fields if name.lower() not in _OF_MESSAGES]
        fields.append((b"Host", self._injection.origin.authority.encode()))
        if self._at.root is None and body is not None:
            fields.append((b"Content-Length", b"%d" % len(body)))
        target = route.path if route.query is None else b"%b?%b" % (route.path, route.query)
        head = gate(inner.method.decode(), target.decode("latin-1"), (1, 1), fields, self._limits)
        if head.websocket:
            raise BadRequest("it opens a WebSocket")
        return head

    def _body(self, inner: Inner, route: Route) -> bytes | None:
        """Its addresses become the service's own; in declared members one that leads elsewhere is refused."""
        body = inner.body
        if body is None:
            return None
        if may_hold(body, self._at.ours):
            names = sent_back_to(route.service, route.path) if len(body) <= MOST_BYTES else None
            body = body if names is None else with_own(body, self._own, names)
            body = with_own(body, self._own_or_none)
        refuse_key(body, self._presented.key)
        return body

    def _own_or_none(self, url: bytes) -> bytes | None:
        try:
            return self._own(url)
        except CallerError:
            return None


def _without_token(route: Route, host: Host, account: Account) -> Injection:
    """What is put into a part: all but the token, which the batch itself carries for all of them."""
    bare = replace(host, token="none", auth=None)  # noqa: S106  # a choice, not a token
    return prepare(route.service, bare, token=Secret(""), config=account.config)
