"""The operator in a browser: signing in, connecting without a command line, signing out."""

from pathlib import Path

from support.browser import Browser
from support.connecting import scene

from proxy.connectors.passwords import hashed
from proxy.secret import Secret

PASSWORD = "canaryOPERATOR" + "p0o9i8u7"
STORED = hashed(Secret(PASSWORD))


async def test_without_a_link_a_password_is_asked_for(tmp_path: Path) -> None:
    """Strangers see the sign-in page only; the password opens the page that was wanted, a wrong one nothing, five wrong ones a wait."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser, Browser() as stranger:
        page = await browser.open(f"{one.public_url}/connect/sandbox")
        assert page.url.path == "/sign-in"
        assert (await browser.submit(page, password="wrong")).status == 403
        page = await browser.open(f"{one.public_url}/connect/sandbox")
        page = await browser.submit(page, password=PASSWORD)
        assert (page.status, page.url.path) == (200, "/connect/sandbox")
        assert (await stranger.open(page.url)).url.path == "/sign-in"
        form = await stranger.open(f"{one.public_url}/sign-in")
        for _ in range(4):
            form = await stranger.submit(form, password="guess")
        refused = await stranger.submit(form, password=PASSWORD)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) <= 60
        one.ahead = 61.0
        assert (await stranger.submit(form, password=PASSWORD)).url.path == "/"


async def test_who_has_signed_in_before_is_not_locked_out(tmp_path: Path) -> None:
    """While a stranger at the same address guesses too often, a browser that the user has signed in with gets in again."""
    async with scene(tmp_path, password=STORED) as one, Browser() as known, Browser() as stranger:
        page = await known.open(f"{one.public_url}/sign-in")
        page = await known.submit(page, password=PASSWORD)
        assert page.url.path == "/"
        form = await stranger.open(f"{one.public_url}/sign-in")
        for _ in range(5):
            form = await stranger.submit(form, password="guess")
        assert (await stranger.submit(form, password=PASSWORD)).status == 429
        signed_out = await known.submit(await known.open(f"{one.public_url}/connect"))
        assert signed_out.url.path == "/sign-in"
        assert (await known.submit(signed_out, password=PASSWORD)).url.path == "/"


async def test_an_account_connected_from_the_page_alone(tmp_path: Path) -> None:
    """A signed-in operator names the account, gives its values, consents, and ends at the result; then signs out."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        page = await browser.open(
            f"{one.public_url}/connect/sandbox?connection=team&return_to=//evil.example"
        )
        page = await browser.submit(page, password=PASSWORD)
        assert page.form.fields["name"] == "team"
        assert "evil.example" not in page.text
        fault = await browser.submit(page, **{"param.subdomain": "Not A Host!"})
        assert (fault.status, 'role="alert"' in fault.text) == (400, True)
        consent = await browser.submit(page, **{"param.subdomain": "acme"})
        done = await browser.submit(consent, decision="allow", scope=["things.read", "things.write"])
        assert (done.status, "Sandbox is connected" in done.text) == (200, True)
        stored = one.connection(name="team")
        assert stored is not None
        assert stored.config == {"subdomain": "acme"}
        listed = await browser.open(f"{one.public_url}/connect")
        assert "Ada at Acme" in listed.text
        assert (await browser.submit(listed)).url.path == "/sign-in"
        assert (await browser.open(f"{one.public_url}/connect")).url.path == "/sign-in"
        assert all(PASSWORD not in page.text and PASSWORD not in str(page.url) for page in browser.pages)


async def test_sessions_end(tmp_path: Path) -> None:
    """After twelve hours, and whenever a new password is made, every browser has to sign in again."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        home = f"{one.public_url}/connect"
        await browser.submit(await browser.open(home), password=PASSWORD)
        assert (await browser.open(home)).url.path == "/connect"
        one.ahead = 12 * 3600.0 + 1
        assert (await browser.open(home)).url.path == "/sign-in"
        one.ahead = 0.0
        assert (await browser.open(home)).url.path == "/connect"
        await one.vault.set_password(hashed(Secret("another")), actor="test")
        assert (await browser.open(home)).url.path == "/sign-in"


async def test_forms_that_are_not_of_this_browser(tmp_path: Path) -> None:
    """A sign-in page that is too old is shown again and works; what another site sends, or is no form, is refused on a page and signs nobody in or out."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser, Browser() as stranger:
        place = f"{one.public_url}/sign-in"
        old = await browser.open(f"{place}?return_to=/connect/sandbox")
        browser.jar.clear()
        again = await browser.submit(old, password=PASSWORD)
        assert (again.status, "too old" in again.text) == (400, True)
        signed_in = await browser.submit(again, password=PASSWORD)
        assert (signed_in.status, signed_in.url.path) == (200, "/connect/sandbox")
        form = "application/x-www-form-urlencoded"
        for headers, fields in (
            ({"Sec-Fetch-Site": "cross-site"}, {"password": PASSWORD}),
            ({"Sec-Fetch-Site": "same-site"}, {"password": PASSWORD}),
            ({"Content-Type": f"{form}; charset=zlib"}, {"password": PASSWORD}),
            ({"Content-Type": f"{form}; charset=unicode_escape"}, b"token=\\ud800&password=x"),
            ({"Content-Type": f"{form}; charset=utf-7"}, b"token=+2AA-&password=x"),
        ):
            for target in ("/sign-in", "/sign-out"):
                refused = await browser.ask(f"{one.public_url}{target}", "POST", fields, headers)
                assert (refused.status, "no form of this browser" in refused.text) == (400, True), headers
        assert (await stranger.ask(f"{one.public_url}/sign-out", "POST", {"token": "x"})).status == 303
        assert (await browser.open(f"{one.public_url}/connect")).url.path == "/connect"
