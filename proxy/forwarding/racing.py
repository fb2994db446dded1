"""A TCP connection to the first of several addresses that takes one (RFC 8305 §5)."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from proxy.forwarding.addresses import Dial

ATTEMPT_DELAY_S = 0.25  # RFC 8305 §5: the recommended Connection Attempt Delay

_Made = TypeVar("_Made")


async def open_first(
    dials: Sequence[Dial], open_on: Callable[[Dial, socket.socket], Awaitable[_Made]]
) -> _Made:
    """What ``open_on`` makes of a connection to one of the addresses; where one breaks, the others are tried.

    Raises:
        ssl.SSLError: of the first address that accepted. OSError: none did, or all broke; the last one's.
    """
    left = tuple(dials)
    while True:
        dial, sock = await connect_first(left)
        try:
            return await open_on(dial, sock)
        except ssl.SSLError:
            raise
        except OSError:
            left = tuple(other for other in left if other != dial)
            if not left:
                raise


async def connect_first(dials: Sequence[Dial]) -> tuple[Dial, socket.socket]:
    """Connect to one of the addresses, the first in their order that does not keep us waiting.

    When one refuses, the next is tried at once; when it is silent for ``ATTEMPT_DELAY_S``, the next is tried
    beside it. All other attempts are closed at the end. There are no tasks, and nothing is looked up.

    Args:
        dials: best first, at least one.

    Raises:
        OSError: none accepted; why the last one did not.
    """
    race = _Race(dials)
    try:
        sock = await race.winner
        return race.attempts.pop(sock), sock
    finally:
        race.end()


class _Race:
    """``attempts``: sockets that are connecting, the winner's too, each with where to."""

    def __init__(self, dials: Sequence[Dial]) -> None:
        self._loop = asyncio.get_running_loop()
        self._rest = list(reversed(dials))
        self._timer: asyncio.TimerHandle | None = None
        self._failure = OSError("no address to connect to")
        self.winner: asyncio.Future[socket.socket] = self._loop.create_future()
        self.attempts: dict[socket.socket, Dial] = {}
        self._next()

    def _next(self) -> None:
        self._stop_timer()
        while self._rest:
            dial = self._rest.pop()
            try:
                sock = _start(dial)
            except OSError as error:
                self._failure = error
                continue
            self.attempts[sock] = dial
            self._loop.add_writer(sock, self._decided, sock)
            if self._rest:
                self._timer = self._loop.call_later(ATTEMPT_DELAY_S, self._next)
            return
        if not self.attempts and not self.winner.done():
            self.winner.set_exception(self._failure)

    def _decided(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            del self.attempts[sock]
            sock.close()
            self._failure = OSError(code, os.strerror(code))
            self._next()
        elif not self.winner.done():
            self._stop_timer()
            self.winner.set_result(sock)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Close every attempt that was not taken over."""
        self._stop_timer()
        self._rest.clear()
        for sock in self.attempts:
            self._loop.remove_writer(sock)
            sock.close()
        self.attempts.clear()


def _start(dial: Dial) -> socket.socket:
    sock = socket.socket(
        socket.AF_INET6 if ":" in dial.ip else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        sock.setblocking(False)
        sock.connect(dial)
    except (BlockingIOError, InterruptedError):
        pass  # under way
    except BaseException:
        sock.close()
        raise
    return sock
