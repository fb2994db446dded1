"""The vault's commands beside a running server: rotation, backup, restore, adoption, notices."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Done, Inside
from support.serving import QUICK, Serve, get, until

from proxy.connectors.webhook import signature, signing_key
from proxy.secret import Secret

SECRET = "whsec_" + "c2VjcmV0LWZvci10ZXN0cy1vbmx5LTEyMzQ1Njc4OTA="


class Hook(http.server.ThreadingHTTPServer):
    """Takes notices, those only that are signed as they should be."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.documents: list[dict[str, Any]] = []


class _Taker(http.server.BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sent = int(self.headers["webhook-timestamp"])
        expected = signature(signing_key(Secret(SECRET)), self.headers["webhook-id"], sent, body)
        good = self.headers["webhook-signature"] == expected
        if good:
            self.server.documents.append(json.loads(body))
        self.send_response(204 if good else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    inside = Inside(tmp_path, capsys, monkeypatch)
    monkeypatch.setenv("HOOK", SECRET)
    return inside


def _metric(server: Serve, name: str) -> float:
    host, port = server.told["control"][0].rsplit(":", 1)
    _, _, body = get((host, int(port)), "/metrics")
    found = re.search(rf"^connector_proxy_{re.escape(name)} (\S+)$", body.decode(), re.MULTILINE)
    assert found is not None, name
    return float(found.group(1))


def test_a_server_goes_on_through_the_life_of_its_vault(cli: Inside, hook: Hook) -> None:
    """Notices, rotation, backup, restore, adoption beside a server with two workers: each shows within moments."""
    (cli.folder / "proxy.toml").write_text(
        '[services]\nenabled = ["slack"]\n'
        '[egress]\nallow_addresses = ["127.0.0.1/32"]\n'
        f'[webhook]\nurl = "http://127.0.0.1:{hook.server_port}/hook?a=b%20c"\nsecret = {{ env = "HOOK" }}\n'
    )

    def run(*args: str, stdin: bytes = b"") -> Done:
        done = cli(*args, stdin=stdin)
        assert done.code == 0, done.err
        return done

    def serving() -> Serve:
        return Serve(cli.folder, *QUICK, "--workers", "2", extra={"HOOK": SECRET})

    with serving() as server:
        run("connect", "slack", "--access-token-stdin", stdin=b"xoxp-kept")
        run("vault", "backup", "older.db")
        run("connections", "freeze", "slack")
        until(lambda: hook.documents, 30, server)
        assert [one["type"] for one in hook.documents] == ["connection.frozen"]
        assert hook.documents[0]["data"]["connection"]["service"] == "slack"
        until(lambda: _metric(server, 'connections{state="frozen"}') == 1, 30, server)
        until(lambda: _metric(server, 'webhook_deliveries_total{outcome="delivered"}') == 1, 30, server)
        run("vault", "rotate")
        run("vault", "rotate", "--new-master-key")
        run("connections", "freeze", "slack", "--thaw")
        until(lambda: _metric(server, 'connections{state="active"}') == 1, 30, server)
        until(lambda: len(hook.documents) == 2, 30, server)
        run("vault", "backup", "newer.db")
        refused = cli("vault", "restore", "newer.db")
        assert (refused.code, "in use by the server" in refused.err) == (3, True)
    refused = cli("vault", "restore", "older.db")
    assert refused.code == 3, "a backup needs the master key of its time"
    assert "sealed with master key" in refused.err

    run("vault", "restore", "newer.db")
    with serving() as server:
        assert "vault adopt" in server.event("vault_notice")["notice"]
        assert _metric(server, "vault_is_copy") == 1
        assert _metric(server, 'connections{state="frozen"}') == 1
        until(lambda: hook.documents[-1]["type"] == "vault.copy_found", 30, server)
        run("vault", "adopt")
        assert _metric(server, "vault_is_copy") == 0, "a command ends when the server has taken its change in"
        assert _metric(server, 'connections{state="active"}') == 1
        until(lambda: hook.documents[-1]["type"] == "vault.adopted", 30, server)
    assert "kept" not in json.dumps(hook.documents)
