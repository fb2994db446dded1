"""``connections verify``: one call to the service, over the same way as everybody's, and what its answer means."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.commands import Done, Inside
from support.lab import HOST
from support.proxy import service_file
from support.upstream import Peer, Upstream

from proxy.catalog.loader import load_file
from proxy.verify import judge

VERIFY = """
[verify]
method = "POST"
path = "/api/auth.test?full=1"
body = '{"ask":1}'
content_type = "application/json"
ok_path = "ok"
name_path = "user.name"
[failure]
dead = [{ status = 200, path = "error", codes = ["account_inactive"] }]
expired = [{ status = 401 }]
"""


class Bench:
    """A service, an upstream that plays it, and a folder to run commands in."""

    def __init__(self, cli: Inside, upstream: Upstream) -> None:
        self.cli = cli
        self.upstream = upstream

    async def run(self, *args: str, stdin: bytes = b"") -> Done:
        return await asyncio.to_thread(self.cli, *args, stdin=stdin)

    def answering(self, status: int, answer: Mapping[str, object]) -> None:
        """From now on the service answers so."""
        body = json.dumps(answer).encode()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            await peer.ended.wait()

        self.upstream.script = script


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands in the test's folder."""
    return Inside(tmp_path, capsys, monkeypatch)


@asynccontextmanager
async def bench(cli: Inside, authority) -> AsyncIterator[Bench]:
    folder = cli.folder
    upstream = Upstream(authority.server(HOST))
    await upstream.start()
    (folder / "services").mkdir()
    (folder / "services" / "acme.toml").write_text(service_file(f"https://{HOST}") + VERIFY)
    (folder / "proxy.toml").write_text(
        '[services]\ndirectory = "services"\nenabled = ["acme"]\n'
        f"[egress]\nca_file = {json.dumps(str(authority.ca_file))}\n"
        f'connect_to = {{ "{HOST}:443" = "{upstream.address}" }}\n'
    )
    try:
        yield Bench(cli, upstream)
    finally:
        await upstream.stop()


async def test_the_call_carries_the_token_and_names_the_account(cli: Inside, authority) -> None:
    """Method, path, query, body and token arrive as the file says; the answer's account name is told."""
    async with bench(cli, authority) as one:
        await one.run("connect", "acme", "--access-token-stdin", stdin=b"verify-token")
        one.answering(200, {"ok": True, "user": {"name": "Ada"}})
        done = await one.run("connections", "verify", "acme", "--json")
        assert (done.code, done.document) == (
            0,
            {
                "service": "acme",
                "name": "default",
                "ok": True,
                "status": 200,
                "account": "Ada",
                "reason": None,
            },
        )
        received = bytes(one.upstream.peers[0].received)
        assert received.startswith(b"POST /api/auth.test?full=1 HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n")
        assert b"Authorization: Bearer verify-token\r\n" in received
        assert received.endswith(b'\r\n\r\n{"ask":1}')
        assert received.count(b"Host:") == 1


async def test_all_connections_and_a_failing_one(cli: Inside, authority) -> None:
    """--all asks for each; one that fails makes the exit status 1 and says why, without its token."""
    async with bench(cli, authority) as one:
        await one.run("connect", "acme", "--access-token-stdin", stdin=b"token-one")
        await one.run("connect", "acme", "--connection", "two", "--access-token-stdin", stdin=b"token-two")
        one.answering(401, {"ok": False})
        done = await one.run("connections", "verify", "--all", "--json")
        assert done.code == 1
        assert [(told["name"], told["ok"], told["status"]) for told in done.document] == [
            ("default", False, 401),
            ("two", False, 401),
        ]
        assert all("expired" in told["reason"] for told in done.document)
        assert "token-" not in done.out + done.err
        assert (await one.run("connections", "verify")).code == 2
        await one.upstream.stop()
        done = await one.run("connections", "verify", "acme", "--json")
        assert (done.code, done.document["status"]) == (1, None)


@pytest.mark.parametrize(
    ("status", "body", "ok", "word"),
    [
        (200, b'{"ok": true, "user": {"name": "Ada"}}', True, None),
        (200, b'{"ok": false, "error": "account_inactive"}', False, "again"),
        (200, b'{"ok": false, "error": "other"}', False, "200"),
        (200, b'{"ok": "true"}', False, "200"),
        (200, b"<html>", False, "200"),
        (200, b"[" * 100_000, False, "200"),
        (401, b"", False, "expired"),
        (500, b'{"ok": true}', False, "500"),
        (302, b'{"ok": true}', False, "302"),
    ],
)
def test_what_answers_mean(tmp_path: Path, *, status: int, body: bytes, ok: bool, word: str | None) -> None:
    """Only a 2xx whose declared truth is true counts; dialects of the file turn failures into words."""
    path = tmp_path / "acme.toml"
    path.write_text(service_file(f"https://{HOST}") + VERIFY)
    service = load_file(path, user=True)
    assert service.verify is not None
    verdict = judge(service, service.verify, "default", status, body)
    assert verdict.ok is ok
    assert word is None or word in (verdict.reason or "")
