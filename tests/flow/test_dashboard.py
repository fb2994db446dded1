"""The dashboard as a browser without scripts meets it: every page, every form, and what both refuse."""

import asyncio
import html
import re
import time
from pathlib import Path

import pytest
from support.browser import Browser, Page
from support.connecting import Scene, scene
from support.stores import edit

from proxy import keys
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.registration import Registration
from proxy.connectors.passwords import hashed
from proxy.sandbox import CONFIG, SERVICE
from proxy.secret import Secret

PASSWORD = "correct horse battery"
STORED = hashed(Secret(PASSWORD))
MARKUP = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"""
HERE = f"/connections/{SERVICE}/default"
PAGES = (
    "/",
    "/services",
    f"/services/{SERVICE}",
    "/connections",
    HERE,
    "/keys",
    "/keys/new",
    "/audit",
    "/password",
)


async def signed_in(one: Scene, browser: Browser, place: str = "/") -> Page:
    page = await browser.open(f"{one.public_url}/sign-in")
    assert (await browser.submit(page, password=PASSWORD)).url.path == "/"
    return await browser.open(one.public_url + place)


async def connected(one: Scene, token: str = "handed-in", account: str | None = None) -> None:
    await one.vault.save_connection(
        SERVICE, "default", Tokens(Secret(token)), config=CONFIG, account=account, actor="test"
    )


async def post(browser: Browser, page: Page, action: str, **fields: str) -> Page:
    """The form of a page that goes to ``action``."""
    form = next(one for one in page.read.forms if one.action == action)
    return await browser.follow(
        await browser.ask(page.url.join(page.url.with_path(action)), "POST", {**form.fields, **fields})
    )


async def test_nobody_sees_a_page_without_signing_in(tmp_path: Path) -> None:
    """Every page asks a stranger to sign in, and no form does anything for one (R93)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as stranger:
        await connected(one)
        for place in PAGES:
            assert (await stranger.open(one.public_url + place)).url.path == "/sign-in", place
        writes = ("/connections/freeze-all", "/keys/new", "/keys/revoke-all", "/password")
        for place in (f"{HERE}/freeze", f"{HERE}/disconnect", *writes):
            asked = await stranger.ask(one.public_url + place, "POST", {"name": "x"})
            assert (asked.status, asked.headers["Location"][:9]) == (303, "/sign-in?"), place
        assert one.connection() is not None
        assert not one.vault.keys()


async def test_a_form_of_another_site_does_nothing(tmp_path: Path) -> None:
    """A POST without the page's own token, or sent by another site, changes nothing though the browser is signed in (R95)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await connected(one)
        page = await signed_in(one, browser, HERE)
        for fields, headers in (
            ({"token": "0" * 64}, {}),
            ({}, {}),
            (page.form.fields, {"Sec-Fetch-Site": "cross-site"}),
        ):
            refused = await browser.ask(f"{one.public_url}{HERE}/freeze", "POST", fields, headers)
            assert refused.status == 400
        found = one.connection()
        assert found is not None
        assert found.state == "active"


async def test_pages_let_nothing_in_and_say_so(tmp_path: Path) -> None:
    """Each page forbids frames, inline scripts and other hosts, and names no other host to load from (R164)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await connected(one)
        await signed_in(one, browser)
        for place in PAGES:
            page = await browser.open(one.public_url + place)
            assert page.status == 200, place
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert page.headers["Cache-Control"] == "no-store"
            assert "style=" not in page.text
            assert "<script>" not in page.text
            assert " onclick" not in page.text


