"""``GET /api/v1/events``: requests as they happen, as server-sent events (WHATWG HTML, section 9.2).

The memory is the feed's, and bounded: whoever reads slowly misses requests and is told how many. Who may look
is asked again every few seconds, so that a revoked token does not see on.
"""

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from aiohttp import hdrs, web

from proxy.control.api.door import Door
from proxy.control.api.reading import read_request
from proxy.control.api.refusals import Refused
from proxy.errors import Overloaded, StateError, StoreError
from proxy.feed import Batch, Feed, FeedFullError, Wanted, number_of
from proxy.operations.events import EVENTS
from proxy.operations.operation import Asked

CHECK_S = 2.0
BEAT_S = 10.0
STUCK_S = 30.0  # a reader that takes nothing for so long has its place taken
_AGAIN_MS = 1000
End = Literal["credential", "closing", "time", "vault"]


@dataclass(frozen=True, slots=True)
class EventStream:
    """Serves the stream. ``check_s``: how often it is asked whether the asker still may look."""

    feed: Feed
    door: Door
    check_s: float = CHECK_S
    beat_s: float = BEAT_S

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ConnectorProxyError: before anything is sent.
        """
        asker = await self.door.admit(request, EVENTS)
        asked = await read_request(request, EVENTS, asker)
        if self.feed.is_full:
            raise Overloaded("as many as may look on at once do already")
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        try:
            await _write(response, f"retry: {_AGAIN_MS}\n\n".encode())
            reason = await self._tell(request, asked, response)
            await _write(response, _event("end", {"reason": reason}))
            await response.write_eof()
        except (ConnectionError, TimeoutError):  # gone, or stuck
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _tell(self, request: web.Request, asked: Asked, response: web.StreamResponse) -> End:
        """Tell of requests until nothing more is to be told; why."""
        loop = asyncio.get_running_loop()
        wanted = Wanted(**{name: asked.query.get(name, "") for name in Wanted.__slots__})
        last = number_of(request.headers.get("Last-Event-ID", ""))
        seconds = asked.query.get("seconds")
        ends_at = None if seconds is None else loop.time() + seconds
        checked = beaten = loop.time()
        idle_s = self.check_s if seconds is None else min(self.check_s, max(seconds, 0.01))
        try:
            async with aclosing(self.feed.watch(last, idle_s=idle_s)) as told:
                async for number, batch in told:
                    text = _events(number, batch, wanted)
                    now = loop.time()
                    if not text and now - beaten >= self.beat_s:
                        text = b": nothing happens\n\n"
                    if text:
                        await _write(response, text)
                        beaten = now
                    if now - checked >= self.check_s:
                        if (why := await self._why_not(request)) is not None:
                            return why
                        checked = now
                    if ends_at is not None and now >= ends_at:
                        return "time"
        except FeedFullError:  # somebody else took the last place just now
            return "closing"
        return "closing"

    async def _why_not(self, request: web.Request) -> End | None:
        try:
            await self.door.admit(request, EVENTS)
        except Refused:
            return "credential"
        except (StoreError, StateError):
            return "vault"
        return None


async def _write(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(STUCK_S):
        await response.write(text)


def _events(number: int, batch: Batch, wanted: Wanted) -> bytes:
    lost = [_event("lost", {"count": batch.missed})] if batch.missed else []
    fitting = [_event("request", one) for one in batch.requests if wanted.fits(one)]
    told = [*lost, *fitting]
    if told:  # whoever comes back goes on after the whole batch, so only its end has the number
        told[-1] = f"id: {number}\n".encode() + told[-1]
    return b"".join(told)


def _event(name: str, value: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
