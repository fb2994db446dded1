"""Signing in through an identity provider, in a browser: who gets in, who does not, and what the page then says."""

import asyncio
import contextlib
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.browser import Browser, Page, query
from support.connecting import Scene
from support.identities import PASSWORD, Place, add_ada, made
from support.providers.identity import (
    CLIENT_ID,
    SUBJECT,
    Identity,
    hashed,
    public_pem,
    signed,
    unsigned,
)
from support.stores import edit
from yarl import URL

from proxy.operations.users import add_user


@pytest.fixture(scope="module")
def shared(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    stack = contextlib.AsyncExitStack()
    yield runner.run(stack.enter_async_context(made(tmp_path_factory.mktemp("shared"))))
    runner.run(stack.aclose())


@pytest.fixture
def place(runner: asyncio.Runner, shared: Place) -> Place:
    """The plain one: ``ada@example.com``, an operator, has an account at the provider and was never here."""
    one, provider = shared

    async def as_new() -> None:
        for each in await one.vault.users():
            await one.vault.remove_user(each.name, actor="test")
        await add_ada(one)

    runner.run(as_new())
    provider.reset()
    assert one.oidc is not None
    one.oidc.provider._kept = one.oidc.provider._failed = None
    one.ahead, one.patience = 0.0, one.patience + 61.0
    return shared


async def begin(one: Scene, browser: Browser, at: str = "/sign-in") -> Page:
    """The sign-in page's button, pressed, up to the redirect that the provider answers with."""
    page = await browser.open(f"{one.public_url}{at}")
    page = await browser.send(page)
    assert page.status == 200, page.text
    return await browser.ask(page.read.refresh)


async def sign_in(one: Scene, browser: Browser, at: str = "/sign-in") -> Page:
    return await browser.follow(await begin(one, browser, at))


def heading(page: Page) -> str:
    return page.text.partition("<h1>")[2].partition("</h1>")[0]


async def refused(one: Scene, browser: Browser, reason: str, status: int) -> Page:
    """An attempt that ends on the page for that reason, with nobody signed in."""
    one.patience += 61.0
    page = await sign_in(one, browser)
    assert (page.url.path, page.status) == (f"/oidc/refused/{reason}", status), heading(page)
    assert (await browser.open(f"{one.public_url}/keys")).url.path == "/sign-in"
    return page


async def test_a_user_signs_in(place: Place) -> None:
    """Whoever proves a user's address gets that user's role and goes where they wanted; the code is asked for with PKCE, state and nonce, and stays in no address (R94, R95, R103)."""
    one, provider = place
    async with Browser() as browser:
        page = await sign_in(one, browser, "/connections")
        assert (page.status, page.url.path) == (200, "/connections")
        assert ">ada<" in page.text
        assert (await browser.open(f"{one.public_url}/users")).status == 403
        asked = provider.asked[0]
        assert asked | {"tenant": "one", "response_type": "code", "scope": "openid email profile"} == asked
        assert asked["redirect_uri"] == f"{one.public_url}/oidc/callback"
        assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
        assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
        row = next(entry for entry in await one.vault.audit() if entry.action == "admin.sign_in")
        assert (row.actor, row.subject) == ("user:ada", "ada")
        assert row.detail == {"by": "oidc", "issuer": provider.issuer, "subject": SUBJECT}
        shown = [
            page
            for page in browser.pages
            if page.url.path != "/oidc/callback" and page.url.host == "localhost"
        ]
        assert all(
            secret not in page.text and secret not in str(page.url)
            for secret in provider.secrets
            for page in shown
        )
        left = await browser.submit(page)  # the first form is the one that signs out
        assert (left.url.path, heading(left)) == ("/oidc/left", "Signed out")
        assert (await browser.open(f"{one.public_url}/connections")).url.path == "/sign-in"
        assert provider.paths.count("/realm/.well-known/openid-configuration") == 1


async def test_a_password_still_signs_in(place: Place) -> None:
    """Beside a provider passwords work as before."""
    one, _ = place
    async with Browser() as browser:
        page = await browser.open(f"{one.public_url}/sign-in")
        button, form = page.read.forms
        assert (button.action, form.action) == ("/oidc/start", "/sign-in")
        fields = {**form.fields, "user": "admin", "password": PASSWORD}
        page = await browser.follow(await browser.ask(page.url.with_path("/sign-in"), "POST", fields))
        assert page.url.path == "/"
        assert "/password" in page.read.links
        page = await browser.open(f"{one.public_url}/users")
        assert '<td data-label="Signs in with">Example ID</td>' in page.text
        form = next(each for each in page.read.forms if each.action == "/users")
        given = {"token": form.fields["token"], "role": "viewer", "name": "bob", "email": "bob@example.com"}
        both = await browser.ask(page.url, "POST", given)
        assert (both.status, "Example ID, password" in both.text) == (200, True)
        only = await browser.ask(
            page.url, "POST", given | {"name": "c", "email": "c@example.com", "no_password": "yes"}
        )
        assert only.status == 303
        assert [each.has_password for each in await one.vault.users()] == [False, True, False]


async def test_passwords_switched_off(tmp_path: Path) -> None:
    """With `password_sign_in = false` no page has a field for one, none is taken, and none is asked to be changed."""
    async with made(tmp_path, password=False) as (one, _), Browser() as browser:
        page = await browser.open(f"{one.public_url}/sign-in")
        assert [one.action for one in page.read.forms] == ["/oidc/start"]
        fields = {"token": page.form.fields["token"], "user": "admin", "password": PASSWORD}
        page = await browser.ask(page.url.with_path("/sign-in"), "POST", fields)
        assert (page.status, "Passwords are switched off" in page.text) == (403, True)
        page = await sign_in(one, browser)
        assert "/password" not in page.read.links
        assert (await browser.open(f"{one.public_url}/password")).status == 404


async def test_keys_and_ways_of_other_providers(place: Place) -> None:
    """Other algorithms, a new key, a client secret in the form, and an address that only the userinfo endpoint tells sign in as well."""
    one, provider = place
    async with Browser() as browser:

        async def works() -> None:
            page = await sign_in(one, browser)
            assert (page.status, page.url.path) == (200, "/"), heading(page)
            await browser.submit(page)

        await works()
        for sign in (signed("ec"), signed("ed25519"), signed("rsa", "PS256")):
            provider.sign = sign
            await works()
        assert provider.paths.count("/realm/keys") == 1
        provider.sign, provider.keys = signed("rsa-other"), ["rsa-other"]
        await works()
        assert provider.paths.count("/realm/keys") == 2
        provider.person |= {"email_verified": None, "xms_edov": "1"}  # as Microsoft's
        await works()
        provider.reset(email_verified="true")  # as Amazon's
        provider.sign, provider.keys, provider.thin = signed("rsa-other"), ["rsa-other"], True
        await works()
        one.ahead = 3601.0
        provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        provider.sign = signed("rsa-other", claims=_times(provider, one.ahead))
        await works()
        assert "/realm/userinfo" in provider.paths


def _times(provider: Identity, ahead: float) -> dict[str, float]:
    told = provider.claims("")
    return {"iat": told["iat"] + ahead, "exp": told["exp"] + ahead}


async def test_tokens_that_prove_nobody(place: Place) -> None:
    """A token that is unsigned, signed with what everybody knows, another's, too old, or of an unknown key signs nobody in; whoever fails too often waits."""
    one, provider = place
    async with Browser() as browser:
        for sign in (
            lambda _, claims: unsigned(claims),
            lambda _, claims: hashed(public_pem(), claims, kid="rsa"),
            signed(claims={"nonce": "another"}),
            signed(claims={"aud": "another"}),
            signed("rsa-other"),
        ):
            provider.sign = sign
            assert "log says why" in (await refused(one, browser, "token_invalid", 403)).text
        assert provider.paths.count("/realm/keys") == 2
        provider.sign = signed(claims={"exp": 1, "iat": 0})
        assert "NTP" in (await refused(one, browser, "clock", 503)).text
        provider.reset()
        provider.sign = signed("rsa-other")
        one.patience += 61.0
        for _ in range(5):
            assert (await sign_in(one, browser)).url.path == "/oidc/refused/token_invalid"
        provider.reset()
        assert (await sign_in(one, browser)).status == 429
        assert "/realm/token" not in provider.paths
        one.patience += 61.0
        assert (await sign_in(one, browser)).url.path == "/"


async def test_people_who_may_not(place: Place) -> None:
    """Nobody signs in with an address that no user has, that nobody vouches for, or that was somebody else's before; each page says what to do."""
    one, provider = place
    async with Browser() as browser:
        provider.reset(email="eve@example.com")
        page = await refused(one, browser, "unknown_user", 403)
        assert "eve@example.com" in page.text
        assert "connector-proxy users add" in page.text
        assert [each.name for each in await one.vault.users()] == ["ada"]
        for unproven in (
            {"email_verified": False},
            {"email_verified": None},
            {"email_verified": "false"},
            {"email_verified": 1},
            {"email_verified": False, "xms_edov": True},
            {"email_verified": None, "xms_edov": False},
        ):
            provider.reset(**unproven)
            assert "Verify it" in (await refused(one, browser, "unverified_email", 403)).text
        for odd in (
            None,
            "",
            "ada",
            ["ada@example.com"],
            "ada@example.com\nx",
            "ad\u0430@example.com",
            "\u212aim@example.com",
        ):
            provider.reset(email=odd)
            await refused(one, browser, "no_email", 403)
        provider.reset()
        page = await sign_in(one, browser)
        assert page.url.path == "/"
        await browser.submit(page)
        provider.reset(sub="subject-2")
        assert "removes the user" in (await refused(one, browser, "other_account", 403)).text
        provider.reset(thin=None)
        provider.thin, provider.userinfo = True, {"sub": "subject-2"}
        await refused(one, browser, "no_email", 403)
        provider.reset()
        page = await sign_in(one, browser)
        await one.vault.remove_user("ada", actor="test")
        assert (await browser.open(f"{one.public_url}/")).url.path == "/sign-in"
        await refused(one, browser, "unknown_user", 403)
        await add_user(one.vault, "ada", "viewer", email="ada@example.com", with_password=False, actor="test")
        provider.reset(sub="subject-2")
        assert (await sign_in(one, browser)).url.path == "/"


async def test_domains_and_new_viewers(tmp_path: Path) -> None:
    """With `provision` whoever has an address of the domains becomes a viewer, named by it, and nobody else does."""
    given = {"allowed_domains": ["example.com"], "provision": "viewer"}
    async with made(tmp_path, **given) as (one, provider), Browser() as browser:
        for address in ("eve@example.org", "eve@sub.example.com", "eve@example.com.evil.example"):
            provider.reset(email=address, sub=address)
            assert address in (await refused(one, browser, "domain_not_allowed", 403)).text
        provider.reset(email="New.Person@Example.com", sub="subject-9")
        page = await sign_in(one, browser)
        assert (page.url.path, ">new.person@example.com<" in page.text) == ("/", True)
        assert [(each.name, each.role) for each in await one.vault.users()] == [
            ("ada", "operator"),
            ("new.person@example.com", "viewer"),
        ]
        await browser.submit(page)
        provider.reset(email="o'hara@example.com", sub="subject-10")  # no name that a user can have
        await refused(one, browser, "unknown_user", 403)


async def test_other_claims(tmp_path: Path) -> None:
    """Another claim can be the address, a provider that never says `verified` can be believed, and an app can be one without a secret."""
    given = {"email_claim": "upn", "require_verified_email": False}
    async with made(tmp_path, secret=False, **given) as (one, provider), Browser() as browser:
        provider.public = True
        provider.reset(upn="ADA@example.com", email="eve@example.com", email_verified=None)
        assert (await sign_in(one, browser)).url.path == "/"


async def test_answers_that_are_none(place: Place) -> None:
    """What comes back is taken once, in the browser and the ten minutes it belongs to, from the provider that was asked; errors are told by their code (R95, R97, R99, R102)."""
    one, provider = place
    async with Browser() as browser, Browser() as other:
        for back, reason, status in (
            ({"error": "access_denied", "code": None}, "denied", 403),
            ({"error": "invalid_scope", "code": None}, "provider_refused", 403),
            ({"error": "<script>", "code": None}, "provider_refused", 403),
            ({"error": "access_denied"}, "malformed_answer", 400),
            ({"code": None}, "malformed_answer", 400),
            ({"code": ""}, "malformed_answer", 400),
            ({"iss": "https://other.example"}, "wrong_issuer", 400),
            ({"code": "made up"}, "code_refused", 403),
            ({"state": "made up"}, "attempt_unknown", 400),
            ({"state": None}, "attempt_unknown", 400),
        ):
            provider.back = back
            page = await refused(one, browser, reason, status)
            assert "<script>" not in page.text
        provider.reset()
        answer = (await begin(one, browser)).headers["Location"]
        assert (await other.open(answer)).url.path == "/oidc/refused/attempt_unknown"
        twice = f"{answer}&state={query(answer)['state']}"
        assert (await browser.open(twice)).url.path == "/oidc/refused/attempt_unknown"
        assert (await browser.ask(answer, headers={"Sec-Purpose": "prefetch"})).status == 503
        one.ahead = 601.0
        assert (await browser.open(answer)).url.path == "/oidc/refused/attempt_unknown"
        one.ahead = 0.0
        answer = (await begin(one, browser)).headers["Location"]
        assert (await browser.open(answer)).url.path == "/"
        await browser.submit(browser.pages[-1])
        assert (await browser.open(answer)).url.path == "/oidc/refused/attempt_unknown"
        for name in ("oidc", "oidc-told"):
            for odd in ("x", "a.b.c", "a.9999999999.!", "/w==", "\u00e9", "a" * 3000):
                cookie = {"Cookie": f"connector-proxy-{name}={odd}"}
                page = await other.ask(f"{one.public_url}/oidc/callback?code=c&state=s", headers=cookie)
                assert page.headers["Location"] == "/oidc/refused/attempt_unknown"
                page = await other.ask(f"{one.public_url}/oidc/refused/denied", headers=cookie)
                assert (page.status, heading(page)) == (403, "The provider did not let you through")
        assert (await other.open(f"{one.public_url}/oidc/refused/nothing")).status == 404
        said = await other.open(f"{one.public_url}/oidc/refused/unknown_user")
        assert (said.status, "@example.com" in said.text) == (403, False)
        start, form = f"{one.public_url}/oidc/start", {"token": "x", "return_to": "/keys"}
        again = await other.ask(start, "POST", form)
        assert (again.status, "too old" in again.text) == (400, True)
        assert (
            await other.follow(await other.ask((await other.send(again)).read.refresh))
        ).url.path == "/keys"
        crossed = await other.ask(start, "POST", form, {"Sec-Fetch-Site": "cross-site"})
        assert (crossed.status, "another site" in crossed.text) == (400, True)


async def test_an_announced_issuer_has_to_be_there(place: Place) -> None:
    """A provider that says it names itself in its answers has to do so (R99); one that ends sessions is linked from the page after signing out."""
    one, provider = place
    async with Browser() as browser:
        end = f"{provider.issuer}/end"
        provider.metadata = {
            "authorization_response_iss_parameter_supported": True,
            "end_session_endpoint": end,
        }
        await refused(one, browser, "wrong_issuer", 400)
        provider.back = {"iss": provider.issuer}
        left = await browser.submit(await sign_in(one, browser))
        assert f"{end}?client_id={urllib.parse.quote_plus(CLIENT_ID)}" in left.read.links


async def test_nobody_is_sent_elsewhere(place: Place) -> None:
    """Where a browser goes after signing in is a path of ours, whatever the link to the sign-in page said (R104)."""
    one, _ = place
    for bad in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/%2f/evil.example",
        "javascript:x",
        "/a/../b",
        "/" + "a" * 1500,
    ):
        async with Browser() as browser:
            page = await sign_in(one, browser, f"/sign-in?return_to={urllib.parse.quote(bad)}")
            assert (page.url.host, page.url.path) == ("localhost", "/"), bad


