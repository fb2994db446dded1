"""Made-up secrets go in by every way there is, and are looked for in everything that comes out (R143)."""

import asyncio
import base64
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.canaries import found_in
from support.commands import Inside
from support.lab import HOST
from support.proxy import service_file
from support.serving import QUICK, Serve, get, until
from support.upstream import Upstream

pytestmark = pytest.mark.traced

ACCESS = "canaryACCESS" + "a1b2c3d4e5"
REFRESH = "canaryREFRESH" + "f6a7b8c9d0"
STATIC = "canarySTATIC" + "e1f2a3b4c5"
BROKEN = "canaryBROKEN\x07" + "d6e7f8a9b0"
PRESENTED = "canaryPRESENTED" + "c1d2e3f4a5"
PASSWORD = "canaryPASSWORD" + "b6c7d8e9f0"


def test_the_search_finds_what_it_looks_for() -> None:
    """The test itself would see a leak: plain, hex, percent-encoded, or inside somebody's Base64."""
    for hidden in (
        ACCESS,
        ACCESS.encode().hex(),
        urllib.parse.quote("a b " + ACCESS),
        base64.b64encode(f"u:{ACCESS}:p".encode()).decode(),
        base64.b64encode(f"user:{ACCESS}:p".encode()).decode(),
        base64.b64encode(f"use:{ACCESS}:p".encode()).decode(),
    ):
        assert found_in(hidden.encode(), [ACCESS, REFRESH]) == [ACCESS], hidden


def hostile(key: str) -> list[bytes]:
    """Requests that make the proxy refuse, fail, log and count, with secrets in all their parts."""
    auth = f"Authorization: Bearer {key}\r\n"
    head = f"Host: localhost\r\n{auth}"
    return [
        f"GET /vaulted/ok?{key}=1&x={PRESENTED} HTTP/1.1\r\n{head}X-Secret: {PRESENTED}\r\n\r\n".encode(),
        f"GET /static/ok HTTP/1.1\r\n{head}Cookie: s={PRESENTED}\r\n\r\n".encode(),
        f"GET /vaulted/{key} HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /{key}/x HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /{urllib.parse.quote(key).replace('_', '%5F')}/x HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /vaulted/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {PRESENTED}\r\n\r\n".encode(),
        f"GET /vaulted/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key[:-1]}\r\n\r\n".encode(),
        f"GET /vaulted/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {base64.b64encode(f'{PASSWORD}:{key}'.encode()).decode()}\r\nX-Api-Key: {PRESENTED}\r\n\r\n".encode(),
        f"GET /vaulted/x HTTP/1.1\r\n{head}X: a\rb{PRESENTED}\r\n\r\n".encode(),
        f"GET /vaulted/x?{PRESENTED} HTTP/9.9\r\n{head}\r\n".encode(),
        f"GET http://{PASSWORD}@evil/x HTTP/1.1\r\n{head}\r\n".encode(),
        f"CONNECT user:{PASSWORD}@evil:443 HTTP/1.1\r\n{head}\r\n".encode(),
        f"POST /vaulted/x HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\nzz{PRESENTED}\r\n".encode(),
        f"POST /vaulted/x HTTP/1.1\r\n{head}Content-Length: 5, 6\r\n\r\n{PRESENTED}".encode(),
        f"GET /vaulted/x HTTP/1.1\r\n{head}Expect: {PRESENTED}\r\n\r\n".encode(),
        f"GET /vaulted/../x?{PRESENTED} HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /dead/{'x' * 10} HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /vaulted@nobody/x?y={PRESENTED} HTTP/1.1\r\n{head}\r\n".encode(),
    ]


def send(address: tuple[str, int], data: bytes) -> bytes:
    """The answer to raw bytes on a connection of their own."""
    with socket.create_connection(address, 20) as one:
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while part := one.recv(65536):
                got += part
        except ConnectionError:
            pass
        return got


