"""What was found out about a caller's header fields, kept for the life of its connection.

Callers on a kept connection send the same fields with every request. What depends on nothing else is worked
out once: the checked head, the key in it, whose key it is, and the rewritten fields. Nothing here outlives
the connection, and nothing is used unless every byte it depends on is the same.
"""

from aiohttp.http_parser import RawRequestMessage

from proxy.catalog.model import Service
from proxy.forwarding.gate import Head, Limits, gate, same_fields
from proxy.forwarding.injection import Injection
from proxy.forwarding.keys import Grant, KeyRing, Presented, find_key
from proxy.forwarding.rewrite import request_head, request_head_with, tail_for_all
from proxy.forwarding.routing import Route


class Repeat:
    """The findings for one connection; a new request with other fields replaces them.

    A request whose every byte is that of the one before gets the very same ``Head`` object, so identity says
    "the same". ``admission`` and ``sent`` are the handler's: what it found out about such a request, and how
    that went out.
    """

    __slots__ = (
        "_grant",
        "_head",
        "_injection",
        "_keyring",
        "_message",
        "_presented",
        "_service",
        "_tail",
        "admission",
        "sent",
    )

    def __init__(self) -> None:
        self._message: RawRequestMessage | None = None
        self._head: Head | None = None
        self._service: Service | None = None
        self._presented: Presented | None = None
        self._keyring: KeyRing | None = None
        self._grant: Grant | None = None
        self._injection: Injection | None = None
        self._tail: bytes | None = None
        self.admission: object = None
        self.sent: object = None

    def head(self, message: RawRequestMessage, limits: Limits) -> Head:
        """The checked head of a request; raises as :func:`gate` does."""
        last, head = self._message, self._head
        if last is message and head is not None:
            return head
        # A plain comparison: both sides come from the same connection, so its time tells nobody anything.
        if (
            last is not None
            and head is not None
            and last.raw_headers == message.raw_headers
            and last.method == message.method
            and last.version == message.version
        ):
            if last.path != message.path:
                self._head = head = same_fields(head, message.method, message.path, limits)
                self._message = message
            return head
        self._message = self._presented = self._grant = self._injection = self._tail = self.sent = None
        self._head = gate(message.method, message.path, message.version, message.raw_headers, limits)
        self._message = message
        return self._head

    def presented(self, head: Head, service: Service | None, query: bytes | None) -> Presented:
        """The key of the request; raises as :func:`find_key` does."""
        known = self._presented
        if known is not None and not query and not known.in_query and self._service is service:
            return known
        presented = find_key(head, service, query)
        if presented == known and self._service is service:
            return known
        self._presented, self._service = presented, service
        self._grant = self._tail = self.sent = None
        return presented

    def grant(self, presented: Presented, keyring: KeyRing, now: float, peer: str) -> Grant:
        """Whose key it is; raises as :meth:`KeyRing.authenticate` does."""
        if presented is not self._presented:  # found elsewhere (in a body): nothing of it is kept
            return keyring.authenticate(presented.key, now=now, peer_ip=peer or None)
        grant = self._grant
        if grant is None or keyring is not self._keyring or not grant.record.is_live(now):
            self._grant = None
            grant = keyring.authenticate(presented.key, now=now, peer_ip=peer or None)
            self._grant, self._keyring = grant, keyring
        return grant

    def outgoing(self, head: Head, route: Route, injection: Injection, presented: Presented) -> bytes:
        """The outgoing head; raises as :func:`request_head` does."""
        if presented is not self._presented:
            return request_head(head, route, injection, presented)
        out = None
        if self._injection is injection and self._tail is not None:
            out = request_head_with(self._tail, head, route, injection, presented)
        if out is None:
            out = request_head(head, route, injection, presented)
            self._tail = tail_for_all(head, route.path, injection, out) if not presented.in_query else None
            self._injection = injection
        return out
