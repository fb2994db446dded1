"""Hearing of changes through PostgreSQL's NOTIFY, as long as that is proven to work.

A pooler that hands out connections by transaction takes LISTEN and never delivers anything. So the listener
sends itself a message through another connection now and then, and is trusted only while those arrive.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from proxy.connectors.postgres_errors import FAILURES
from proxy.errors import StoreError

HEARD_POLL_S = 1.0
"""How often to look although changes are told: also what keeps the vault known to be readable."""

_PROOF_S = 2.0
_PROVEN_EVERY_S = 15.0
_AGAIN_S = 1.0
_AGAIN_UNPROVEN_S = 60.0
_CLOSE_S = 1.0


class Listener:
    """Listens from the first :meth:`wait` on, until closed.

    Args:
        channel: of NOTIFY.
        dial: gives a connection of our own; raises StoreError.
        tell: sends a message on the channel through another connection; raises StoreError.
    """

    def __init__(
        self,
        channel: str,
        dial: Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]],
        tell: Callable[[str], Awaitable[None]],
    ) -> None:
        self._channel = channel
        self._dial = dial
        self._tell = tell
        self._news = 1
        self._heard = asyncio.Event()
        self._proof = ""
        self._arrived = asyncio.Event()
        self._proven = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_proven(self) -> bool:
        """Changes are told."""
        return self._proven.is_set()

    async def wait(self, seen: int, poll_s: float) -> int:
        """See :meth:`proxy.connectors.store.Store.changed`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="vault listener")
        if self._news == seen:
            longest = max(poll_s, HEARD_POLL_S) if self.is_proven else poll_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest):
                    await self._heard.wait()
        return self._news

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            again = _AGAIN_S
            try:
                if not await self._listen():
                    again = _AGAIN_UNPROVEN_S
            except (StoreError, *FAILURES):
                pass  # the database is away: looking finds that out as well, and tells
            await asyncio.sleep(again)

    async def _listen(self) -> bool:
        """Listen on one connection for as long as it works; whether it ever did."""
        connection = await self._dial()
        self._lost.clear()
        connection.add_termination_listener(self._ended)
        was_proven = False
        try:
            await connection.add_listener(self._channel, self._told)
            while await self._prove():
                was_proven = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PROVEN_EVERY_S):
                        await self._lost.wait()
                        return True
        finally:
            self._proven.clear()
            self._wake()  # from now on there is only looking
            connection.terminate()
        return was_proven

    async def _prove(self) -> bool:
        """Whether a message of our own arrives."""
        self._proof = f"proof:{secrets.token_hex(8)}"
        self._arrived.clear()
        await self._tell(self._proof)
        try:
            async with asyncio.timeout(_PROOF_S):
                await self._arrived.wait()
        except TimeoutError:
            return False
        self._proven.set()
        return True

    def _told(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._proof:
            self._arrived.set()
        elif payload == "":
            self._wake()

    def _ended(self, _connection: object) -> None:
        self._lost.set()

    def _wake(self) -> None:
        self._news += 1
        heard, self._heard = self._heard, asyncio.Event()
        heard.set()
