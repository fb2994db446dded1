"""The control plane's pages without login, over real sockets: what they say, and to whom."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector, web

from proxy.control import listener
from proxy.control.health import Readiness, make_control_app
from proxy.control.listener import ControlRunner
from proxy.metrics import Metrics
from proxy.problems import CODES


@asynccontextmanager
async def listening(app: web.Application, path: Path | None = None) -> AsyncIterator[int]:
    """The app on a free port (or a unix socket)."""
    web_runner = ControlRunner(app, access_log=None, handle_signals=False)
    await web_runner.setup()
    site: web.BaseSite = (
        web.TCPSite(web_runner, "127.0.0.1", 0) if path is None else web.UnixSite(web_runner, str(path))
    )
    await site.start()
    try:
        yield web_runner.addresses[0][1] if path is None else 0
    finally:
        await web_runner.cleanup()


def app_of(ready: Callable[[], Readiness] = lambda: Readiness(ready=True)) -> web.Application:
    """The control plane as it is put together by the program."""
    return make_control_app(
        ready=ready, metrics=Metrics(services=("slack",), codes=CODES), allowed_hosts=("Proxy.Internal.",)
    )


async def raw(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of the answer to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)
    }
    body = b"" if request.startswith(b"HEAD") else await reader.readexactly(int(fields["content-length"]))
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), fields, body


def request(path: str, host: str = "localhost", method: str = "GET", more: str = "") -> bytes:
    """A request's bytes."""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


async def test_the_three_pages_answer_without_login():
    """R154: liveness, readiness and metrics need no credential, no vault and no data plane."""
    async with listening(app_of()) as port:
        status, fields, body = await raw(port, request("/healthz"))
        assert (status, json.loads(body), fields["content-type"]) == (
            200,
            {"status": "ok"},
            "application/json",
        )
        status, _, body = await raw(port, request("/readyz"))
        assert (status, json.loads(body)) == (200, {"status": "ready", "checks": {}})
        status, fields, body = await raw(port, request("/metrics"))
        assert status == 200
        assert fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"connector_proxy_build_info" in body
        status, _, body = await raw(port, request("/healthz", method="HEAD"))
        assert (status, body) == (200, b"")


