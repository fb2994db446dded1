"""Calls that come as a document instead of a connection, on the very data path of connections.

Each gets an end of a socket pair, whose other end the data plane answers as it answers any caller: gate, key,
permits, credential, rewriting, exchange, scrubbing and the log are the same code.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.errors import RequestError, UpstreamProtocol, UpstreamTimeout
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.handler.plane import DataPlane
from proxy.forwarding.limits import ServerLimits
from proxy.forwarding.server import DataServer
from proxy.forwarding.timeline import Timeline

Phase = Literal["responded", "not_sent", "timed_out", "sent_unconfirmed"]
CALL_S = 90.0  # the control plane's listener ends a request that takes longer than 104 s
MOST_BYTES = 8 * 2**20
_NOTHING: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
_LIMIT = 2**17


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``target``: as the data plane takes it; ``peer``: the address that the key came from."""

    method: str
    target: str
    peer: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of it. ``status``, ``headers``, ``body`` (decoded) are the service's, in phase ``responded``.

    ``refused``: why there is no answer of the service's, or none that is whole. Only ``not_sent`` says that
    the service cannot have seen the request.
    """

    phase: Phase
    refused: RequestError | None = None
    status: int | None = None
    headers: CIMultiDictProxy[str] = field(default_factory=lambda: _NOTHING)
    body: bytes = b""


class _Calling(CallerConnection):
    """The data plane's end of one call. ``error`` and ``timeline`` are what it did with it."""

    __slots__ = ("_from", "error", "timeline")

    def __init__(self, server: DataServer, call: Call) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), limits=server.limits)
        self._from = call.peer
        self.error: RequestError | None = None
        self.timeline = Timeline()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As if whoever showed the key had connected here."""
        super().connection_made(transport)
        self.peer = self._from

    def begun(self, timeline: Timeline) -> None:
        """The call goes its way."""
        self.timeline = timeline

    def refused(self, error: RequestError) -> None:
        """It gets no answer of the service's."""
        self.error = error


class _Pair(aiohttp.BaseConnector):
    """Gives one connection, to the data plane; a second one, for a request sent again, is not to be had."""

    def __init__(self, calling: _Calling) -> None:
        super().__init__(force_close=True)
        self._calling: _Calling | None = calling

    async def _create_connection(
        self,
        req: ClientRequest,  # noqa: ARG002  # there is one place to go
        traces: list[Trace],  # noqa: ARG002  # nobody traces it
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109  # it takes no time
    ) -> ResponseHandler:
        calling, self._calling = self._calling, None
        if calling is None:
            raise OSError("a call is made once")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await self._loop.connect_accepted_socket(lambda: calling, theirs)
        _, protocol = await self._loop.create_connection(self._factory, sock=ours)
        return protocol


class CallPlane(DataPlane):
    """A data plane for calls; ``terms`` as there, with keys that count as proxy keys here."""

    def serve(self, limits: ServerLimits) -> "Calls":
        """Takes calls from now on, within these limits."""
        return Calls(DataServer(self.answer, self.refuse, limits))


class Calls:
    """Makes calls, each once. ``seconds``: how long one may take in all."""

    def __init__(self, server: DataServer, seconds: float = CALL_S) -> None:
        self._server = server
        self._seconds = seconds

    async def make(self, call: Call) -> Reply:
        """The service's answer, or why there is none."""
        calling = _Calling(self._server, call)
        session = aiohttp.ClientSession(
            connector=_Pair(calling),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=_LIMIT,
            max_field_size=_LIMIT,
            max_headers=1000,
            timeout=aiohttp.ClientTimeout(),
        )
        try:
            async with asyncio.timeout(self._seconds), session:
                return await self._asked(session, call, calling)
        except TimeoutError:
            return _without(calling, UpstreamTimeout("the service did not answer in time"))
        except aiohttp.ClientError:
            return _without(calling, UpstreamProtocol("the service's answer was cut or cannot be read"))

    async def _asked(self, session: aiohttp.ClientSession, call: Call, calling: _Calling) -> Reply:
        url = URL(f"http://localhost{call.target}", encoded=True)
        async with session.request(
            call.method, url, headers=call.headers, data=call.body, allow_redirects=False
        ) as answer:
            body = bytearray()
            async for piece in answer.content.iter_chunked(65_536):
                body += piece
                if len(body) > MOST_BYTES:
                    error = UpstreamProtocol(f"the service's answer is larger than {MOST_BYTES} bytes")
                    return Reply("responded", error, answer.status, answer.headers)
        if calling.error is not None:
            return _without(calling, calling.error)
        if answer.headers.get("Proxy-Status", "").startswith("connector-proxy"):
            raise RuntimeError("the data path failed; its own log has it")
        return Reply("responded", None, answer.status, answer.headers, bytes(body))

    async def close(self) -> None:
        """Cut what is under way."""
        await self._server.drain(0)


def _without(calling: _Calling, error: RequestError) -> Reply:
    """Bytes of the request were given to a connection once its address is in the timeline."""
    error = calling.error or error
    if calling.timeline.upstream is None:
        return Reply("not_sent", error)
    return Reply("timed_out" if isinstance(error, UpstreamTimeout) else "sent_unconfirmed", error)
