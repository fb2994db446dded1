"""Signing in through an identity provider in Debian's Chromium, whose policies and cookies no script imitates."""

from pathlib import Path

import pytest
from support.chromium import VIEWS, Looked, chromium
from support.identities import made

pytestmark = [pytest.mark.system, pytest.mark.node]


async def test_a_person_signs_in_at_another_site(tmp_path: Path) -> None:
    """The button leads through the provider, which is another site, to the page that was wanted; who is no user gets a page that says so; policy, console and axe-core have nothing to say (R97, R103, R164)."""
    looked = Looked()
    async with made(tmp_path) as (one, provider), chromium() as browser:
        page = await (await browser.new_context(**VIEWS["desktop"])).new_page()
        looked.listen(page)
        await page.goto(f"{one.public_url}/connections")
        await looked.at(page, "sign-in-provider")
        await page.get_by_role("button", name="Sign in with Example ID").click()
        await page.wait_for_url(f"{one.public_url}/connections")
        await page.get_by_text("ada", exact=True).click()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("heading", name="Signed out").wait_for()
        provider.reset(email="eve@example.com")
        await page.get_by_role("link", name="To the sign-in page").click()
        await page.get_by_role("button", name="Sign in with Example ID").click()
        await page.wait_for_url("**/oidc/refused/unknown_user")
        assert "eve@example.com" in await page.locator("main").inner_text()
        await looked.at(page, "sign-in-refused")
    status, *others = looked.complaints
    assert ("403" in status, others) == (True, [])  # Chromium notes that page's status