async def test_what_others_wrote_stays_text(tmp_path: Path) -> None:
    """An account's name, a value and an audit row with markup in them are shown as they are, never as HTML (R164)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await connected(one, account=MARKUP)
        await one.vault.record(MARKUP, "test.markup", f"{SERVICE}@default", {MARKUP: MARKUP})
        await signed_in(one, browser)
        for place in (*PAGES, "/services?q=%22%3E%3Cscript%3E", "/audit?subject=%22%3E%3Cscript%3E"):
            page = await browser.open(one.public_url + place)
            assert MARKUP not in page.text
            assert "<script>" not in page.text
            assert "<img" not in page.text
            assert ">49" not in page.text
        shown = await browser.open(one.public_url + HERE)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.text


async def test_an_app_is_kept_and_its_secret_never_shown(tmp_path: Path) -> None:
    """The wizard keeps client id and secret sealed; the page tells that there is a secret, never which (R143)."""
    async with scene(tmp_path, password=STORED, declared=False) as one, Browser() as browser:
        place = f"/services/{SERVICE}"
        page = await signed_in(one, browser, place)
        assert f"{one.public_url}/callback/{SERVICE}" in page.text
        page = await post(
            browser, page, f"{place}/app", client_id="my-app", client_secret="canary-app-secret"
        )
        assert "my-app" in page.text
        assert "kept sealed" in page.text
        page = await post(browser, page, f"{place}/app", client_id="my-app", client_secret="")
        kept = await one.vault.registration(SERVICE)
        assert kept is not None
        assert kept.client_secret == Secret("canary-app-secret")
        assert not any("canary-app-secret" in shown.text for shown in browser.pages)
        page = await post(browser, page, f"{place}/app/remove")
        assert await one.vault.registration(SERVICE) is None


async def test_an_app_whose_secret_does_not_open_is_mended_on_its_page(tmp_path: Path) -> None:
    """A damaged secret is told on pages with the app's name and the remedy; giving it again, or forgetting the app, mends it there (R140)."""
    async with scene(tmp_path, password=STORED, declared=False) as one, Browser() as browser:
        place = f"/services/{SERVICE}"
        page = await signed_in(one, browser, place)

        async def damaged() -> Page:
            kept = Registration(SERVICE, SERVICE, "my-app", Secret("canary-app-secret"))
            await one.vault.save_registration(kept)
            await edit(tmp_path / "data", "UPDATE registrations SET client_secret = x'00'")
            return await browser.open(one.public_url + place)

        page = await damaged()
        assert (page.status, "does not open any more" in page.text) == (200, True)
        refused = await browser.open(f"{one.public_url}/connect/{SERVICE}")
        assert (refused.status, "<h1>" in refused.text) == (503, True)
        assert f"registrations set {SERVICE}" in html.unescape(refused.text)
        page = await post(browser, page, f"{place}/app", client_id="my-app", client_secret="")
        assert "Client secret: is needed" in page.text
        page = await post(browser, page, f"{place}/app", client_id="my-app", client_secret="new-secret")
        assert "The app is kept" in page.text
        kept = await one.vault.registration(SERVICE)
        assert kept is not None
        assert kept.client_secret == Secret("new-secret")
        page = await post(browser, await damaged(), f"{place}/app/remove")
        assert (page.status, await one.vault.registrations()) == (200, ())


async def test_an_account_is_connected_and_ended_from_the_pages(tmp_path: Path) -> None:
    """From the service's page by consent to the connection's page, verified, frozen, used again, and disconnected (R93, R109)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        page = await signed_in(one, browser, f"/services/{SERVICE}")
        page = await post(browser, page, f"/connect/{SERVICE}", name="default", **{"param.subdomain": "acme"})
        page = await browser.submit(page, decision="allow", scope=page.form.offered["scope"])
        assert page.url.path == "/connections"
        page = await browser.open(one.public_url + HERE)
        assert "Granted" in page.text
        assert "none since the server" in page.text
        found = one.connection()
        assert found is not None
        one.used[found.connection_id] = time.time() - 120
        page = await post(browser, page, f"{HERE}/verify")
        assert "2 min ago" in page.text
        assert "takes the token" in page.text
        page = await post(browser, page, f"{HERE}/freeze")
        assert "Frozen" in page.text
        assert "was frozen by an operator" in (await browser.open(one.public_url)).text
        page = await post(browser, page, f"{HERE}/thaw")
        assert "Active" in page.text
        page = await browser.open(f"{one.public_url}/connections")
        page = await post(browser, page, "/connections/freeze-all")
        assert "1 account is frozen" in page.text
        found = one.connection()
        assert found is not None
        assert found.cause == "operator"
        page = await post(browser, page, "/connections/thaw-all")
        assert "1 account is in use again" in page.text
        page = await browser.open(one.public_url + HERE)
        page = await post(browser, page, f"{HERE}/disconnect")
        assert "is revoked at the provider" in page.text
        assert one.connection() is None


async def test_a_token_is_imported_without_being_shown(tmp_path: Path) -> None:
    """A token typed in is stored with its values; a value of a wrong form is refused by name, and nothing is stored (R76, R143)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        place = f"/services/{SERVICE}"
        page = await signed_in(one, browser, place)
        given = {"access_token": "canary-imported", "name": "work"}
        page = await post(browser, page, f"{place}/import", **given, **{"param.subdomain": "a/../b"})
        assert "subdomain" in page.text
        assert one.connection(name="work") is None
        page = await post(browser, page, f"{place}/import", **given, **{"param.subdomain": "acme"})
        assert page.url.path == f"/connections/{SERVICE}/work"
        assert one.token(name="work") == "canary-imported"
        assert not any("canary-imported" in shown.text for shown in browser.pages)


