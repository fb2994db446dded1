"""The connectors module for programs: every kind of source, and what other processes change."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from support.base44 import SERVICE_TOKEN, fake_base44
from support.commands import Inside, command

from proxy.assembly.credentials import opened_connectors
from proxy.errors import ConfigurationError, NotConnected, RequestError
from proxy.settings import Settings, load_settings

RENEW = ("connect", "slack", "--access-token-stdin")
SOON = 20.0  # within a second (R89), and what a machine that is busy takes


def settings_of(folder: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    """Settings of a file with that text; ``data`` below ``folder`` is the data folder."""
    path = folder / "proxy.toml"
    path.write_text(f'[storage]\ndata_dir = "{folder / "data"}"\n{text}')
    return load_settings(path, environ or {}, {})


async def test_each_service_has_the_source_that_the_settings_name(tmp_path: Path) -> None:
    """A file, a command's answer, a Base44 app and the vault, each for its own service."""
    (tmp_path / "token").write_text("from-file\n")
    told = json.dumps({"access_token": "from-command"})
    async with fake_base44() as remote:
        remote.tokens["app1", "slackbot"] = {"access_token": "from-base44"}
        (tmp_path / "service-token").write_text(SERVICE_TOKEN)
        settings = settings_of(
            tmp_path,
            '[services]\nenabled = ["github", "notion", "slackbot", "linear"]\n'
            '[egress]\nallow_addresses = ["127.0.0.1/32"]\n'
            f'[sources.github]\nkind = "static"\ntoken = {{ file = "{tmp_path}/token" }}\n'
            f'[sources.notion]\nkind = "command"\ncommand = ["{sys.executable}", "-c", \'print("""{told}""")\']\n'
            '[sources.slackbot]\nkind = "base44"\n'
            f'[base44]\nurl = "{remote.url}"\napp_id = "app1"\n'
            f'token = {{ file = "{tmp_path}/service-token" }}\n',
        )
        async with opened_connectors(settings) as connectors:
            got = {
                name: (await connectors.get_connection(name)).access_token
                for name in ("github", "notion", "slackbot")
            }
            with pytest.raises(NotConnected, match="connector-proxy connect linear"):
                await connectors.get_connection("linear")
    assert got == {"github": "from-file", "notion": "from-command", "slackbot": "from-base44"}


async def test_what_other_processes_change_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection made, renewed or frozen by command counts within a second, without being asked for anew (R89)."""
    settings = settings_of(tmp_path, '[services]\nenabled = ["slack"]\n')

    async def cli(*args: str, stdin: bytes = b"") -> None:
        done = await asyncio.to_thread(command, *args, folder=tmp_path, stdin=stdin)
        assert done.code == 0, done

    inside = Inside(tmp_path, capsys, monkeypatch)  # a vault of its own, as in another process

    async def held(wanted: str | None) -> None:
        async with asyncio.timeout(SOON):
            while True:
                found = connectors.ready("slack", None)
                if (None if found is None else found.access_token.reveal()) == wanted:
                    return
                await asyncio.sleep(0.01)

    async with opened_connectors(settings) as connectors:
        await cli("connect", "slack", "--access-token-stdin", stdin=b"xoxp-1")
        await held("xoxp-1")
        assert (await asyncio.to_thread(inside, *RENEW, stdin=b"xoxp-2")).code == 0
        await held("xoxp-2")
        assert (await asyncio.to_thread(inside, "connections", "freeze", "slack")).code == 0
        await held(None)
        with pytest.raises(RequestError, match="frozen"):
            await connectors.get_connection("slack")


async def test_without_a_service_of_the_vault_there_is_none(tmp_path: Path) -> None:
    """Where every service has a source of its own nothing is written."""
    (tmp_path / "token").write_text("t")
    text = (
        '[services]\nenabled = ["github"]\n'
        f'[sources.github]\nkind = "static"\ntoken = {{ file = "{tmp_path}/token" }}\n'
    )
    async with opened_connectors(settings_of(tmp_path, text)) as connectors:
        assert (await connectors.get_connection("github")).access_token == "t"
    assert not (tmp_path / "data").exists()


async def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """A source for a service that is not in force is told, and nothing is opened."""
    text = '[services]\nenabled = ["slack"]\n[sources.github]\nkind = "static"\ntoken = { file = "x" }\n'
    with pytest.raises(ConfigurationError, match="github"):
        async with opened_connectors(settings_of(tmp_path, text)):
            raise AssertionError("it opened")
    assert not (tmp_path / "data").exists()
