"""A stand-in for Base44's token endpoint: real HTTP on loopback, scripted, recording what arrives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

SERVICE_TOKEN = "service-token-1"


@dataclass
class FakeBase44:
    """``tokens`` are those in force, by (app, type); ``answer`` overrides everything."""

    url: str = ""
    service_tokens: dict[str, str] = field(
        default_factory=lambda: {"app1": SERVICE_TOKEN, "app2": "service-token-2"}
    )
    tokens: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)
    answer: Callable[[], web.Response] | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The contract: 401 for a foreign token, 404 ``NOT_FOUND`` when not connected."""
        self.requests.append((request.raw_path, dict(request.headers)))
        if self.hold is not None:
            await self.hold.wait()
        if self.answer is not None:
            return self.answer()
        app, kind = request.match_info["app"], request.match_info["type"]
        if request.headers.get("Authorization") != f"Bearer {self.service_tokens.get(app)}":
            return web.json_response({"detail": "Unauthorized"}, status=401)
        found = self.tokens.get((app, kind))
        if found is None:
            told = {"detail": "Connector connection not found", "code": "NOT_FOUND"}
            return web.json_response(told, status=404)
        return web.json_response({"integration_type": kind, **found})

    @property
    def paths(self) -> list[str]:
        """The targets asked for, in order."""
        return [path for path, _ in self.requests]


@asynccontextmanager
async def fake_base44(prefix: str = "") -> AsyncIterator[FakeBase44]:
    """A server on a free port of 127.0.0.1; ``url`` is its base."""
    fake = FakeBase44()
    app = web.Application()
    app.router.add_get(prefix + "/api/apps/{app}/external-auth/tokens/{type}", fake.handle)
    app.router.add_get("/elsewhere", fake.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}{prefix}"
    try:
        yield fake
    finally:
        await runner.cleanup()