async def test_readiness_follows_the_program_and_liveness_does_not():
    """A draining instance gets no new traffic, but is not restarted for it."""
    state = Readiness(ready=False, checks={"draining": "yes"})
    async with listening(app_of(lambda: state)) as port:
        status, _, body = await raw(port, request("/readyz"))
        assert (status, json.loads(body)) == (503, {"status": "not_ready", "checks": {"draining": "yes"}})
        assert (await raw(port, request("/healthz")))[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8081", 200),
        ("LOCALHOST.:1", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:8081", 200),
        ("[::1]:8081", 200),
        ("proxy.internal", 200),
        ("proxy.internal:443", 200),
        ("attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("x.localhost", 421),
        ("localhost:8081@attacker.example", 421),
        ("::1", 421),
        ("[localhost]", 421),
        ("127.1", 421),
        ("2130706433", 421),
        ("10.0.0.1", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_only_known_hosts_are_answered(host: str, status: int):
    """R93, R154: a page in a browser that made its own name point here gets nothing (DNS rebinding)."""
    async with listening(app_of()) as port:
        for path in ("/healthz", "/metrics", "/nowhere"):
            expected = 404 if status == 200 and path == "/nowhere" else status
            got, _, body = await raw(port, request(path, host))
            assert got == expected
            assert status == 200 or b"connector_proxy_build" not in body


async def test_a_request_without_host_or_with_two_is_not_answered():
    """R10: exactly one Host."""
    async with listening(app_of()) as port:
        one = b"GET /healthz HTTP/1.0\r\n\r\n"
        assert (await raw(port, one))[0] == 421
        two = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
        assert (await raw(port, two))[0] in {400, 421}


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (("/", "GET"), 404, "not_found"),
        (("/healthz/", "GET"), 404, "not_found"),
        (("/slack/api/x", "POST"), 404, "not_found"),
        (("/%2e%2e/etc/passwd", "GET"), 404, "not_found"),
        (("/healthz", "POST"), 405, "method_not_allowed"),
        (("/metrics", "DELETE"), 405, "method_not_allowed"),
        (("/metrics", "OPTIONS"), 405, "method_not_allowed"),
    ],
)
async def test_everything_else_is_a_problem(line: tuple[str, str], status: int, code: str):
    """R156: JSON with a code and an id, never HTML, nothing of the request echoed."""
    path, method = line
    async with listening(app_of()) as port:
        got, fields, body = await raw(port, request(path, method=method))
        problem = json.loads(body)
        assert (got, problem["code"], problem["status"]) == (status, code, status)
        assert fields["content-type"] == "application/problem+json"
        assert problem["instance"]
        assert b"passwd" not in body
        assert ("allow" in fields) == (status == 405)
        if status == 405:
            assert fields["allow"] == "GET, HEAD"


async def test_every_answer_carries_the_security_headers_and_no_cors():
    """R93: no framing, no sniffing, no caching, no referrer, no software version; no other origin reads anything."""
    async with listening(app_of()) as port:
        origin = "Origin: https://attacker.example\r\n"
        for path, host in (
            ("/healthz", "localhost"),
            ("/nowhere", "localhost"),
            ("/healthz", "attacker.example"),
        ):
            _, fields, _ = await raw(port, request(path, host, more=origin))
            assert fields["x-frame-options"] == "DENY"
            assert fields["x-content-type-options"] == "nosniff"
            assert fields["cache-control"] == "no-store"
            assert fields["referrer-policy"] == "no-referrer"
            assert fields["cross-origin-resource-policy"] == "same-origin"
            assert "frame-ancestors 'none'" in fields["content-security-policy"]
            assert fields["server"] == "connector-proxy"
            assert not [name for name in fields if name.startswith("access-control-")]


async def test_a_failure_inside_tells_nothing(capsys: pytest.CaptureFixture[str]):
    """R143: an exception becomes a 500 with an id; its text is neither in the answer nor in the log."""

    def broken() -> Readiness:
        raise RuntimeError("text-canary")

    async with listening(app_of(broken)) as port:
        status, _, body = await raw(port, request("/readyz"))
    printed = capsys.readouterr()
    assert (status, json.loads(body)["code"]) == (500, "internal_error")
    assert "canary" not in body.decode() + printed.out + printed.err


async def test_a_unix_socket_serves_the_same_pages(tmp_path: Path):
    """The control plane may listen on a socket file; the Host is checked there too."""
    path = tmp_path / "control.sock"
    async with listening(app_of(), path), ClientSession(connector=UnixConnector(str(path))) as session:
        async with session.get("http://localhost/healthz") as answer:
            assert answer.status == 200
        async with session.get("http://attacker.example/healthz") as answer:
            assert answer.status == 421


MALFORMED = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nBad canary\x01: x\r\n\r\n",
    b"GET /canary\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"canary\r\n\r\n",
    b"GET /canary" + b"c" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED)
async def test_a_malformed_request_is_neither_echoed_nor_logged(
    sent: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """R143, R156: aiohttp's page quotes the bad bytes and its version; ours is a problem, and the line ends there."""
    async with listening(app_of()) as port:
        status, fields, body = await raw(port, sent)
    printed = capsys.readouterr()
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    assert fields["server"] == "connector-proxy"
    assert fields["x-frame-options"] == "DENY"
    assert b"canary" not in body
    assert "canary" not in caplog.text + printed.out + printed.err


async def test_what_is_at_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that takes long to begin, or is told bit by bit, comes; one that nobody reads ends."""
    monkeypatch.setattr(listener, "LOOK_S", 0.1)
    beats, cut = 3 * listener.LONGEST_LOOKS, asyncio.Event()

    async def told(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await asyncio.sleep(beats * listener.LOOK_S)
        await response.prepare(asked)
        for _ in range(3):
            await asyncio.sleep(beats * listener.LOOK_S / 2)
            await response.write(b".")
        return response

    async def unread(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(asked)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1_000_000))
        cut.set()
        return response

    app = app_of()
    app.router.add_get("/told", told)
    app.router.add_get("/unread", unread)
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("/told"))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 30)
        writer.close()
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)  # reads nothing of the body
        writer.write(request("/unread"))
        await asyncio.wait_for(cut.wait(), 30)
        writer.close()


async def test_connections_that_never_get_anywhere_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds connections for ever, be it with half a head, half a body or nothing; who asks in time is answered."""
    monkeypatch.setattr(listener, "LOOK_S", 0.2)

    async def slow(asked: web.Request) -> web.Response:
        await asked.read()
        return web.Response(text="read")

    app = app_of()
    app.router.add_post("/slow", slow)
    async with listening(app) as port:
        for begun in (b"", b"GET /healthz HT", request("/slow", method="POST", more="Content-Length: 9\r\n")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ends = asyncio.get_running_loop().time() + 1.0
        while asyncio.get_running_loop().time() < ends:  # busy all the time, and longer than the others lived
            writer.write(request("/healthz"))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}")
        writer.close()
