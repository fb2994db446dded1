"""A person's whole way through the dashboard in Debian's Chromium: looked at by axe-core, kept as pictures."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page
from support.chromium import VIEWS, Looked, chromium
from support.connecting import APP_SECRET, provider, settings_file
from support.serving import Serve, get

from proxy.catalog.loader import load_catalog
from proxy.sandbox import CLIENT_ID, SERVICE, Sandbox
from proxy.sandbox.facts import ACCOUNTS

PLACES = {
    "overview": "/",
    "services": "/services",
    "service": f"/services/{SERVICE}",
    "salesforce": "/services/salesforce",
    "connections": "/connections",
    "connection": f"/connections/{SERVICE}/default",
    "keys": "/keys",
    "new-key": "/keys/new",
    "live-empty": "/live",
    "audit": "/audit",
    "password": "/password",
}
LOOKED_AT_TWICE = {"overview", "service", "connection", "keys"}  # by night and on a phone
PASSWORD = "a password of one's own"

pytestmark = [pytest.mark.system, pytest.mark.node]


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Serve, Sandbox]]:
    """A server with all services and the sandbox's, whose app nobody has registered yet."""
    async with provider(folder) as (sandbox, certificate):
        config = settings_file(folder, sandbox, certificate)
        text = config.read_text().replace(f'enabled = ["{SERVICE}"]\n', "")
        config.write_text(text.partition("[registrations")[0])
        ports = ("--port", "0", "--control-port", "0")
        server = Serve(folder, "--config", str(config), *ports)
        await asyncio.to_thread(server.start)
        try:
            yield server, sandbox
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


def printed(server: Serve) -> str:
    """The password of the first start."""
    words = (server.data / "first-run").read_text().split()
    return next(word for word in words if re.fullmatch(r"\w{4}(?:-\w{4}){4}", word))


async def call(server: Serve, key: str) -> tuple[int, dict[str, Any]]:
    """One call through the proxy: status and document."""
    status, _, body = await asyncio.to_thread(get, server.address, f"/{SERVICE}/v1/whoami?q=canary", key)
    return status, json.loads(body)


async def sign_in(page: Page, origin: str, password: str) -> None:
    await page.goto(origin)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{origin}/")


async def change_password(page: Page, old: str) -> None:
    await page.get_by_role("link", name="Change the password").click()
    await page.get_by_label("Current password").fill(old)
    await page.get_by_label("New password", exact=True).fill(PASSWORD)
    await page.get_by_label("New password, once more").fill(PASSWORD)
    await page.get_by_role("button", name="Change it").click()
    await page.get_by_text("The password is changed").wait_for()


async def consent(page: Page) -> None:
    """At the provider's."""
    await page.wait_for_url("**/authorize?**")
    await page.get_by_role("button", name="Allow").click()


async def connect(page: Page, looked: Looked) -> None:
    """From the list of services by the wizard and the provider's consent to the list of connections."""
    await page.get_by_role("link", name="Services").click()
    await page.get_by_label("Search services").fill("sand")
    await page.get_by_text("1 service", exact=True).wait_for()
    await page.get_by_role("link", name="Sandbox").click()
    assert (await page.locator("#redirect").inner_text()).endswith(f"/callback/{SERVICE}")
    await page.get_by_label("Client id").fill(CLIENT_ID)
    await page.get_by_label("Client secret").fill(APP_SECRET)
    await looked.at(page, "wizard")
    await page.get_by_role("button", name="Keep the app").click()
    await page.get_by_text("The app is kept").wait_for()
    value = page.locator("#param-subdomain")
    await value.fill("a/../b")
    await page.get_by_text("This does not have the right form, for example acme.").wait_for()
    assert await value.get_attribute("aria-invalid") == "true"
    await value.fill("ACME")
    await page.get_by_role("button", name="Go on to Sandbox").click()
    await consent(page)
    await page.wait_for_url("**/connections")
    await page.get_by_text(ACCOUNTS[0]).wait_for()


async def make_key(page: Page, looked: Looked) -> str:
    """A key made from the form, sent once by a double click; shown once, with a button that copies it."""
    await page.get_by_role("link", name="Keys").click()
    await page.get_by_role("link", name="Create a key").click()
    await page.get_by_label("Name", exact=True).fill("reports")
    await page.get_by_label("Service").first.select_option(SERVICE)
    await page.get_by_label("Methods").first.fill("get")
    await page.get_by_role("button", name="Add another permit").click()
    assert await page.locator("fieldset.permit").count() == 2
    await looked.at(page, "key-form")
    create = page.get_by_role("button", name="Create the key")
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    await create.dblclick()
    key = await page.locator("#key").inner_text()
    await page.get_by_role("button", name="Copy the key").click()
    assert await page.evaluate("navigator.clipboard.readText()") == key
    await looked.at(page, "key")
    assert len(sent) == 1
    assert f"{SERVICE}:GET" in await page.locator("main").inner_text()
    await page.go_back()
    assert await create.is_enabled()
    return key


