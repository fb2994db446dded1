"""The broken twin: the aiohttp reverse proxy one writes first. The suite has to find it wanting."""

import asyncio
import json
import os
import signal
import ssl
import sys
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, web

UPSTREAM, CA_FILE, READY = sys.argv[1:4]
HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


async def forward(request: web.Request) -> web.StreamResponse:
    """Sends the request on and the answer back."""
    drop = HOP | {"host", "authorization", "content-length"}
    headers = {k: v for k, v in request.headers.items() if k.lower() not in drop}
    headers["Authorization"] = "Bearer upstream-token"
    url = f"https://{UPSTREAM}{request.rel_url.raw_path_qs}"
    try:
        async with request.app["session"].request(
            request.method,
            url,
            headers=headers,
            data=request.content if request.body_exists else None,
            server_hostname="up.example",
        ) as answer:
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP]
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            return response
    except Exception as error:  # noqa: BLE001  # the twin's idiom, and one of its faults
        return web.Response(status=502, text=f"upstream error: {error}")


async def session(app: web.Application):
    """One pool for all requests."""
    context = ssl.create_default_context(cafile=CA_FILE)
    async with ClientSession(connector=TCPConnector(ssl=context), auto_decompress=False) as one:
        app["session"] = one
        yield


def told(port_of: web.AppRunner) -> None:
    """Tells the test where it listens."""
    port = port_of.addresses[0][1]
    Path(READY).write_text(json.dumps({"pid": os.getpid(), "data": f"127.0.0.1:{port}"}))


async def main() -> None:
    """Serves until it is killed."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    app.cleanup_ctx.append(session)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    told(runner)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await runner.cleanup()


asyncio.run(main())
