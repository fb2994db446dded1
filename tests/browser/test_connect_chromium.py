"""Connecting an account in a real browser: Debian's Chromium, driven, against the sandbox of the demo."""

import asyncio
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from playwright.async_api import async_playwright
from support.commands import environment

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.mark.system
async def test_a_person_connects_the_sandbox(tmp_path: Path) -> None:
    """The printed link, the page with the terminal's code, the provider's consent and the result work in Chromium, with no complaint of its own (R103, R164)."""
    folder = environment(tmp_path)
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "demo", "--json", stdout=PIPE, stderr=PIPE, cwd=tmp_path, env=folder
    )
    assert demo.stdout is not None
    complaints: list[str] = []
    try:
        told = json.loads(await demo.stdout.readline())
        connect = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "connect", "sandbox", "--config", told["config"], "--json"),
            stdout=PIPE,
            stderr=PIPE,
            cwd=tmp_path,
            env=folder,
        )
        assert connect.stderr is not None
        shown = b""
        while b"code: " not in shown:
            shown += await connect.stderr.readline()
        link = re.search(r"http://\S+", shown.decode())
        code = re.search(r"code: (\S+)", shown.decode())
        assert link is not None
        assert code is not None
        async with async_playwright() as driver:
            chromium = await driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
            )
            page = await chromium.new_page(color_scheme="light")
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(link.group())
            assert await page.locator(".code").inner_text() == code.group(1)
            assert "link=" not in page.url
            card = 'getComputedStyle(document.querySelector("main")).backgroundColor'
            assert await page.evaluate(card) == "rgb(255, 255, 255)"  # the style sheet was let in
            await page.emulate_media(color_scheme="dark")
            assert await page.evaluate(card) == "rgb(29, 32, 38)"
            await page.get_by_role("button", name="Go on to Sandbox").click()
            await page.wait_for_url("**/authorize?**")
            await page.get_by_label("things.write").uncheck()
            await page.get_by_role("button", name="Allow").click()
            await page.wait_for_url("**/result/*")
            assert await page.get_by_role("heading", level=1).inner_text() == "Sandbox is connected"
            assert "things.write" in await page.locator("main").inner_text()
            await page.reload()
            assert await page.get_by_role("heading", level=1).inner_text() == "Sandbox is connected"
            await chromium.close()
        out, err = await connect.communicate()
        assert connect.returncode == 0, err
        assert json.loads(out)["missing_scopes"] == ["things.write"]
    finally:
        demo.terminate()
        await demo.communicate()
    assert complaints == []
