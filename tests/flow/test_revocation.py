"""What the command line changes counts in a running server within a second (R89)."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Inside, command
from support.serving import Serve, get, until

from proxy.instance import TAKEN_S

LATE = "has not taken this in"
SERVICE = """\
title = "Acme"
docs = "https://example.com"
verified = "live"
[[hosts]]
name = "api"
origin = "http://127.0.0.1:9"
"""


class Operator:
    """Commands on the running server's data folder, from a process that is not the server's."""

    def __init__(self, server: Serve, cli: Inside) -> None:
        self.server = server
        self.run = cli

    def __call__(self, *args: str, stdin: bytes = b"") -> str:
        done = self.run(*args, stdin=stdin)
        assert done.code == 0, done
        return done.out.strip()

    def status(self, path: str, key: str) -> int:
        return get(self.server.address, path, key)[0]

    def sees(self, wanted: int, path: str, key: str) -> None:
        """Waits until the status is ``wanted``."""
        until(lambda: self.status(path, key) == wanted, 30, self.server)


def serving(folder: Path) -> Serve:
    """A server with one service of its own, whose upstream refuses connections (502)."""
    (folder / "services").mkdir()
    (folder / "services" / "acme.toml").write_text(SERVICE)
    (folder / "proxy.toml").write_text('[services]\ndirectory = "services"\nenabled = ["acme"]\n')
    return Serve(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The server of all tests here that leave it running."""
    with serving(tmp_path_factory.mktemp("serving")) as one:
        yield one


@pytest.fixture
def operator(server: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Who manages the server that all share."""
    return Operator(server, Inside(server.folder, capsys, monkeypatch))


@pytest.fixture
def own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Operator]:
    """Who manages a server of the test's own."""
    with serving(tmp_path) as one:
        yield Operator(one, Inside(one.folder, capsys, monkeypatch))


STEPS = (
    (("keys", "create", "NAME", "--allow", "acme"), 424),
    (("connect", "acme", "--access-token-stdin"), 502),
    (("connections", "freeze", "acme"), 424),
    (("connections", "freeze", "acme", "--thaw"), 502),
    (("connections", "remove", "acme"), 424),
    (("keys", "revoke", "NAME"), 401),
)


def test_what_a_command_changed_holds_when_it_ends(operator: Operator) -> None:
    """The next call after a command meets the change: a key made or revoked, a connection made, frozen, thawed, removed (R89).

    The command waits for a second at most and says so if that was not enough, which a machine that is busy may need.
    """
    quick = 0
    for name in ("a", "b", "c"):
        key = ""
        for words, wanted in STEPS:
            done = operator.run(*(name if word == "NAME" else word for word in words), stdin=b"token")
            assert done.code == 0, done
            key = key or done.out.strip()
            if LATE in done.err:
                operator.sees(wanted, "/acme/x", key)
            else:
                quick += 1
                assert operator.status("/acme/x", key) == wanted, words
    assert quick > len(STEPS)


def test_a_command_of_another_process_counts_too(operator: Operator) -> None:
    """No restart, no signal: what a program started for it has changed is followed as well (R89)."""
    key = operator("keys", "create", "apart", "--allow", "acme")
    operator.sees(424, "/acme/x", key)
    folder = operator.server.folder
    done = command("keys", "revoke", "apart", "--data-dir", str(operator.server.data), folder=folder)
    assert done.code == 0, done
    operator.sees(401, "/acme/x", key)


def test_a_server_that_hangs_holds_a_command_up_for_a_second_only(operator: Operator) -> None:
    """The change is stored, the command says that nobody has taken it in, and ends with status 0 (R89)."""
    assert TAKEN_S <= 1
    operator.server.signal(signal.SIGSTOP)
    try:
        done = operator.run("keys", "create", "meanwhile", "--allow", "acme")
    finally:
        operator.server.signal(signal.SIGCONT)
    assert done.code == 0
    assert LATE in done.err
    operator.sees(424, "/acme/x", done.out.strip())


def test_expiry_needs_no_command(operator: Operator) -> None:
    """A key ends at its time by itself, and a key of the wrong network or kind is refused like an unknown one (R84)."""
    elsewhere = operator("keys", "create", "far", "--allow", "acme", "--network", "192.0.2.0/24")
    service = operator("keys", "create", "svc", "--allow", "acme", "--kind", "service")
    short = ""
    for seconds in (3, 30):  # the longer one for a machine that is too busy to see the other one live
        short = operator("keys", "create", f"for-{seconds}-s", "--allow", "acme", "--expires", f"{seconds}s")
        if operator.status("/acme/x", short) == 424:
            break
    else:
        pytest.fail("a key that lives for half a minute was never taken")
    until(lambda: operator.status("/acme/x", short) == 401, 60, operator.server)
    bodies = set()
    for key in (short, elsewhere, service, "cpk_unknown"):
        status, _, body = get(operator.server.address, "/acme/x", key)
        told = json.loads(body)
        bodies.add((status, json.dumps({**told, "instance": ""}, sort_keys=True)))
    assert len(bodies) == 1


def test_revoke_all_stops_every_key(operator: Operator) -> None:
    """One command stops all callers, the first key included (R89)."""
    first = next(
        word for word in (operator.server.data / "first-run").read_text().split() if word.startswith("cpk_")
    )
    key = operator("keys", "create", "last", "--allow", "*")
    operator.sees(424, "/acme/x", key)
    assert operator.status("/acme/x", first) == 424
    operator("keys", "revoke-all")
    operator.sees(401, "/acme/x", key)
    assert operator.status("/acme/x", first) == 401


def test_a_mark_of_a_dead_server_holds_nobody_up(own: Operator) -> None:
    """After ``kill -9`` the file that told its address is still there, and commands do not wait for it."""
    own.server.kill()
    assert (own.server.data / "server.json").exists()
    done = own.run("keys", "create", "a", "--allow", "acme")
    assert (done.code, LATE in done.err) == (0, False)


def test_last_use_is_written_back(own: Operator) -> None:
    """When a key was last used is in the list at the latest after the server has stopped."""
    key = own("keys", "create", "a", "--allow", "acme")
    own.sees(424, "/acme/x", key)
    assert own.server.stop() == 0
    listed = json.loads(own("keys", "list", "--json"))
    assert {one["name"]: one["last_used_at"] is not None for one in listed} == {"a": True, "first": False}