async def test_the_whole_way_of_a_person(tmp_path: Path) -> None:
    """First sign-in, connecting by consent, a key, a call seen live, a dead grant mended from its connect_url, and the key's end; axe-core, console and policy have nothing to say (R93, R103, R108, R164)."""
    looked = Looked()
    async with served(tmp_path) as (server, sandbox), chromium() as browser:
        origin = server.told["public_url"]
        context = await browser.new_context(
            **VIEWS["desktop"], permissions=["clipboard-read", "clipboard-write"]
        )
        page = await context.new_page()
        looked.listen(page)
        await sign_in(page, origin, printed(server))
        await looked.at(page, "first-steps")
        await change_password(page, printed(server))
        await connect(page, looked)
        key = await make_key(page, looked)
        await see_live(context, server, key, looked)
        sandbox.provider.withdraw(ACCOUNTS[0])
        status, refused = await call(server, key)
        assert (status, refused["code"]) == (424, "reauthorization_required")
        await page.goto(origin)
        await page.get_by_role("heading", name="1 connection needs a person").wait_for()
        await looked.at(page, "needs-a-person")
        await page.goto(refused["connect_url"])
        await page.get_by_role("button", name="Go on to Sandbox").click()
        await consent(page)
        await page.get_by_role("heading", name="Sandbox is connected").wait_for()
        assert (await call(server, key))[0] == 200
        await page.goto(f"{origin}/keys")
        await page.get_by_role("link", name="reports").click()
        await page.get_by_text("Revoke this key").click()
        await page.get_by_role("button", name="Revoke reports").click()
        await page.get_by_text("calls with it are refused now").wait_for()
        assert (await call(server, key))[0] == 401
        await look_everywhere(browser, origin, looked)
    assert looked.complaints == []


async def see_live(context: BrowserContext, server: Serve, key: str, looked: Looked) -> None:
    """Calls show up in another tab, with where their time went and without their query."""
    live = await context.new_page()
    looked.listen(live)
    await live.goto(f"{server.told['public_url']}/live")
    await live.get_by_text("Watching").wait_for()
    for _ in range(3):
        assert (await call(server, key))[0] == 200
    await live.get_by_text(f"/{SERVICE}/v1/whoami").nth(2).wait_for()
    await live.locator("#live summary").first.click()
    shown = await live.locator("main").inner_text()
    assert "reports" in shown
    assert "First byte" in shown
    assert "canary" not in shown
    await looked.at(live, "live")
    await live.close()


async def look_everywhere(browser: Browser, origin: str, looked: Looked) -> None:
    """Every page as it is in the end: on a desk by day and by night, and on a phone."""
    for view, options in VIEWS.items():
        context = await browser.new_context(**options)
        page = await context.new_page()
        looked.listen(page)
        await sign_in(page, origin, PASSWORD)
        for name, place in PLACES.items():
            if view == "desktop" or name in LOOKED_AT_TWICE:
                await page.goto(origin + place)
                await looked.at(page, f"{view}-{name}")
        await context.close()


async def test_patterns_of_all_services_are_patterns_of_a_browser(tmp_path: Path) -> None:
    """What a service's file says of a value is judged by the browser as by the server, for every service (R76)."""
    async with served(tmp_path) as (server, _), chromium() as browser:
        page = await browser.new_page()
        looked = Looked()
        looked.listen(page)
        origin = server.told["public_url"]
        await sign_in(page, origin, printed(server))
        catalog = load_catalog()
        asking = [
            one.type_id
            for one in catalog.services.values()
            if any(param.source == "user" for param in one.params.values())
        ]
        assert len(asking) > 3
        judged = 0
        for name in asking:
            await page.goto(f"{origin}/services/{name}")
            for value in await page.locator(
                "#account input[data-pattern], form[action$=import] input[name^='param.']"
            ).all():
                verdict = await value.evaluate(
                    "one => { one.value = one.dataset.example; const good = faultOf(one);"
                    " one.value = '<x y>'; const bad = faultOf(one); return [good, bad]; }"
                )
                assert verdict[0] == "", name
                assert verdict[1] != "", name
                judged += 1
        assert judged >= len(asking)
    assert looked.complaints == []
