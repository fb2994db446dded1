"""What the command line changes counts in a running server within a second (R89)."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Inside, command
from support.serving import Serve, get

LIMIT = 1.0
SERVICE = """\
title = "Acme"
docs = "https://example.com"
verified = "live"
[[hosts]]
name = "api"
origin = "http://127.0.0.1:9"
"""


class Operator:
    """Commands on the running server's data folder."""

    def __init__(self, server: Serve) -> None:
        self.server = server

    def __call__(self, *args: str, stdin: bytes = b"") -> str:
        done = command(*args, "--data-dir", str(self.server.data), folder=self.server.folder, stdin=stdin)
        assert done.code == 0, done
        return done.out.strip()

    def status(self, path: str, key: str) -> int:
        return get(self.server.address, path, key)[0]

    def within(self, wanted: int, path: str, key: str, *, patience: float = 3 * LIMIT) -> float:
        """Seconds until the status is ``wanted``; asked again and again, for ``patience`` seconds at most."""
        began = time.monotonic()
        while self.status(path, key) != wanted:
            assert time.monotonic() - began < patience, f"still {self.status(path, key)}"
            time.sleep(0.01)
        return time.monotonic() - began


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """A running server with one service of its own, whose upstream refuses connections (502)."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "acme.toml").write_text(SERVICE)
    (tmp_path / "proxy.toml").write_text('[services]\ndirectory = "services"\nenabled = ["acme"]\n')
    with Serve(tmp_path) as server:
        yield Operator(server)


def test_a_new_key_counts_within_a_second_and_a_revoked_one_no_more(operator: Operator) -> None:
    """No restart, no signal: the server follows the data folder (R89)."""
    key = operator("keys", "create", "a", "--allow", "acme")
    assert operator.within(424, "/acme/x", key) < LIMIT
    operator("keys", "revoke", "a")
    assert operator.within(401, "/acme/x", key) < LIMIT


def test_what_a_command_changed_holds_when_it_ends(
    operator: Operator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call after a command meets the change, without a wait: key, connection, revocation (R89)."""
    cli = Inside(operator.server.folder, capsys, monkeypatch)  # without the time that a process takes to end
    for name in ("a", "b", "c"):
        key = cli("keys", "create", name, "--allow", "acme").out.strip()
        assert operator.status("/acme/x", key) == 424
        assert cli("connect", "acme", "--access-token-stdin", stdin=b"token").code == 0
        assert operator.status("/acme/x", key) == 502
        assert cli("connections", "freeze", "acme").code == 0
        assert operator.status("/acme/x", key) == 424
        assert cli("keys", "revoke", name).code == 0
        assert operator.status("/acme/x", key) == 401


def test_a_server_that_hangs_holds_a_command_up_for_a_second_only(operator: Operator) -> None:
    """The change is stored, the command says that nobody has taken it in, and ends with status 0 (R89)."""
    operator.server.signal(signal.SIGSTOP)
    try:
        done = command(
            *("keys", "create", "a", "--allow", "acme", "--data-dir", str(operator.server.data)),
            folder=operator.server.folder,
            timeout=10,
        )
    finally:
        operator.server.signal(signal.SIGCONT)
    assert done.code == 0
    assert "has not taken this in" in done.err
    operator.within(424, "/acme/x", done.out.strip())


def test_a_mark_of_a_dead_server_holds_nobody_up(operator: Operator) -> None:
    """After ``kill -9`` the file that told its address is still there, and commands do not wait for it."""
    operator.server.kill()
    assert (operator.server.data / "server.json").exists()
    done = command(
        *("keys", "create", "a", "--allow", "acme", "--data-dir", str(operator.server.data)),
        folder=operator.server.folder,
    )
    assert (done.code, "has not taken" in done.err) == (0, False)


def test_revoke_all_stops_every_key(operator: Operator) -> None:
    """One command stops all callers, the first key included (R89)."""
    first = next(
        word for word in (operator.server.data / "first-run").read_text().split() if word.startswith("cpk_")
    )
    key = operator("keys", "create", "a", "--allow", "*")
    operator.within(424, "/acme/x", key)
    operator("keys", "revoke-all")
    assert operator.within(401, "/acme/x", key) < LIMIT
    assert operator.status("/acme/x", first) == 401


def test_connecting_freezing_and_removing_count_within_a_second(operator: Operator) -> None:
    """A connection made, frozen, thawed or removed by command is honoured by the running server (R89)."""
    key = operator("keys", "create", "a", "--allow", "acme")
    operator.within(424, "/acme/x", key)
    operator("connect", "acme", "--access-token-stdin", stdin=b"token")
    assert operator.within(502, "/acme/x", key) < LIMIT
    operator("connections", "freeze", "acme")
    assert operator.within(424, "/acme/x", key) < LIMIT
    operator("connections", "freeze", "acme", "--thaw")
    assert operator.within(502, "/acme/x", key) < LIMIT
    operator("connections", "remove", "acme")
    assert operator.within(424, "/acme/x", key) < LIMIT


def test_expiry_needs_no_command(operator: Operator) -> None:
    """A key ends at its time by itself, and a key of the wrong network or kind is refused like an unknown one (R84)."""
    short = operator("keys", "create", "short", "--allow", "acme", "--expires", "10s")
    operator.within(424, "/acme/x", short)
    elsewhere = operator("keys", "create", "far", "--allow", "acme", "--network", "192.0.2.0/24")
    service = operator("keys", "create", "svc", "--allow", "acme", "--kind", "service")
    operator.within(401, "/acme/x", short, patience=11)
    bodies = set()
    for key in (short, elsewhere, service, "cpk_unknown"):
        status, _, body = get(operator.server.address, "/acme/x", key)
        told = json.loads(body)
        bodies.add((status, json.dumps({**told, "instance": ""}, sort_keys=True)))
    assert len(bodies) == 1


def test_last_use_is_written_back(operator: Operator) -> None:
    """When a key was last used is in the list at the latest after the server has stopped."""
    key = operator("keys", "create", "a", "--allow", "acme")
    operator.within(424, "/acme/x", key)
    assert operator.server.stop() == 0
    listed = json.loads(operator("keys", "list", "--json"))
    assert {one["name"]: one["last_used_at"] is not None for one in listed} == {"a": True, "first": False}
