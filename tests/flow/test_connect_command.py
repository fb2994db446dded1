"""``connect`` as a person runs it: with the running server, on its own, and with an address carried by hand."""

import asyncio
import json
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser
from support.commands import environment, heed_interrupts
from support.connecting import APP_SECRET, provider, settings_file

pytestmark = pytest.mark.traced


async def start(folder: Path, *args: str) -> Process:
    """A command with its own streams."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxy",
        *args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=folder,
        env=environment(folder),
        preexec_fn=heed_interrupts,
    )


async def said(process: Process, pattern: str) -> str:
    """The first thing of that form that the command says on standard error."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        found = re.search(pattern, line)
        if found:
            return found.group(1)
    raise AssertionError("it ended without saying so")


async def consent(browser: Browser, link: str, **fields: str | list[str]) -> int:
    """Open the link, go on, decide; the status of the last page."""
    page = await browser.submit(await browser.open(link))
    chosen = {"decision": "allow", "scope": page.form.offered["scope"], **fields}
    return (await browser.submit(page, **chosen)).status


async def test_with_the_demo_running(tmp_path: Path) -> None:
    """What the demo prints goes through: a link at the running server, a consent, and calls with the new token (R98, R108)."""
    demo = await start(tmp_path, "demo", "--json")
    try:
        assert demo.stdout is not None
        told = json.loads(await demo.stdout.readline())
        command = await start(tmp_path, "connect", "sandbox", "--config", told["config"], "--json")
        async with Browser() as browser:
            link = await said(command, r"(http://localhost:\d+/connect/sandbox\?link=\S+)")
            assert link.startswith(told["control"])
            assert await consent(browser, link, scope=["things.read"]) == 200
        out, err = await command.communicate()
        assert command.returncode == 0, err
        document = json.loads(out)
        assert (document["account"], document["scopes"]) == ("Ada at Acme", ["things.read"])
        assert (document["missing_scopes"], document["config"]) == (["things.write"], {"subdomain": "acme"})
        removed = await start(
            tmp_path, "connections", "remove", "sandbox", "--config", told["config"], "--json"
        )
        assert json.loads((await removed.communicate())[0])["revoked"] is True
    finally:
        demo.send_signal(signal.SIGINT)
        _, errors = await demo.communicate()
    assert b"Traceback" not in errors


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working folder."""
    return tmp_path


async def test_without_a_server_and_by_hand(folder: Path) -> None:
    """Alone the command serves the pages itself until they are seen; with --paste it takes the address from a hand; no secret is printed (R143)."""
    async with provider(folder) as (sandbox, certificate), Browser() as browser:
        config = str(settings_file(folder, sandbox, certificate))
        base = ("connect", "sandbox", "--config", config, "--param", "subdomain=acme")
        command = await start(folder, *base, "--no-browser")
        link = await said(command, r"(http://localhost:\d+/connect/sandbox\?link=\S+)")
        assert await consent(browser, link) == 200
        out, err = await command.communicate()
        assert (command.returncode, b"Ada at Acme" in out) == (0, True), err
        printed = out + err

        denied = await start(folder, *base, "--json")
        link = await said(denied, r"(http://localhost:\d+/connect/sandbox\?link=\S+)")
        assert await consent(browser, link, decision="deny") == 400
        out, err = await denied.communicate()
        assert (denied.returncode, json.loads(out)["reason"]) == (1, "denied")
        printed += err

        paste = await start(folder, *base, "--connection", "second", "--paste")
        address = await said(paste, r"(http://127\.0\.0\.1:\d+/authorize\S+)")
        page = await browser.open(address)
        redirect = await browser.send(page, decision="allow", account="Bob at Acme", scope=["things.read"])
        out, err = await paste.communicate(redirect.headers["Location"].encode() + b"\n")
        assert (paste.returncode, b"Bob at Acme" in out) == (0, True), err
        printed += out + err
        code = redirect.headers["Location"].partition("code=")[2].partition("&")[0]
        for secret in (APP_SECRET, code, "sbx-access-", "sbx-refresh-"):
            assert secret.encode() not in printed


async def test_ctrl_c_gives_the_flow_up(folder: Path) -> None:
    """An interrupted command ends with 130 and without a traceback, and its link is dead."""
    async with provider(folder) as (sandbox, certificate):
        config = str(settings_file(folder, sandbox, certificate))
        command = await start(folder, "connect", "sandbox", "--config", config, "--param", "subdomain=acme")
        await said(command, r"(Waiting for the browser)")
        command.send_signal(signal.SIGINT)
        _, err = await command.communicate()
        assert (command.returncode, b"Traceback" in err) == (130, False)
