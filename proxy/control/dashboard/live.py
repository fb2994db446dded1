"""``/live``: requests as they happen: what the log says of them, and where their time went."""

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import hdrs, web
from multidict import MultiMapping

from proxy.control.dashboard.frame import Frame
from proxy.control.signin import Visitor
from proxy.feed import Batch, FeedFullError, Wanted, number_of

LASTS_S = 60.0  # then the browser asks again, and is signed in or not
IDLE_S = 10.0
_AGAIN_MS = 500
_STATUSES = (("", "any"), ("2", "2xx"), ("3", "3xx"), ("4", "4xx"), ("5", "5xx"))
_ORIGINS = (("", "anywhere"), ("service", "the service"), ("proxy", "the proxy"))


@dataclass(frozen=True, slots=True)
class LivePage:
    """The page, and the stream of events that its script reads."""

    frame: Frame
    lasts_s: float = LASTS_S

    def add(self, app: web.Application) -> None:
        """Serve both."""
        self.frame.shown(app, "/live", self._show)
        self.frame.shown(app, "/live/requests", self._stream)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.Response:
        ground = self.frame.ground
        keys = sorted(ground.keys().values(), key=lambda one: one.name)
        wanted, now = _wanted(request.query), ground.clock()
        return self.frame.page(
            "live",
            visitor,
            at="live",
            wanted=wanted,
            services=sorted(ground.catalog().services.values(), key=lambda one: one.title.lower()),
            keys=[one for one in keys if one.is_live(now) or one.key_id == wanted.key],
            names={one.key_id: one.name for one in keys},
            statuses=_STATUSES,
            origins=_ORIGINS,
        )

    async def _stream(self, request: web.Request, _: Visitor) -> web.StreamResponse:
        """Server-sent events; one that ends is asked for again by the browser, from where it ended."""
        wanted, last = _wanted(request.query), number_of(request.headers.get("Last-Event-ID", ""))
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        feed = self.frame.ground.feed
        if feed.is_full:
            return web.Response(status=503, text="Too many people look on.")
        await response.prepare(request)
        await response.write(f"retry: {_AGAIN_MS}\n\n".encode())
        try:
            async with asyncio.timeout(self.lasts_s), aclosing(feed.watch(last, idle_s=IDLE_S)) as told:
                async for number, batch in told:
                    await response.write(_event(number, batch, wanted))
        except (TimeoutError, FeedFullError):
            await response.write_eof()
        except ConnectionError:
            return response  # the browser has gone
        return response


def _event(number: int, batch: Batch, wanted: Wanted) -> bytes:
    told = {"requests": [one for one in batch.requests if wanted.fits(one)], "missed": batch.missed}
    return f"id: {number}\ndata: {json.dumps(told)}\n\n".encode()


def _wanted(given: MultiMapping[str]) -> Wanted:
    return Wanted(*(given.get(name, "").strip() for name in Wanted.__slots__))
