"""Names to addresses by the operating system, where one name that nobody answers for holds up no other."""

import asyncio
import socket
from collections.abc import Sequence

from proxy.threads import in_daemon

THREADS = 64


class SystemResolver:
    """Asks the operating system, each question in a thread of its own.

    The C library gives a question up when it likes (often after half a minute) and cannot be told to. So a
    question outlives those who asked, and whoever asks the same meanwhile waits for the same thread.
    ``THREADS`` questions are under way at most; others wait for their turn. Belongs to one loop.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}
        self._turns = asyncio.Semaphore(THREADS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Addresses of a host; families take turns (RFC 6724, RFC 8305 §4).

        Raises:
            OSError, UnicodeError: there are none, or the system has no thread left to ask in.
        """
        place = (host, port)
        if place not in self._running:
            await self._turns.acquire()
            if place in self._running:  # somebody else's turn came first
                self._turns.release()
            else:
                self._running[place] = self._start(host, port)
        return await asyncio.shield(self._running[place])

    def _start(self, host: str, port: int) -> asyncio.Task[Sequence[str]]:
        def ended(task: asyncio.Task[Sequence[str]]) -> None:
            del self._running[host, port]
            self._turns.release()
            if not task.cancelled():
                task.exception()  # seen, also when everybody has left

        task = asyncio.create_task(_answer(host, port))
        task.add_done_callback(ended)
        return task


async def _answer(host: str, port: int) -> Sequence[str]:
    try:
        return await in_daemon(lambda: _ask(host, port), name="resolver")
    except RuntimeError as error:  # threading's own, where a limit of the system is reached
        raise OSError("no thread to resolve a name in") from error


def _ask(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    by_family: dict[int, list[str]] = {}
    for family, _, _, _, sockaddr in found:
        by_family.setdefault(family, []).append(str(sockaddr[0]))
    longest = max((len(group) for group in by_family.values()), default=0)
    return [group[i] for i in range(longest) for group in by_family.values() if i < len(group)]
