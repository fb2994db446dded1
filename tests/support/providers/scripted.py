"""A provider that answers its token endpoint as it is told to: well, badly, late or never, and counts.

Answers wait in a queue (:meth:`Scripted.answer`), one a token request; when it is empty the provider answers well and
rotates: ``access-N`` and ``refresh-N``, N counted from 1. It lives on the loop of the test, like ``upstream``.
"""

import asyncio
import base64
import contextlib
import json
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from support import strict
from support.providers.entry import Value, catalog_entry
from support.upstream import Peer, Upstream, answer

CLIENT_ID, CLIENT_SECRET = "scripted-client", "scripted-client-secret"
GIB = 2**30
JSON = (b"Content-Type", b"application/json")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to the token endpoint, as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form or JSON body."""
        if "json" in self.headers.get("content-type", ""):
            return {name: str(value) for name, value in json.loads(self.body).items()}
        return dict(urllib.parse.parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def basic(self) -> tuple[str, str] | None:
        """Id and secret of the ``Authorization`` header, still percent-encoded."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        name, _, secret = base64.b64decode(value).decode().partition(":")
        return name, secret


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the token endpoint: ``play`` has the peer, the request and the provider.

    ``early``: played as soon as somebody connects, before a request is read.
    """

    play: Callable[[Peer, TokenRequest | None, "Scripted"], Awaitable[None]]
    early: bool = False


def good(**fields: Any) -> Reply:
    """A rotating token answer; ``fields`` override its members, None leaves one out."""

    async def play(peer: Peer, request: TokenRequest | None, provider: "Scripted") -> None:
        await peer.send(answer(200, json.dumps(provider.grant(**fields)).encode(), JSON))

    return Reply(play)


def body(status: int, content: bytes | Mapping[str, Any], *fields: tuple[bytes, bytes]) -> Reply:
    """This status, body (a mapping: as JSON) and header fields."""
    raw, extra = (content, ()) if isinstance(content, bytes) else (json.dumps(content).encode(), (JSON,))

    async def play(peer: Peer, request: TokenRequest | None, provider: "Scripted") -> None:
        await peer.send(answer(status, raw, *extra, *fields))

    return Reply(play)


def error(code: str, status: int = 400, description: str = "") -> Reply:
    """An OAuth error."""
    return body(status, {"error": code, **({"error_description": description} if description else {})})


def busy(status: int = 429, retry_after: str | None = "7") -> Reply:
    """Too much, or not just now; with Retry-After unless None."""
    fields = () if retry_after is None else ((b"Retry-After", retry_after.encode()),)
    return body(status, {"error": "temporarily_unavailable"}, *fields)


HTML = body(200, b"<!doctype html><title>Maintenance</title>Back soon", (b"Content-Type", b"text/html"))
HTML_502 = body(502, b"<html><h1>502 Bad Gateway</h1></html>", (b"Content-Type", b"text/html"))
EMPTY = body(200, b"", JSON)
CUT_JSON = body(200, b'{"access_token": "access-cut", "expires_in": 36', JSON)
WRONG_TYPES = (
    body(200, {"access_token": 5, "refresh_token": ["a"], "expires_in": "soon"}),
    body(200, {"access_token": None, "token_type": "bearer"}),
    body(200, {"access_token": {"value": "x"}}),
    body(200, {"expires_in": 3600, "token_type": "bearer"}),
    body(200, b'["access_token"]', JSON),
    body(200, b"null", JSON),
    body(200, b'{"access_token": "\\ud800"}', JSON),
    body(200, b"\xff\xfe{}", JSON),
)
BUSY = tuple(body(status, {"error": "server_error"}) for status in (500, 503))


async def _reset(peer: Peer, _request: TokenRequest | None, _provider: "Scripted") -> None:
    peer.reset()


async def _cut(peer: Peer, _request: TokenRequest | None, provider: "Scripted") -> None:
    whole = answer(200, json.dumps(provider.grant()).encode(), JSON)
    await peer.send(whole[:-20])
    await peer.finish()


async def _close(peer: Peer, _request: TokenRequest | None, _provider: "Scripted") -> None:
    await peer.finish()


RESET_BEFORE = Reply(_reset, early=True)
"""RST before the request is read."""
RESET_AFTER = Reply(_reset)
"""RST once the whole request has been read: nobody knows whether it was carried out."""
CLOSE_AFTER = Reply(_close)
"""The connection is closed in order instead of an answer."""
CUT_BODY = Reply(_cut)
"""A good answer that was carried out, and that stops 20 bytes before its end."""


def slow(seconds: float, then: Reply | None = None) -> Reply:
    """Nothing for a while, then the answer."""

    async def play(peer: Peer, request: TokenRequest | None, provider: "Scripted") -> None:
        await asyncio.sleep(seconds)
        await (then or good()).play(peer, request, provider)

    return Reply(play)


def held(gate: asyncio.Event, then: Reply | None = None) -> Reply:
    """Nothing until ``gate`` is set, then the answer."""

    async def play(peer: Peer, request: TokenRequest | None, provider: "Scripted") -> None:
        await gate.wait()
        await (then or good()).play(peer, request, provider)

    return Reply(play)


def huge(size: int = GIB, *, declared: bool = True) -> Reply:
    """A JSON string of ``size`` bytes; how much of it was taken stands in ``Scripted.sent`` afterwards."""

    async def play(peer: Peer, request: TokenRequest | None, provider: "Scripted") -> None:
        provider.sent = 0
        length = b"Content-Length: %d\r\n" % size if declared else b"Connection: close\r\n"
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + length + b"\r\n")
        part = b'{"access_token": "' + b"a" * 65518
        while provider.sent < size:
            await peer.send(part)
            provider.sent += len(part)
            part = b"a" * 65536
        await peer.finish()

    return Reply(play)


@dataclass(slots=True, eq=False)
class Scripted:
    """The provider; ``async with provider.running():``, or :meth:`start` and :meth:`stop`."""

    lifetime: int = 3600
    requests: list[TokenRequest] = field(default_factory=list)
    revocations: list[TokenRequest] = field(default_factory=list)
    issued: int = 0
    sent: int = 0
    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    _upstream: Upstream = field(default_factory=Upstream)
    _queue: deque[Reply] = field(default_factory=deque)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._upstream.port}"

    @property
    def port(self) -> int:
        return self._upstream.port

    def service_file(self, *, more: str = "", **oauth: Value) -> str:
        """Its catalog file; ``oauth`` overrides fields of ``[oauth]``."""
        return catalog_entry(
            self.origin,
            {
                "family": "scripted",
                "authorization_url": f"{self.origin}/authorize",
                "token_url": f"{self.origin}/token",
                "revoke_url": f"{self.origin}/revoke",
                "client_auth": "body",
                "pkce": "required",
                "scopes": ["read"],
                "refresh": "rotating_strict",
                **oauth,
            },
            title="Scripted",
            more=more,
        )

    def answer(self, *replies: Reply) -> None:
        """What the next token requests get, one each. An early one ends kept connections: it needs a new one."""
        self._queue.extend(replies)
        if any(reply.early for reply in replies):
            for peer in self._upstream.peers:
                if not peer.ended.is_set():
                    peer.transport.abort()

    def grant(self, **fields: Any) -> dict[str, Any]:
        """The members of the next good answer."""
        self.issued += 1
        members = {
            "access_token": f"access-{self.issued}",
            "refresh_token": f"refresh-{self.issued}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "scope": "read",
            **fields,
        }
        return {name: value for name, value in members.items() if value is not None}

    def token_requests(self) -> int:
        """How many requests reached the token endpoint."""
        return len(self.requests)

    async def wait(self, number: int) -> TokenRequest:
        """The token request of that number (from 1), once it is there."""
        while len(self.requests) < number:
            self.arrival.clear()
            await self.arrival.wait()
        return self.requests[number - 1]

    def forget(self) -> None:
        """Empties the queue and the counts."""
        self._queue.clear()
        self.requests.clear()
        self.revocations.clear()

    async def start(self) -> None:
        self._upstream.script = self._serve
        await self._upstream.start()

    async def stop(self) -> None:
        await self._upstream.stop()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Scripted"]:
        """Listens inside the block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def _serve(self, peer: Peer) -> None:
        while not peer.transport.is_closing():
            if self._queue and self._queue[0].early:
                await self._queue.popleft().play(peer, None, self)
                return
            message = await peer.request()
            await self._route(peer, message)

    async def _route(self, peer: Peer, message: strict.Message) -> None:
        path, _, query = message.target.decode().partition("?")
        request = TokenRequest(
            message.method.decode(),
            path,
            {name.decode().lower(): value.decode() for name, value in message.fields},
            message.body,
        )
        match path:
            case "/token":
                self.requests.append(request)
                self.arrival.set()
                reply = self._queue.popleft() if self._queue else good()
                await reply.play(peer, request, self)
            case "/revoke":
                self.revocations.append(request)
                await peer.send(answer(200, b"{}", JSON))
            case "/authorize":
                asked = dict(urllib.parse.parse_qsl(query))
                back = urllib.parse.urlencode({"code": "code-1", "state": asked.get("state", "")})
                place = f"{asked.get('redirect_uri', '')}?{back}".encode()
                await peer.send(answer(302, b"", (b"Location", place), reason=b"Found"))
            case "/api/me":
                await peer.send(answer(200, b'{"id": "1", "name": "alice"}', JSON))
            case _:
                await peer.send(answer(404, b"{}", JSON, reason=b"Not Found"))