@pytest.fixture
def served(tmp_path: Path, authority, runner) -> Iterator[tuple[Serve, Upstream]]:
    """A server with debug log, a vaulted, a static and a dead service; the first two reach a TLS upstream."""
    upstream = Upstream(authority.server(HOST))
    runner.run(upstream.start())
    services = tmp_path / "services"
    services.mkdir()
    for name in ("vaulted", "static"):
        (services / f"{name}.toml").write_text(service_file(f"https://{HOST}"))
    (services / "dead.toml").write_text(service_file("http://127.0.0.1:9"))
    (tmp_path / "proxy.toml").write_text(
        f"[services]\ndirectory = {json.dumps(str(services))}\n"
        f'[egress]\nca_file = {json.dumps(str(authority.ca_file))}\nconnect_to = {{ "{HOST}:443" = "{upstream.address}" }}\n'
        '[log]\nlevel = "debug"\n'
    )
    extra = {"CONNECTOR_PROXY_TOKEN_STATIC": STATIC, "CONNECTOR_PROXY_TOKEN_DEAD": STATIC}
    try:
        with Serve(tmp_path, *QUICK, extra=extra, flags=("-X", "dev")) as server:
            yield server, upstream
    finally:
        runner.run(upstream.stop())


def drive(server: Serve, cli: Inside) -> tuple[dict[str, bytes], bytes, list[str]]:
    """Use and abuse the server and the commands; all that came out by name, raw answers, and our secrets."""
    printed: list[str] = []

    def run(*args: str, stdin: bytes = b"") -> str:
        done = cli(*args, stdin=stdin)
        printed.append(done.err)
        if args[:2] != ("keys", "create"):
            printed.append(done.out)
        return done.out

    tokens = json.dumps({"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600}).encode()
    key = run("keys", "create", "canary", "--allow", "*").strip()
    run("connect", "vaulted", "--tokens-stdin", stdin=tokens)
    run("connect", "vaulted", "--connection", "bad", "--access-token-stdin", stdin=BROKEN.encode())
    run("connect", "vaulted", "--connection", "bad", "--tokens-stdin", stdin=b"{" + tokens)
    for args in (
        ("connections", "list"),
        ("connections", "show", "vaulted", "--json"),
        ("connections", "verify", "vaulted"),
        ("keys", "list", "--json"),
        ("keys", "revoke", key),
        ("check", "--json"),
        ("services", "--json"),
    ):
        run(*args)
    until(lambda: get(server.address, "/vaulted/ok", key)[0] == 200, 30, server)
    answers = b"".join(send(server.address, data) for data in hostile(key))
    host, _, port = server.told["control"][0].rpartition(":")
    exposed = get((host, int(port)), "/metrics")[2]
    process = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert server.stop() == 0
    ours = [ACCESS, REFRESH, STATIC, BROKEN, PRESENTED, PASSWORD, key[13:]]
    out = {
        "log": server.log.encode(),
        "commands": "".join(printed).encode(),
        "metrics": exposed,
        "process list": process,
        **{f"file {path.name}": path.read_bytes() for path in server.data.iterdir()},
    }
    return out, answers, ours


@pytest.mark.timeout(180)  # a dozen commands, on a machine that may be busy
async def test_no_secret_comes_out_anywhere(
    served: tuple[Serve, Upstream],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tokens, keys and what callers send as such are in no log, output, error, metric, file or process list (R143)."""
    server, upstream = served
    out, answers, secrets = await asyncio.to_thread(drive, server, Inside(tmp_path, capsys, monkeypatch))
    received = b"".join(bytes(peer.received) for peer in upstream.peers)
    assert ACCESS.encode() in received, "the token never reached the service: this test would prove nothing"
    assert STATIC.encode() in received
    leaks = {name: found for name, data in out.items() if (found := found_in(data, secrets))}
    assert leaks == {}
    assert found_in(_own(answers), secrets) == []
    assert "Traceback" not in server.log
    assert any(event["event"] == "request" for event in server.events())


def _own(answers: bytes) -> bytes:
    """The proxy's own answers: those of the upstream echo what it got, for this test to look at."""
    parts = answers.split(b"HTTP/1.1 ")
    return b"".join(part for part in parts if b"Proxy-Status" in part)
