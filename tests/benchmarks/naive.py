"""The proxy that anyone would write with aiohttp: the peer that our figures are compared with.

Usage: python naive.py PORT ORIGIN [CA_FILE SERVER_NAME]. It injects a fixed token and streams the answer.
"""

import os
import ssl
import sys

from aiohttp import ClientSession, web

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
REPLACED = HOP_BY_HOP | {"host", "authorization"}


async def forward(request: web.Request) -> web.StreamResponse:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in REPLACED}
    headers["Authorization"] = f"Bearer {os.environ['BENCH_TOKEN']}"
    async with request.app["session"].request(
        request.method,
        request.app["origin"] + request.raw_path,
        headers=headers,
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
        **request.app["tls"],
    ) as upstream:
        kept = {name: value for name, value in upstream.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=upstream.status, headers=kept)
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def session(app: web.Application):
    async with ClientSession(auto_decompress=False) as app["session"]:
        yield


if __name__ == "__main__":
    app = web.Application()
    app["origin"] = sys.argv[2]
    app["tls"] = {}
    if len(sys.argv) > 3:
        app["tls"] = {"ssl": ssl.create_default_context(cafile=sys.argv[3]), "server_hostname": sys.argv[4]}
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
