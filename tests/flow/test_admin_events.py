"""``GET /api/v1/events`` on a socket of its own, with a real vault: what is told, to whom, and how it ends."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.vaults import NOW, Clock, opened

from proxy.connectors.vault import Vault
from proxy.control.api.door import Door
from proxy.control.api.events import EventStream
from proxy.control.api.refusals import answer_to
from proxy.control.browsers import Cookies
from proxy.control.dashboard import TEMPLATE_VALUES
from proxy.control.guarded import guarded_app
from proxy.control.html import Pages
from proxy.control.listener import ControlRunner
from proxy.control.signin import SignIn
from proxy.errors import ConnectorProxyError
from proxy.feed import REMEMBERED, VIEWERS, Batch, Feed
from proxy.operations.tokens import create_token
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
PATIENCE_S = 20.0
SPENT = {"queue": 0.001, "token": 0.0, "connect": 0.002, "first_byte": 0.003, "total": 0.01}


@dataclass(slots=True)
class Scene:
    """The stream, whose credentials are checked whenever something is told, and a token for it."""

    url: str
    feed: Feed
    vault: Vault
    clock: Clock
    token: Secret
    token_id: str
    watched: asyncio.Event

    @asynccontextmanager
    async def asked(self, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A look at it, which has begun when this goes on."""
        given = {"Authorization": f"Bearer {self.token.reveal()}", **headers}
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession(trust_env=False) as session,
            session.get(f"{self.url}?{query}", headers=given) as answer,
        ):
            yield answer


@asynccontextmanager
async def scene(folder: Path, *, beat_s: float = 60.0) -> AsyncIterator[Scene]:
    clock = Clock()
    async with opened(folder / "d", clock=clock) as vault:
        record, token = await create_token(vault, "t", ["read"], "1d", now=NOW, actor="ann")
        pages = Pages(TEMPLATE_VALUES)
        door = Door(vault, SignIn(vault, pages, Cookies(secure=False)), clock)
        feed, watched, app = Feed(linger_s=0.0), asyncio.Event(), guarded_app(())
        feed.on_watch = lambda on: watched.set() if on else watched.clear()
        stream = EventStream(feed, door, check_s=0.01, beat_s=beat_s)

        async def told(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
            try:
                return await stream(request)
            except ConnectorProxyError as error:
                return answer_to(error, "r")

        app.router.add_get("/", told)
        runner = ControlRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        bound = socket.create_server(("127.0.0.1", 0))
        await aiohttp.web.SockSite(runner, bound).start()
        try:
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
            yield Scene(url, feed, vault, clock, token, record.token_id, watched)
        finally:
            feed.close()
            await runner.cleanup()


def request(number: int, status: int = 200, **more: Any) -> dict[str, Any]:
    given = {"service": "slack", "key_id": "abcd1234", "method": "GET", "path": "/slack/x", "spent": SPENT}
    return {"request_id": f"r-{number}", "status": status, **given, **more}


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str, Any]]:
    """Name, id and data of each event; comments as ``:``."""
    name = number = ""
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        field, _, value = line.partition(": ")
        if line.startswith(":"):
            yield ":", "", line
        elif field == "event":
            name = value
        elif field == "id":
            number = value
        elif field == "data":
            yield name, number, json.loads(value)
            name = number = ""


async def first(answer: aiohttp.ClientResponse, count: int) -> list[tuple[str, str, Any]]:
    found = []
    async for one in events(answer):
        found.append(one)
        if len(found) == count:
            break
    return found


async def test_requests_are_told_filtered_and_with_what_was_lost(tmp_path: Path) -> None:
    """Each request that fits is an event; what is no longer remembered, or never was, is an event with its number (R158)."""
    async with scene(tmp_path) as one, one.asked("service=slack&status=5") as answer:
        assert answer.content_type == "text/event-stream"
        await one.watched.wait()
        one.feed.take(Batch([request(1), request(2, 502), request(3, 500, service="box")], 7))
        lost, told = await first(answer, 2)
        assert lost == ("lost", "", {"count": 7})
        assert (told[0], told[1], told[2]["request_id"]) == ("request", "3", "r-2")


async def test_a_slow_reader_is_told_how_much_it_missed(tmp_path: Path) -> None:
    """The memory has an end: who comes back late hears of what is left, and of how many are gone."""
    async with scene(tmp_path) as one, one.asked():
        await one.watched.wait()
        one.feed.take(Batch([request(at) for at in range(1, REMEMBERED + 31)], 0))
        async with one.asked(**{"Last-Event-ID": "10"}) as later:
            found = await first(later, REMEMBERED + 1)
    assert found[0] == ("lost", "", {"count": 20})
    assert [told[2]["request_id"] for told in found[1:]] == [f"r-{at}" for at in range(31, REMEMBERED + 31)]


@pytest.mark.parametrize("how", ["revoked", "expired", "closed", "seconds"])
async def test_it_ends_and_says_why(tmp_path: Path, how: str) -> None:
    """When the token is revoked or over, the server ends, or the time asked for is: a last event with the reason (R93)."""

    async def end(one: Scene) -> str:
        if how == "revoked":
            await one.vault.revoke_admin_token(one.token_id, actor="ann")
        elif how == "expired":
            one.clock.now += 86_401
        elif how == "closed":
            one.feed.close()
        return {"closed": "closing", "seconds": "time"}.get(how, "credential")

    async with scene(tmp_path) as one, one.asked("seconds=0" if how == "seconds" else "") as answer:
        if how != "seconds":
            await one.watched.wait()
        reason = await end(one)
        assert [told async for told in events(answer)][-1] == ("end", "", {"reason": reason})


async def test_silence_is_told_by_a_comment(tmp_path: Path) -> None:
    """A reader, and whatever stands between, sees that the server lives while nothing happens."""
    async with scene(tmp_path, beat_s=0.0) as one, one.asked() as answer:
        assert (await first(answer, 1))[0][0] == ":"


async def test_who_may_not_look(tmp_path: Path) -> None:
    """Nobody, a token without the scope, an unknown parameter, one onlooker too many: refused, with a code (R93)."""
    async with scene(tmp_path) as one:
        _, other = await create_token(one.vault, "o", ["keys:write"], None, now=NOW, actor="ann")
        for given, query, expected in (
            ({"Authorization": "Bearer cpa_x"}, "", (401, "invalid_token")),
            ({"Authorization": f"Bearer {other.reveal()}"}, "", (403, "insufficient_scope")),
            ({}, "nothing=1", (400, "invalid_request")),
            ({}, "seconds=-1", (400, "invalid_request")),
        ):
            async with one.asked(query, **given) as answer:
                assert (answer.status, (await answer.json())["code"]) == expected
        assert not one.watched.is_set()
        looking = [one.asked() for _ in range(VIEWERS)]
        for each in looking:
            await each.__aenter__()
        while not one.feed.is_full:  # noqa: ASYNC110  # heads are sent before each has its place
            await asyncio.sleep(0)
        async with one.asked() as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "overloaded")
        for each in reversed(looking):
            await each.__aexit__(None, None, None)
