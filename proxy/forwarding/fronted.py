"""A connection from a load balancer, on which one request after another may be from somebody else."""

import asyncio

from aiohttp.http_parser import RawRequestMessage

from proxy.errors import RequestError
from proxy.forwarding.caller import CallerConnection, Callers, peer_of
from proxy.forwarding.front import Front
from proxy.forwarding.gate import Head, HeadField, Limits
from proxy.forwarding.limits import ServerLimits
from proxy.forwarding.repeat import Repeat


class FrontedConnection(CallerConnection):
    """As any other, but ``peer`` is who the request under way is from.

    Args:
        server: see CallerConnection, as loop and limits.
        loop: runs it.
        limits: of the connection.
        front: what stands in front of us.
    """

    __slots__ = ("_connected", "_fields", "_front")

    def __init__(
        self, server: Callers, *, loop: asyncio.AbstractEventLoop, limits: ServerLimits, front: Front
    ) -> None:
        super().__init__(server, loop=loop, limits=limits)
        self._front = front
        self._connected = ""
        self._fields: tuple[HeadField, ...] | None = None
        self._refuse = self._refused
        self.repeat = _Heads(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come, who may bring others' requests."""
        self._connected = peer_of(transport)
        super().connection_made(transport)

    def asked(self, head: Head) -> None:
        """A request has come: whom is it from?"""
        if head.fields is not self._fields:
            values = [value for low, _, value in head.fields if low == self._front.field]
            self.peer = self._front.caller_of(self._connected, values)
            self._fields = head.fields

    def unclear(self) -> None:
        """What came is no good request: nobody but whoever is connected can be blamed for it."""
        self.peer, self._fields = self._connected, None

    def _refused(self, error: RequestError, _: CallerConnection) -> None:
        self.unclear()
        self.server.refuse(error, self)


class _Heads(Repeat):
    """Tells the connection of each head, before anybody asks whom it is from."""

    __slots__ = ("_connection",)

    def __init__(self, connection: FrontedConnection) -> None:
        super().__init__()
        self._connection = connection

    def head(self, message: RawRequestMessage, limits: Limits) -> Head:
        """See Repeat. What was found out for the same fields holds: they say that the caller is the same."""
        try:
            head = super().head(message, limits)
        except RequestError:
            self._connection.unclear()
            raise
        self._connection.asked(head)
        return head
