"""An account from its connecting to its end, with real OAuth servers, the command line and the data plane (R143)."""

import asyncio
import contextlib
import io
import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.canaries import found_in
from support.grounds import Ground, PostgresGround, SqliteGround
from support.providers.real import Provider
from support.serving import QUICK, Serve, declared_key, get, until

from proxy.cli.root import tree
from proxy.cli.session import run

pytestmark = pytest.mark.traced

KEY, HASHED = declared_key()
INTERRUPTED = "refresh_interrupted"


class Person(io.StringIO):
    """Standard input of somebody who opens the address on the terminal, agrees, and pastes where that led."""

    def __init__(self, provider: Provider, printed: Callable[[], str]) -> None:
        super().__init__()
        self._provider = provider
        self._printed = printed

    def readline(self, _size: int | None = -1, /) -> str:
        asked = re.findall(r"^ +(http\S+)$", self._printed(), re.MULTILINE)
        return self._provider.approve(asked[-1]) + "\n"


class Life:
    """A server on a vault, the commands beside it, and all that they let out."""

    def __init__(
        self, ground: Ground, provider: Provider, runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.ground, self.provider, self.runner = ground, provider, runner
        self.out: dict[str, bytes] = {}
        self._capsys = capsys
        self._printed = ""
        extra = {"keys.caller": {"hash": HASHED, "allow": ["*"]}}
        ground.configure(provider, settings=extra, scopes_verified="live")
        self.server = Serve(ground.folder, "--config", str(ground.config), *QUICK)

    def start(self) -> None:
        self.server.start()
        self.provider.allow_redirect(f"http://localhost:{self._control[1]}/callback/real")

    @property
    def _control(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.server.told["control"][0].rpartition(":")[2])

    def command(self, *words: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """A command, in this process; its JSON document."""
        self._keep_printed()
        monkeypatch.setattr(sys, "stdin", Person(self.provider, self._keep_printed))
        where = ("--config", str(self.ground.config), "--data-dir", str(self.ground.data_dir), "--json")
        code = run(tree(words), [*words, *where])
        out, err = self._capsys.readouterr()
        self._printed += out + err
        assert code == 0, (words, out, err)
        return json.loads(out)

    def _keep_printed(self) -> str:
        out, err = self._capsys.readouterr()
        self._printed += out + err
        return err

    def call(self) -> tuple[int, dict[str, Any]]:
        """A caller's call to the service, through the proxy."""
        status, _, body = get(self.server.address, "/real/api/me", KEY, timeout=20)
        return status, json.loads(body)

    def calls_until(self, look: Callable[[], bool]) -> None:
        """Calls go on, as those of any caller would, until something is so."""
        over = threading.Event()

        def calls() -> None:
            while not over.wait(0.02):
                with contextlib.suppress(OSError):  # the server is killed meanwhile
                    self.call()

        caller = threading.Thread(target=calls)
        caller.start()
        try:
            until(look, 15, self.server)
        finally:
            over.set()

    def expire(self) -> None:
        self.runner.run(self.ground.expire())

    def row(self) -> dict[str, Any]:
        return dict(self.runner.run(self.ground.connection("default")))

    def note(self, when: str) -> None:
        """Keep what can be read now: log, metrics, database, data folder, process list, what commands printed."""
        if self.server.running:
            self.out[f"metrics {when}"] = get(self._control, "/metrics")[2]
            self.out[f"process list {when}"] = Path(f"/proc/{self.server.pid}/cmdline").read_bytes()
        self.out[f"log {when}"] = self.server.log.encode()
        self.out[f"database {when}"] = self.runner.run(self.ground.files())
        for path in self.ground.data_dir.rglob("*"):
            if path.is_file():
                self.out[f"{path.name} {when}"] = path.read_bytes()
        self.out[f"commands {when}"] = self._printed.encode()


@pytest.fixture(
    params=[("sqlite", "toolkit"), pytest.param(("postgres", "oidc"), marks=pytest.mark.node)],
    ids=["sqlite-toolkit", "postgres-oidc"],
)
def life(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    runner: asyncio.Runner,
    capsys: pytest.CaptureFixture[str],
) -> Life:
    """A place for a vault and a provider that forgives nothing; the server is not started."""
    store, name = request.param
    provider: Provider = request.getfixturevalue(name)
    provider.adjust(access_lifetime_s=3600, before_s=0, after_s=0)
    ground: Ground = (
        SqliteGround(tmp_path / "ground")
        if store == "sqlite"
        else PostgresGround(tmp_path / "ground", request.getfixturevalue("postgres").database())
    )
    return Life(ground, provider, runner, capsys)


def _newest(provider: Provider, name: str) -> str:
    return next(value for field, value in reversed(provider.secrets()) if field == name)


@pytest.mark.timeout(150)  # a dozen commands and three starts, on a machine that may be busy
def test_an_account_from_its_connecting_to_its_end(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state is told as it is, and no secret is in any log, metric, table, file, answer or output (R108, R109, R117, R143).

    Connected, used, refreshed, revoked, connected again, interrupted, disconnected: it keeps its id throughout.
    """
    provider = life.provider
    answers = []
    before = len(provider.secrets())
    try:
        life.start()
        connected = life.command("connect", "real", "--paste", monkeypatch=monkeypatch)
        assert connected["state"] == "active"
        until(lambda: life.call()[0] == 200, 10, life.server)
        assert life.call()[1]["name"] == "alice"
        first = life.row()

        refreshes = provider.token_requests()
        life.expire()
        life.calls_until(lambda: life.row()["generation"] == 2)
        assert life.call()[0] == 200
        assert provider.token_requests() == refreshes + 1
        life.note("refreshed")

        assert provider.revoke(_newest(provider, "refresh_token")) == 200
        status, told = life.call()
        answers.append(told)
        assert (status, told["code"]) == (424, "reauthorization_required"), told
        assert "/connect/real" in told["connect_url"]
        assert (life.row()["state"], life.row()["cause"]) == ("reauthorization_required", "invalid_grant")
        life.note("dead")
        refreshes = provider.token_requests()
        assert life.call()[0] == 424
        assert provider.token_requests() == refreshes

        again = life.command("connect", "real", "--paste", monkeypatch=monkeypatch)
        assert again["id"] == connected["id"]
        until(lambda: life.call()[0] == 200, 10, life.server)

        provider.adjust(after_s=0.8)
        refreshes = provider.token_requests()
        life.expire()
        life.calls_until(lambda: _kill_when_spent(life, refreshes))
        provider.adjust(after_s=0)
        life.note("killed")
        life.start()
        status, told = life.call()
        answers.append(told)
        assert (status, told["code"]) == (424, "reauthorization_required"), told
        assert life.row()["cause"] == INTERRUPTED
        assert provider.token_requests() == refreshes + 2
        life.note("interrupted")

        life.command("connect", "real", "--paste", monkeypatch=monkeypatch)
        assert life.row()["connection_id"] == first["connection_id"]
        until(lambda: life.call()[0] == 200, 10, life.server)
        granted = _newest(provider, "refresh_token")
        assert provider.is_alive(granted)
        ended = life.command("connections", "remove", "real@default", monkeypatch=monkeypatch)
        assert ended["revoked"] is True, ended
        assert not provider.is_alive(granted)
        until(lambda: life.call()[0] == 424, 10, life.server)
        answers.append(life.call()[1])
        life.note("ended")
        assert life.server.stop() == 0
        life.note("stopped")
    finally:
        provider.adjust(after_s=0)
        life.server.kill()
    _no_leak(life, before, answers)


def _kill_when_spent(life: Life, refreshes: int) -> bool:
    """Once the provider has carried a refresh out whose answer it holds back, the server is killed."""
    counted = life.provider.counts().get("refresh_token", {})
    if life.provider.token_requests() == refreshes or counted.get("waiting"):
        return False
    life.server.kill()
    return True


def _no_leak(life: Life, before: int, answers: list[dict[str, Any]]) -> None:
    went = life.provider.secrets()[before:]
    kinds = {name for name, _ in went}
    assert kinds >= {"code", "code_verifier", "refresh_token", "access_token"}, kinds
    secrets = {value for _, value in went} | {life.provider.client_secret, KEY[13:]}
    assert len(secrets) > 15, "too few secrets went over the wire for this to prove much"
    life.out["answers"] = json.dumps(answers).encode()
    assert any(name.startswith(("vault.db", "database")) for name in life.out)
    leaks = {name: found for name, data in life.out.items() if (found := found_in(data, secrets))}
    assert leaks == {}
    assert b"Traceback" not in b"".join(life.out.values())
