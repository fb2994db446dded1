"""The caller's side: aiohttp's low-level server, which makes a ``CallerConnection`` for each socket."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import http_parser
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_server import Server

from proxy.errors import Overloaded, RequestError
from proxy.forwarding.caller import CallerConnection, UnderWay
from proxy.forwarding.front import Front
from proxy.forwarding.fronted import FrontedConnection
from proxy.forwarding.limits import ServerLimits

SWEEP_S = 0.5
ARRIVING_S = 1.0  # what a request that was on its way when the stop began gets to arrive
Answerer = Callable[[RawRequestMessage, StreamReader, CallerConnection], Awaitable[None]]
Beginner = Callable[[RawRequestMessage, CallerConnection], UnderWay | None]
Refuser = Callable[[RequestError, CallerConnection], None]


class DataServer(Server):
    """Makes a CallerConnection for each socket and keeps their number and their time in bounds.

    Args:
        answer: the data path, called once a request.
        begin: the data path's short way; None: there is none.
        refuse: writes the answer to a message that is no request and ends the connection.
        limits: see ServerLimits.
        front: what stands in front of us; None: callers themselves come.
    """

    def __init__(
        self,
        answer: Answerer,
        refuse: Refuser,
        limits: ServerLimits,
        *,
        begin: Beginner | None = None,
        front: Front | None = None,
    ) -> None:
        super().__init__(_unused, handler_cancellation=True)
        self.answer = answer
        self.begin = begin or _never
        self.refuse = refuse
        self.limits = limits
        self.draining = False
        self._front = front
        self._sweeper: asyncio.Task[None] | None = None

    def __call__(self) -> CallerConnection:
        """The protocol of a new connection."""
        loop = asyncio.get_running_loop()
        if self._front is not None:
            return FrontedConnection(self, loop=loop, limits=self.limits, front=self._front)
        return CallerConnection(self, loop=loop, limits=self.limits)

    def for_service(self, service: str) -> Callable[[], CallerConnection]:
        """What makes the connections of a listener that is for one service only."""

        def make() -> CallerConnection:
            connection = self()
            connection.listener = service
            return connection

        return make

    @property
    def callers(self) -> int:
        """Open connections."""
        return len(self._connections)

    @property
    def websockets(self) -> int:
        """Connections on which a WebSocket is open."""
        switched = (
            one.switching
            for one in self.connections
            if isinstance(one, CallerConnection) and one.switching is not None
        )
        return sum(one.is_open for one in switched)

    def opened(self, connection: CallerConnection) -> None:
        """Turn away what comes over the limit (R64); what was accepted just before a stop is still served."""
        if len(self._connections) > self.limits.connections:
            self.refuse_overload(connection)

    def refuse_overload(self, connection: CallerConnection) -> None:
        """Answer 503 before any request is read."""
        self.refuse(
            Overloaded("the proxy has as many connections as it may have", retry_after=1.0), connection
        )
        connection.end(linger=False)  # each one that lingered would be held beyond the limit, without bound

    def start(self) -> None:
        """Begin to enforce timers; needs a running loop."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="caller timers")

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for connection in self.connections:
                connection.check(now)  # type: ignore[attr-defined]  # every one is made by __call__

    async def drain(self, seconds: float) -> bool:
        """Let requests in flight finish for at most ``seconds``; True when all of them did (R70).

        A connection that has brought no request yet, or part of one, has ARRIVING_S to bring it: the caller
        was accepted, so its request is as much under way as one that is being answered.
        """
        self.draining = True
        begin = asyncio.get_running_loop().time()
        self._end_waiting(arriving=False)
        # aiohttp's own table of connections tells nobody when it changes
        while self._connections and (passed := asyncio.get_running_loop().time() - begin) < seconds:
            await asyncio.sleep(0.02)
            if passed > ARRIVING_S:
                self._end_waiting(arriving=True)
        clean = not self._connections
        # aiohttp offers its connections' tasks in no other way
        tasks = [c._task_handler for c in self.connections if c._task_handler is not None]  # noqa: SLF001  # see above
        for connection in self.connections:
            connection.abort()  # type: ignore[attr-defined]  # each one is made by __call__
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        return clean

    def _end_waiting(self, *, arriving: bool) -> None:
        """End connections on which nothing is answered; with ``arriving`` those too that bring a request."""
        for connection in self.connections:
            if isinstance(connection, CallerConnection) and connection.is_waiting(arriving=arriving):
                connection.end(linger=False)


def _never(message: RawRequestMessage, caller: CallerConnection) -> UnderWay | None:  # noqa: ARG001  # a Beginner
    return None


async def _unused(_: Any) -> Any:
    raise RuntimeError("CallerConnection.start answers requests itself")


def require_c_parser() -> None:
    """Refuse to run on aiohttp's pure-Python parser (R159).

    Raises:
        RuntimeError: saying what to do.
    """
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError(
            "aiohttp's C parser is not in use: unset AIOHTTP_NO_EXTENSIONS and install aiohttp from a wheel "
            f"for this Python ({sys.version.split()[0]})"
        )
