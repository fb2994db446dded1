"""The control plane's server: aiohttp's, but bad requests are neither echoed nor logged (R143, R156)."""

import asyncio
import secrets

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy import log, problems
from proxy.control.guarded import SECURITY_HEADERS, response_of
from proxy.errors import BadRequest

LOOK_S = 13.0  # in step with nobody who asks every so many seconds
LONGEST_LOOKS = 8  # over a minute and a half
_UNSEEN = (True, 0, 0)
_SERVER_FAULT = 500


class _Connection(RequestHandler):
    """One connection. aiohttp's own error page quotes the request's bytes and names its version.

    Nor has aiohttp a limit for how long a head or body may take, or for how long an answer is not read. So
    every ``LOOK_S`` a connection is looked at, and ends when two looks find no request and no further one, or
    ``LONGEST_LOOKS`` find us waiting for the rest of the same one, or for the same answer to be taken.
    """

    __slots__ = ("_looks", "_seen", "_timer")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look for the first time in a while."""
        super().connection_made(transport)
        self._seen = _UNSEEN
        self._looks = 0
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Look no more."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        request, transport = self._current_request, self.transport
        seen = (request is None, self._request_count, 0 if request is None else request.writer.output_size)
        self._looks = self._looks + 1 if seen == self._seen else 1
        self._seen = seen
        if transport is None:
            return
        if request is not None and request.content.is_eof() and not transport.get_write_buffer_size():
            self._looks = 0  # what takes so long is our work, or there is nothing to tell yet
        if self._looks >= (2 if request is None else LONGEST_LOOKS):
            transport.abort()
        else:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # may quote the request
    ) -> web.StreamResponse:
        """A problem, and the end of the connection."""
        request_id = secrets.token_hex(8)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        if status < _SERVER_FAULT:
            error = BadRequest("the request is not well-formed HTTP")
            response = response_of(problems.problem(error, request_id=request_id, plane="control"))
        else:
            if exc is not None:
                log.crash("control_plane_failed", exc, request_id=request_id)
            response = response_of(problems.internal(request_id=request_id, plane="control"))
        response.headers.update(SECURITY_HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class ControlRunner(web.AppRunner):
    """Runs the control plane's application; use it where aiohttp's ``AppRunner`` would stand."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)  # noqa: SLF001  # the same server with our connection class