async def test_a_provider_that_is_not_there_or_says_what_it_should_not(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that cannot be reached, is another one, or does not take our app is told on a page that names the setting to look at, and is not asked again at once."""
    monkeypatch.setattr("proxy.control.oidc.provider._PAUSE_S", 600.0)  # however slow this machine is
    one, provider = place
    async with Browser() as browser:

        async def told(*words: str) -> None:
            one.ahead += 3601.0  # what is kept of the provider is too old then
            page = await browser.open(f"{one.public_url}/sign-in")
            page = await browser.send(page)
            assert page.status in {502, 503}, page.text
            assert all(word in page.text for word in words), page.text

        provider.metadata = {"issuer": "https://login.example/{tenantid}/v2.0"}
        await told("https://login.example/{tenantid}/v2.0", provider.issuer, "control.oidc.issuer")
        for missing in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            provider.metadata = {missing: None}
            await told(missing)
            provider.metadata = {missing: "http://other.example/x"}
            await told(missing)
        provider.metadata = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
        await told("client_secret_basic")
        provider.metadata = {"jwks_uri": f"{provider.issuer}/nothing"}
        await told("status 404")
        provider.metadata = {"jwks_uri": f"{provider.issuer}/.well-known/openid-configuration"}
        await told("list of keys")
        provider.metadata = {"jwks_uri": "http://127.0.0.1:1/keys"}
        await told("cannot be reached", "egress")
        provider.paths.clear()
        form = await browser.open(f"{one.public_url}/sign-in")
        assert "cannot be reached" in (await browser.send(form)).text
        assert "Signed out" in (await browser.open(f"{one.public_url}/oidc/left")).text
        assert provider.paths == []  # it was asked a moment ago
        provider.metadata = {}
        one.ahead = 0.0
        for answer, reason, status in (
            ((401, b'{"error": "invalid_client"}'), "client_refused", 502),
            ((400, b'{"error": "invalid_grant"}'), "code_refused", 403),
            ((400, b'{"error": "invalid_request", "error_description": "<b>"}'), "provider_refused", 403),
            ((200, b'{"access_token": "a"}'), "provider_unreadable", 502),
            ((200, b"<html>"), "provider_unreadable", 502),
            ((503, b""), "provider_unreachable", 503),
        ):
            provider.answer = answer
            await refused(one, browser, reason, status)


async def test_a_vault_that_takes_nothing(tmp_path: Path) -> None:
    """Whoever is known cannot be signed in while no session can be stored: the page and the log say so, and later it works."""
    async with made(tmp_path) as (one, _), Browser() as browser:
        await edit(tmp_path / "data", "ALTER TABLE sessions RENAME TO away")
        with capture_logs() as logged:
            page = await sign_in(one, browser)
        assert (page.url.path, page.status) == ("/oidc/refused/not_stored", 503)
        assert "The vault cannot be read or written for now" in page.text
        await edit(tmp_path / "data", "ALTER TABLE away RENAME TO sessions")
        (noted,) = [line for line in logged if line["event"] == "oidc_sign_in_refused"]
        assert noted["reason"] == "not_stored"
        assert "the vault could not be used" in noted["why"]
        assert (await sign_in(one, browser, "/connections")).url.path == "/connections"


async def test_it_begins_where_the_provider_comes_back_to(place: Place) -> None:
    """A browser that comes by another name of ours is sent to the one of the redirect address first, as its cookies would be missing there."""
    one, _ = place
    async with Browser() as browser:
        address = URL(one.public_url).with_host("127.0.0.1")
        page = await browser.open(address.with_path("/sign-in").with_query(return_to="/keys"))
        assert page.url.host == "localhost"
        page = await browser.ask((await browser.send(page)).read.refresh)
        assert (await browser.follow(page)).url.path == "/keys"
