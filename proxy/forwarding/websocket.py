"""A WebSocket between caller and service: bytes both ways, not looked into (R66)."""

import asyncio
from collections.abc import Callable

from proxy.errors import RequestError
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.headers import Field
from proxy.forwarding.switching import Switching
from proxy.forwarding.upstream import UpstreamConnection

LINGER_S = 0.5  # what a service that cannot be told of the caller's end still gets to say

Judge = Callable[[], RequestError | None]


class Tunnel:
    """Both directions, each with its back-pressure and its end, for as long as the caller may have them.

    It is the ``upstream.Sink`` of what the service sends, the ``upstream.Writer`` of what goes there, and the
    ``switching.Taker`` of what the caller sends.

    Args:
        caller: has been written the 101.
        switching: the caller's bytes.
        connection: its service has sent the 101.
        judge: asked every now and then; what it gives ends the tunnel at once.

    ``bytes_in``, ``bytes_out``: from and to the caller. ``error``: what cut it; None: one of both ended it.
    """

    __slots__ = (
        "_caller",
        "_caller_ended",
        "_connection",
        "_done",
        "_in_order",
        "_judge",
        "_linger",
        "_service_ended",
        "_switching",
        "bytes_in",
        "bytes_out",
        "error",
    )

    def __init__(
        self, caller: CallerConnection, switching: Switching, connection: UpstreamConnection, judge: Judge
    ) -> None:
        self._caller = caller
        self._switching = switching
        self._connection = connection
        self._judge = judge
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._linger: asyncio.TimerHandle | None = None
        self._caller_ended = self._service_ended = False
        self._in_order = True
        self.bytes_in = self.bytes_out = 0
        self.error: RequestError | None = None

    async def run(self) -> None:
        """Returns when it is over; the connection to the service is closing then, the caller's is not."""
        caller, connection = self._caller, self._connection
        caller.source = connection
        connection.writer = self
        try:
            self._switching.accept(self)
            connection.attach(self)
            if caller.writing_paused:
                connection.pause_reading()
            if connection.gone:
                self._finish()
            await self._done
        finally:
            caller.source = connection.writer = None
            self._switching.finish()
            if self._linger is not None:
                self._linger.cancel()
            if self._in_order and self.error is None:
                connection.close()
            else:
                connection.abort()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    # --- what the caller does -------------------------------------------------------------------------

    def sent(self, data: bytes) -> None:
        """Some bytes of the caller."""
        self.bytes_in += len(data)
        self._connection.push(data)

    def ended(self) -> bool:
        """The caller's FIN goes on to the service, where its connection has such a thing; TLS has not."""
        self._caller_ended = True
        if self._service_ended:
            self._finish()
        elif not self._connection.end_writing():
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self._finish)
        return True

    def left(self, *, in_order: bool) -> None:
        """The caller is gone."""
        self._in_order = in_order
        self._finish()

    def check(self) -> None:
        """Cut both sides when the judge says so."""
        error = None if self._done.done() else self._judge()
        if error is not None:
            self.error = error
            self._caller.abort()
            self._finish()

    # --- what the service does ------------------------------------------------------------------------

    def data(self, chunk: bytes) -> None:
        """Some bytes of the service."""
        self.bytes_out += len(chunk)
        self._caller.write(chunk)

    def end(self, trailers: list[Field]) -> None:  # noqa: ARG002  # of a Sink; there are none here
        """The service's FIN goes on to the caller; over TLS, to or from, it is the end of both."""
        self._service_ended = True
        if self._caller_ended or not self._connection.halves or not self._switching.end_writing():
            self._finish()

    def broken(self, error: RequestError) -> None:
        """The service cut the connection, or is silent for too long."""
        self.error = error
        self._finish()

    def pause(self) -> None:
        """The service reads slower than the caller sends."""
        self._switching.pause()

    def resume(self) -> None:
        """It has caught up."""
        self._switching.resume()

    def lost(self) -> None:
        """Nothing can be sent to the service any more."""
        self._finish()
