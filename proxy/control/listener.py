"""The control plane's server: aiohttp's, but bad requests are neither echoed nor logged (R143, R156)."""

import secrets

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy import log, problems
from proxy.control.guarded import SECURITY_HEADERS, response_of
from proxy.errors import BadRequest

_SERVER_FAULT = 500


class _Connection(RequestHandler):
    """One connection. aiohttp's own error page quotes the request's bytes and names its version."""

    __slots__ = ()

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