async def test_a_key_is_made_shown_once_and_revoked(tmp_path: Path) -> None:
    """A form makes a key with its permits; the page that answers shows it, no other ever does; revoking counts at once (R84, R90)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        page = await signed_in(one, browser, "/keys/new")
        given = {"name": "reports", "service": SERVICE, "methods": "get, head", "path": "/v1/**"}
        made = await post(
            browser,
            page,
            "/keys/new",
            **given,
            expires="30d",
            networks="10.0.0.0/8",
            rate="10/s",
            concurrency="4",
        )
        (record,) = one.vault.keys().values()
        assert record.permits == (f"{SERVICE}:GET,HEAD:/v1/**",)
        assert [str(one) for one in record.networks] == ["10.0.0.0/8"]
        assert (str(record.rate), record.concurrency) == ("10/s", 4)
        assert record.expires_at is not None
        key = keys.KEY_PATTERN.search(made.text.encode())
        assert key is not None
        assert keys.is_well_formed(key.group())
        for place in (*PAGES[:4], "/keys", f"/keys/{record.key_id}", "/audit"):
            assert key.group().decode() not in (await browser.open(one.public_url + place)).text
        assert "Would be refused" not in browser.pages[-2].text
        await one.vault.add_observed({(record.key_id, "other", "other", "other"): 7})
        page = await browser.open(f"{one.public_url}/keys/{record.key_id}")
        assert "too many to be told apart" in page.text.partition("Would be refused")[2]
        page = await post(browser, page, f"/keys/{record.key_id}/revoke")
        assert "Revoked" in page.text
        assert one.vault.keys()[record.key_id].revoked_at is not None


async def test_a_form_sent_twice_shows_its_key_again(tmp_path: Path) -> None:
    """Of one form sent several times at once every answer shows the same key or password; corrected it is another form, another browser's number is nothing, and a key that has ended is not shown again."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        page = await signed_in(one, browser, "/keys/new")
        given = {"name": "twice", "service": SERVICE}
        pages = await asyncio.gather(*(post(browser, page, "/keys/new", **given) for _ in range(4)))
        shown = [keys.KEY_PATTERN.search(one.text.encode()) for one in pages]
        assert len({key.group() for key in shown if key is not None}) == 1
        assert None not in shown
        (record,) = one.vault.keys().values()
        taken = await post(browser, await browser.open(page.url), "/keys/new", **given)
        assert (taken.status, "Not made" in taken.text) == (400, True)
        other = await post(browser, page, "/keys/new", **{**given, "name": "other"})
        assert keys.KEY_PATTERN.search(other.text.encode()) not in {None, *shown}
        await one.vault.revoke_key(record.key_id, actor="test")
        late = await post(browser, page, "/keys/new", **given)
        assert "not in force any more" in late.text
        assert keys.KEY_PATTERN.search(late.text.encode()) is None
        page = await browser.open(f"{one.public_url}/users")
        answers = [await post(browser, page, "/users", name="ada", role="viewer") for _ in range(2)]
        first, second = (
            re.search(r"The password of ada</h2>\s*<p><code>(.+?)</code>", one.text) for one in answers
        )
        assert first is not None
        assert second is not None
        assert first.group(1) == second.group(1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "no good"}, "Name"),
        ({"service": ""}, "at least one permit"),
        ({"methods": "get it"}, "is not a method"),
        ({"networks": "10.0.0.300"}, "Networks"),
        ({"rate": "fast"}, "At most"),
        ({"concurrency": "many"}, "At once"),
        ({"expires_at": "yesterday"}, "Ends"),
    ],
    ids=["name", "service", "methods", "networks", "rate", "concurrency", "expiry"],
)
async def test_a_key_that_makes_no_sense_is_not_made(
    tmp_path: Path, given: dict[str, str], told: str
) -> None:
    """What is wrong with a key is told beside the form, which keeps what was typed (R93)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        page = await signed_in(one, browser, "/keys/new")
        page = await post(browser, page, "/keys/new", **{"name": "reports", "service": SERVICE, **given})
        assert page.status == 400
        assert told in html.unescape(page.text)
        assert not one.vault.keys()


async def test_the_password_is_changed_by_who_knows_it(tmp_path: Path) -> None:
    """Another password needs the one in force; then other browsers are signed out, this one stays, and the old one is refused (R93)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser, Browser() as other:
        await signed_in(one, other)
        page = await signed_in(one, browser, "/password")
        new = "a much better one"
        page = await post(browser, page, "/password", current="wrong", new=new, again=new)
        assert "is not that" in page.text
        page = await post(browser, page, "/password", current=PASSWORD, new=new, again=f"{new}!")
        assert "two different ways" in page.text
        page = await post(browser, page, "/password", current=PASSWORD, new=new, again=new)
        assert page.url.path == "/"
        assert "password is changed" in page.text
        assert (await other.open(one.public_url)).url.path == "/sign-in"
        page = await other.open(f"{one.public_url}/sign-in")
        assert (await other.submit(page, password=PASSWORD)).status == 403
        assert (await other.submit(page, password=new)).url.path == "/"


async def test_the_audit_is_filtered(tmp_path: Path) -> None:
    """Rows are found by who, what and about whom; a time that is none falls back instead of failing (R157)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await connected(one)
        await one.vault.record("somebody", "test.one", "slack@work", {"count": 1})
        await signed_in(one, browser)
        for query, count in (
            ("actor=somebody", "1 entry"),
            ("action=test.one&subject=SLACK", "1 entry"),
            ("actor=nobody", "0 entries"),
            ("since=never&actor=somebody", "1 entry"),
        ):
            assert count in (await browser.open(f"{one.public_url}/audit?{query}")).text, query
