"""Upstream connections that wait for the next request, and the timeouts of those at work.

The pool key is scheme, host (= SNI), port and the pinned address (R67): a connection made to one address
under one name is never used for another.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from proxy.catalog.origin import Origin
from proxy.errors import UpstreamError, UpstreamTimeout, UpstreamTls, UpstreamUnreachable
from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Dialer
from proxy.forwarding.racing import open_first
from proxy.forwarding.tunnel import open_tunnel
from proxy.forwarding.upstream import LaneKey, UpstreamConnection

DIALLING_AT_ONCE = 64
IDLE_S = 30.0  # below the 60 s and more that services keep idle connections
SWEEP_S = 0.25


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Seconds; 0 means none. ``first_byte``: request sent to head received. ``idle``: between bytes."""

    connect: float = 10.0
    first_byte: float = 120.0
    idle: float = 300.0
    total: float = 0.0


class Counters(Protocol):
    """Events of connections, counted by adding to the fields."""

    opened: int
    reused: int
    failed: int
    retried: int
    replayed: int


class Pool:
    """All upstream connections of the process.

    Args:
        dialer: resolves, checks and pins addresses, and makes TLS contexts.
        timeouts: see UpstreamTimeouts.
        clock: monotonic seconds.
        counters: told what happens to connections.

    ``clock``: see above; of whoever uses the connections, too.
    """

    def __init__(
        self, dialer: Dialer, timeouts: UpstreamTimeouts, clock: Callable[[], float], counters: Counters
    ) -> None:
        self.counters = counters
        self._turns: WeakValueDictionary[Origin, asyncio.Semaphore] = WeakValueDictionary()
        self._dialer = dialer
        self._timeouts = timeouts
        self.clock = clock
        self._idle: dict[LaneKey, dict[UpstreamConnection, None]] = {}  # newest last
        self._open: set[UpstreamConnection] = set()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def open_connections(self) -> int:
        """Connections open now, idle ones included."""
        return len(self._open)

    def take(self, origin: Origin) -> UpstreamConnection | None:
        """An idle connection to ``origin``, newest first, without waiting; None if there is none."""
        dials = self._dialer.ready(origin)
        if dials is None:
            return None
        for dial in dials:
            lane = (origin.scheme, origin.host, origin.port, dial.ip, dial.port)
            idle = self._idle.get(lane)
            while idle:
                connection, _ = idle.popitem()
                if not idle:
                    del self._idle[lane]
                if connection.usable:
                    self.counters.reused += 1
                    return connection
        return None

    async def resolved_anew(self, origin: Origin) -> bool:
        """Look the name up if what is known of it has expired; True when there was a need.

        Idle connections to an address that the name still has can be taken then.

        Raises:
            AddressRefused, UpstreamUnreachable: by what failed.
        """
        if self._dialer.ready(origin) is not None:
            return False
        try:
            await self._dialer.addresses(origin)
        except UpstreamError:
            self.counters.failed += 1
            raise
        return True

    async def connect(self, origin: Origin) -> UpstreamConnection:
        """A new connection to ``origin``.

        Raises:
            AddressRefused, UpstreamUnreachable, UpstreamTls, UpstreamTimeout: by what failed.
        """
        try:
            async with self._turn(origin), asyncio.timeout(self._timeouts.connect or None):
                dials = self._dialer.ready(origin) or await self._dialer.addresses(origin)
                return await self._dial_first(origin, dials)
        except UpstreamError:
            self.counters.failed += 1
            raise
        except TimeoutError as error:
            self.counters.failed += 1
            self._dialer.forget(origin)
            raise UpstreamTimeout("the service did not accept a connection in time") from error

    @asynccontextmanager
    async def _turn(self, origin: Origin) -> AsyncIterator[None]:
        """Wait until few enough connections to ``origin`` are being opened.

        A burst that shakes hands all at once would only wait for our own processor, past its timeout.
        """
        turns = self._turns.get(origin)
        if turns is None:
            turns = self._turns[origin] = asyncio.Semaphore(DIALLING_AT_ONCE)
        async with asyncio.timeout(self._timeouts.first_byte or None):
            await turns.acquire()
        try:
            yield
        finally:
            turns.release()

    async def _dial_first(self, origin: Origin, dials: tuple[Dial, ...]) -> UpstreamConnection:
        try:
            return await open_first(dials, lambda dial, sock: self._open_on(origin, dial, sock))
        except ssl.SSLError as error:
            raise UpstreamTls("the service's certificate or TLS handshake was refused") from error
        except OSError as error:
            self._dialer.forget(origin)
            raise UpstreamUnreachable("the service refused or broke the connection") from error

    async def _open_on(self, origin: Origin, dial: Dial, sock: socket.socket) -> UpstreamConnection:
        def make() -> UpstreamConnection:
            return UpstreamConnection(self.clock, self._forget)

        context = self._dialer.ssl_context(origin)
        proxy = self._dialer.policy.via(origin)
        if proxy is not None and context is not None:
            connection = await open_tunnel(proxy, sock, origin, context, make)
        else:
            _, connection = await asyncio.get_running_loop().create_connection(
                make, sock=sock, ssl=context, server_hostname=origin.host if context is not None else None
            )
        connection.lane = (origin.scheme, origin.host, origin.port, dial.ip, dial.port)
        connection.address = f"{dial.ip}:{dial.port}"
        if not connection.usable:
            raise ConnectionResetError("closed while it was being opened")
        self._open.add(connection)
        self.counters.opened += 1
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """End the connection's exchange; keep it for the next request if its state allows."""
        lane = connection.lane
        if connection.release() and lane is not None:
            idle = self._idle.get(lane)
            if idle is None:
                idle = self._idle[lane] = {}
            idle[connection] = None

    def _forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        idle = None if connection.lane is None else self._idle.get(connection.lane)
        if idle is not None and connection in idle and connection.lane is not None:
            del idle[connection]
            if not idle:
                del self._idle[connection.lane]

    def start(self) -> None:
        """Begin to enforce timeouts; needs a running loop."""
        self._sweeper = asyncio.get_running_loop().create_task(
            self._sweep_forever(), name="upstream timeouts"
        )

    async def close(self) -> None:
        """Drop every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()
        for _ in range(100):  # each needs one turn of the loop to be told
            if not self._open:
                return
            await asyncio.sleep(0)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(self.clock())

    def sweep(self, now: float) -> None:
        """Close what is idle too long and fail what takes too long, as of ``now`` (clock seconds)."""
        limits = self._timeouts
        for connection in list(self._open):
            if connection.usable:
                if now - connection.idle_since > IDLE_S:
                    connection.abort()
                continue
            quiet = limits.first_byte if connection.waiting else limits.idle
            too_quiet = quiet and now - connection.last_activity > quiet
            too_long = limits.total and now - connection.started > limits.total
            if too_quiet or too_long:
                connection.expire(UpstreamTimeout("the service did not answer or go on in time"))
