"""``connect`` and ``connections``: what is stored, told, changed and refused."""

import io
import json
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from support.commands import Inside

from proxy.cli.root import tree
from proxy.cli.session import run

CANARY = "canary-xoxb-3fe0c1d2"
ACME = """\
title = "Acme"
docs = "https://example.com"
verified = "live"
[[hosts]]
name = "api"
origin = "https://{subdomain}.example.com"
[params.subdomain]
pattern = "[a-z0-9]{1,20}"
required = true
lower = true
example = "acme"
"""


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder and a service of their own."""
    inside = Inside(tmp_path, capsys, monkeypatch)
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "acme.toml").write_text(ACME)
    (tmp_path / "proxy.toml").write_text(
        '[services]\ndirectory = "services"\nenabled = ["acme", "slack", "github"]\n'
    )
    return inside


def test_the_token_is_neither_shown_nor_on_disk_in_the_clear(cli: Inside) -> None:
    """The token comes from standard input, appears in no output, and only sealed in the files (R133, R143)."""
    done = cli("connect", "slack", "--access-token-stdin", stdin=CANARY.encode() + b"\n")
    listed, shown = cli("connections", "list"), cli("connections", "show", "slack")
    assert (done.code, listed.code, shown.code) == (0, 0, 0)
    assert str(cli.data) in done.err
    everything = "".join(one.out + one.err for one in (done, listed, shown))
    assert CANARY not in everything
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in cli.data.iterdir())


def test_show_starts_with_its_first_line(cli: Inside) -> None:
    """One line a member, without a line of empty headings above them."""
    cli("connect", "slack", "--access-token-stdin", stdin=b"xoxp-1")
    lines = cli("connections", "show", "slack").out.splitlines()
    assert lines[0].split()[0] == "id"
    assert lines[1].split() == ["service", "slack"]
    assert [line for line in lines if not line.strip()] == []


def test_connection_config_is_checked_and_normalised(cli: Inside) -> None:
    """What is stored is what addresses use: lower-cased, of the declared form, or refused (R76)."""
    told = cli(
        "connect", "acme", "--access-token-stdin", "--param", "subdomain=ACME", "--json", stdin=b"t"
    ).document
    assert told["config"] == {"subdomain": "acme"}
    for param in ("subdomain=evil.com/x", "subdomain=", "subdomian=a", "subdomain"):
        done = cli(
            "connect", "acme", "--connection", "x", "--access-token-stdin", "--param", param, stdin=b"t"
        )
        assert done.code == 3, param
        assert "evil" not in done.err
    done = cli("connect", "acme", "--connection", "y", "--access-token-stdin", stdin=b"t")
    assert (done.code, "--param NAME=VALUE" in done.err) == (3, True)
    assert len(cli("connections", "list", "--json").document) == 1


def test_connections_have_the_promised_members(cli: Inside) -> None:
    """Programs may rely on the eleven members; times are RFC 3339, config is null when nothing is needed (R166)."""
    answer = {"access_token": CANARY, "refresh_token": "canary-refresh", "expires_in": 3600, "scope": "a,b c"}
    before = time.time()
    told = cli("connect", "slack", "--tokens-stdin", "--json", stdin=json.dumps(answer).encode()).document
    assert told == cli("connections", "list", "--json").document[0]
    assert set(told) == {
        "id", "service", "name", "default", "state", "cause", "account", "scopes", "expires_at",
        "refresh_expires_at", "config",
    }  # fmt: skip
    assert (told["service"], told["name"], told["default"], told["state"]) == (
        "slack",
        "default",
        True,
        "active",
    )
    assert (told["scopes"], told["config"], told["cause"]) == (["a", "b", "c"], None, None)
    expires = datetime.fromisoformat(told["expires_at"]).timestamp()
    assert 3590 < expires - before < 3700


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json " + CANARY.encode(),
        b"[]",
        b"{}",
        b'{"access_token": ""}',
        b'{"access_token": 1}',
        json.dumps({"access_token": CANARY, "refresh_token": 7}).encode(),
        json.dumps({"access_token": CANARY, "expires_in": "soon"}).encode(),
        json.dumps({"access_token": CANARY, "expires_in": -1}).encode(),
        json.dumps({"access_token": CANARY, "expires_at": "2030-01-01T00:00:00"}).encode(),
        json.dumps({"access_token": CANARY + "\r\nX-Evil: 1"}).encode(),
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_token_answer_that_cannot_be_used_stores_nothing(cli: Inside, body: bytes) -> None:
    """Bad JSON on standard input is one sentence that repeats nothing of it, exit status 3 (R39, R143)."""
    done = cli("connect", "slack", "--tokens-stdin", stdin=body)
    assert done.code == 3
    assert "Traceback" not in done.err
    assert CANARY not in done.out + done.err
    assert cli("connections", "list", "--json").document == []


@pytest.mark.parametrize(
    "token", [b"", b"\n", b"two words", b"a\r\nX: y", b"\xff", b"x" * 300_000, "gr\u00fc\u00df".encode()]
)
def test_a_token_that_no_header_can_carry_is_refused(cli: Inside, token: bytes) -> None:
    """What could never be sent, or would be sent as something else, is refused when it is stored (R39)."""
    assert cli("connect", "slack", "--access-token-stdin", stdin=token).code == 3


def test_a_terminal_is_refused_politely(
    cli: Inside, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal would show the token: the command says how to pipe it in, and reads nothing."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(b"x\n")))
    assert run(tree(["connect"]), ["connect", "slack", "--access-token-stdin"]) == 2
    assert "pipe it in" in capsys.readouterr().err
    assert not cli.data.exists()


def test_usage_of_connect(cli: Inside) -> None:
    """Two sources of a token, or options of two ways at once, are mistakes in usage; names are corrected."""
    assert cli("connect", "slack", "--scheme", "bot").code == 2
    assert cli("connect", "slack", "--access-token-stdin", "--paste", stdin=b"x").code == 2
    assert cli("connect", "slack", "--access-token-stdin", "--tokens-stdin", stdin=b"x").code == 2
    assert cli("connect", "slack", "--access-token-stdin", "--scheme", "digest", stdin=b"x").code == 2
    done = cli("connect", "slak", "--access-token-stdin", stdin=b"x")
    assert (done.code, '"slack"' in done.err) == (3, True)


def test_reconnecting_keeps_the_id_and_grows_the_generation(cli: Inside) -> None:
    """A new token for the same name renews the connection instead of making another."""
    first = cli("connect", "slack", "--access-token-stdin", "--json", stdin=b"one").document
    again = cli("connect", "slack", "--access-token-stdin", "--json", stdin=b"two").document
    assert first["id"] == again["id"]
    assert cli("connections", "show", "slack", "--json").document["generation"] == 2


def test_default_freeze_thaw_remove(cli: Inside) -> None:
    """The first connection is the default until changed; each change says what it did and to which folder."""
    cli("connect", "slack", "--access-token-stdin", stdin=b"one")
    cli("connect", "slack", "--connection", "work", "--access-token-stdin", stdin=b"two")

    def states() -> dict[str, tuple[bool, str]]:
        return {
            one["name"]: (one["default"], one["state"])
            for one in cli("connections", "list", "--json").document
        }

    assert states() == {"default": (True, "active"), "work": (False, "active")}
    assert str(cli.data) in cli("connections", "default", "slack@work").err
    assert states() == {"default": (False, "active"), "work": (True, "active")}
    assert cli("connections", "freeze", "slack", "--json").document == {
        "service": "slack", "name": "work", "done": "freeze",
    }  # fmt: skip
    assert states()["work"] == (True, "frozen")
    assert cli("connections", "freeze", "slack@work", "--thaw").code == 0
    assert states()["work"] == (True, "active")
    assert cli("connections", "remove", "slack@default").code == 0
    assert states() == {"work": (True, "active")}
    for command in ("show", "default", "freeze", "remove"):
        assert cli("connections", command, "slack@gone").code == 3
        assert cli("connections", command, "github").code == 3


def test_a_connection_that_settings_outrank_is_told(cli: Inside) -> None:
    """Where a static token is configured, connecting says that the stored one is not used."""
    (cli.folder / "proxy.toml").write_text('[sources.slack]\nkind = "static"\ntoken = { env = "SLACK" }\n')
    assert "static" in cli("connect", "slack", "--access-token-stdin", stdin=b"t").err


def test_looking_makes_no_vault(cli: Inside) -> None:
    """Listing where nothing is connected leaves no folder behind."""
    assert cli("connections", "list", "--json").document == []
    assert "nothing is connected" in cli("connections", "list").out
    assert not cli.data.exists()


def test_a_wrong_master_key_is_one_sentence(cli: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault does not open with another key: exit status 3, no traceback, nothing of either key (R138)."""
    cli("connect", "slack", "--access-token-stdin", stdin=b"t")
    other = "A" * 43
    monkeypatch.setenv("CONNECTOR_PROXY_MASTER_KEY", other)
    done = cli("connections", "list")
    assert done.code == 3
    assert "Traceback" not in done.err
    assert other not in done.err
    assert (cli.data / "master.key").read_text().strip() not in done.err
