"""Debian's Chromium, driven, and what it, its console and axe-core complain of."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "screenshots"
AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
VIEWS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
AXE_RUN = "() => axe.run(document, {resultTypes: ['violations']})"


class Looked:
    """What was complained of: by pages themselves, and by axe-core about them."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def listen(self, page: Page) -> None:
        """Note errors, warnings and violations of the policy, all of which end up in the console."""
        page.on(
            "console",
            lambda one: self.complaints.append(one.text) if one.type in {"error", "warning"} else None,
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    async def at(self, page: Page, name: str) -> None:
        """Let axe-core look at a page, see that nothing is wider than the screen, and keep a picture."""
        await page.evaluate(AXE.read_text())
        for one in (await page.evaluate(AXE_RUN))["violations"]:
            if one["impact"] in {"serious", "critical"}:
                where = [node["html"][:120] for node in one["nodes"]]
                self.complaints.append(f"{name}: {one['id']} ({one['impact']}) {where}")
        if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            self.complaints.append(f"{name}: wider than the screen")
        PICTURES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=PICTURES / f"{name}.png")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        made = await driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        try:
            yield made
        finally:
            await made.close()
