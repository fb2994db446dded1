"""A service of the catalog behind the proxy: which hosts it has, what they take, what they answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from support.arrivals import Arrival
from support.strict import Field
from support.upstream import Peer, answer

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; a ``body`` that is no bytes goes out as JSON."""

    body: object = b""
    status: int = 200
    fields: tuple[Field, ...] = ()
    media_type: bytes = JSON


Route = Reply | Callable[[Arrival], Reply]


@dataclass(frozen=True, slots=True)
class Played:
    """One service.

    ``routes``: ``METHOD host/path`` -> what it answers; ``*`` stands for anything. ``token``: what the proxy is
    given. ``header`` and ``scheme``: how hosts want it. ``keyless``: places that refuse one. ``settings``:
    the service's source in the settings besides the token.
    """

    routes: Mapping[str, Route]
    token: str
    header: str = "authorization"
    scheme: str = "Bearer "
    keyless: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hosts(self) -> frozenset[str]:
        """All hosts, from the routes."""
        return frozenset(place.split()[1].partition("/")[0] for place in self.routes)

    def fault(self, call: Arrival) -> str | None:
        """Why a request should not have come, or None."""
        if call.host not in self.hosts or call.sni != call.host:
            return f"{call.place}: no host of this service (SNI {call.sni})"
        keyless = any(fnmatchcase(call.place, place) for place in self.keyless)
        wanted = [] if keyless else [f"{self.scheme}{self.token}".encode()]
        if call.request.values(self.header) != wanted:
            return f"{call.place}: the credential is not as it should be"
        if self.route(call) is None:
            return f"{call.place}: nothing is there"
        return None

    def route(self, call: Arrival) -> Route | None:
        """What answers a call."""
        if (exact := self.routes.get(call.place)) is not None:
            return exact
        return next((route for place, route in self.routes.items() if fnmatchcase(call.place, place)), None)


class Stagehand:
    """Plays one service at a time; ``calls`` holds what came, ``faults`` what should not have."""

    def __init__(self) -> None:
        self._service: Played | None = None
        self.calls: list[Arrival] = []
        self.faults: list[str] = []

    def play(self, service: Played) -> None:
        """From now on this one, with nothing seen."""
        self._service = service
        self.calls, self.faults = [], []

    async def script(self, peer: Peer) -> None:
        """Answers each request of a connection."""
        while True:
            call = Arrival(peer.sni, await peer.request())
            self.calls.append(call)
            await peer.send(_encoded(self._reply(call), call))

    def _reply(self, call: Arrival) -> Reply:
        assert self._service is not None
        fault = self._service.fault(call)
        if fault is not None:
            self.faults.append(fault)
            return Reply({"message": fault}, 418)
        route = self._service.route(call)
        assert route is not None
        try:
            return route(call) if callable(route) else route
        except (AssertionError, LookupError, ValueError, TypeError) as error:
            self.faults.append(f"{call.place}: {error!r} of {call.request.body[:200]!r}")
            return Reply({"message": "not understood"}, 418)


def _encoded(reply: Reply, call: Arrival) -> bytes:
    reason = HTTPStatus(reply.status).phrase.encode()
    body = (
        reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body, ensure_ascii=False).encode()
    )
    fields = ((b"Content-Type", reply.media_type), *reply.fields) if body else reply.fields
    if call.request.method == b"HEAD":
        return answer(
            reply.status, b"", *fields, (b"Content-Length", b"%d" % len(body)), reason=reason, length=False
        )
    return answer(reply.status, body, *fields, reason=reason, length=reply.status != HTTPStatus.NO_CONTENT)
