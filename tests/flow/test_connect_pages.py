"""Connecting an account in a browser: the good way, and every way that must not lead anywhere (R94-R108)."""

import asyncio
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from multidict import CIMultiDict
from support.browser import Browser, query
from support.connecting import APP_SECRET, Scene, scene

from proxy.catalog.model import Catalog
from proxy.connectors.outcomes import FlowRefused
from proxy.disconnecting import Disconnecting

STRANGE = "canaryCODE" + "z9y8x7w6v5"


def heading(text: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", text)
    assert found is not None, text
    return found.group(1)


async def reason_of(one: Scene, flow_id: str) -> str:
    """Why a flow ended, as the command line that waits for it learns."""
    _, outcome = await one.flows.progress(flow_id)
    assert outcome is not None
    assert not outcome.ok
    return outcome.reason


async def test_from_a_link_to_a_stored_account(tmp_path: Path) -> None:
    """Code with PKCE, then tokens, one call for the account's name, and the connection with all it is known by (R94, R107)."""
    async with scene(tmp_path) as one, Browser() as browser:
        begun = await one.begin(scopes=("things.read",))
        page = await one.connect(browser, begun)
        assert (page.status, heading(page.text)) == (200, "Sandbox is connected")
        asked = query(next(url for url in browser.visited if "/authorize?" in url))
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["state"]) >= 43
        stored = one.connection()
        assert stored is not None
        assert (stored.account, stored.state, stored.registration) == ("Ada at Acme", "active", "sandbox")
        assert (stored.scopes, stored.asked_scopes) == (("things.read",), ("things.read",))
        assert (stored.config, stored.metadata) == ({"subdomain": "acme"}, {"account_id": "Ada at Acme"})
        assert one.token().startswith("sbx-access-")
        stage, outcome = await one.flows.progress(begun.flow_id)
        assert stage == "done"
        assert outcome is not None
        assert outcome.account == "Ada at Acme"
        assert [entry.action for entry in await one.vault.audit(limit=1)] == ["connection.save"]


async def test_the_page_shows_what_the_terminal_shows(tmp_path: Path) -> None:
    """Service, account, short code, scopes and the provider's host stand on the page before anything is asked."""
    async with scene(tmp_path) as one, Browser() as browser:
        begun = await one.begin("work")
        page = await browser.open(one.link(begun))
        for text in ("Sandbox", "work", begun.code, "things.write", "127.0.0.1"):
            assert text in page.text, text
        assert re.fullmatch(r"[A-Z]{4}-[A-Z]{4}", begun.code)
        assert begun.link.reveal() not in page.text
        assert begun.link.reveal() not in str(page.url)


async def test_every_page_forbids_what_it_does_not_need(tmp_path: Path) -> None:
    """No page is kept, framed, tells where it came from, runs script or loads from elsewhere; no address keeps the code (R103, R164)."""
    async with scene(tmp_path) as one, Browser() as browser:
        page = await one.connect(browser)
        ours = [page for page in browser.pages if str(page.url).startswith(one.public_url)]
        assert len(ours) >= 4
        for answer in ours:
            headers = CIMultiDict(answer.headers)
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Frame-Options"] == "DENY"
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script" not in policy
            assert "<script" not in answer.text
            assert all(link.startswith(("/", "http")) for link in answer.read.links)
        assert "code=" not in str(page.url)
        style = await browser.ask(page.url.join(page.url.with_path(page.read.links[0])))
        assert (style.status, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
        policies = [CIMultiDict(answer.headers).get("Set-Cookie", "") for answer in ours]
        assert all("HttpOnly" in cookie and "SameSite=Lax" in cookie for cookie in policies if cookie)


async def test_a_link_works_once_in_one_browser_and_not_for_long(tmp_path: Path) -> None:
    """A second browser, a second opening, another service, a made-up link and one that is too old open nothing (R98)."""
    async with scene(tmp_path) as one, Browser() as first, Browser() as second:
        begun = await one.begin()
        assert (await first.ask(one.link(begun), "HEAD")).status == 405
        assert (await first.ask(one.link(begun), headers={"Sec-Purpose": "prefetch"})).status == 503
        page = await first.open(one.link(begun))
        assert page.status == 200
        refused = await second.open(one.link(begun))
        assert (refused.status, heading(refused.text)) == (410, "This link was opened before")
        assert (await first.open(one.link(begun))).status == 410
        assert (
            await second.open(page.url)
        ).status == 400  # the address without the link is the first browser's
        assert (await first.open(page.url)).status == 200
        assert not second.cookies()
        late, other = await one.begin(), await one.begin()
        assert heading((await first.open(one.link(other, "github"))).text) == "This link is not valid"
        assert (await first.open(f"{one.public_url}/connect/sandbox?link={'x' * 43}")).status == 400
        one.ahead = 601.0
        assert heading((await first.open(one.link(late))).text) == "Too much time has passed"
        assert await reason_of(one, late.flow_id) == "expired"
        assert one.connection() is None


async def test_only_the_browser_that_began_can_end_it(tmp_path: Path) -> None:
    """An answer carried to another browser connects nothing, and is not good for the first one any more (R97)."""
    async with scene(tmp_path) as one, Browser() as first, Browser() as second:
        begun = await one.begin()
        redirect = await one.allowed(first, begun)
        place = redirect.headers["Location"]
        page = await second.open(place)
        assert (page.status, heading(page.text)) == (400, "This is another browser")
        assert "code=" not in str(page.url)
        assert heading((await first.open(place)).text) == "This answer belongs to no attempt"
        assert await reason_of(one, begun.flow_id) == "other_browser"
        assert one.connection() is None


NO_ANSWERS: list[tuple[dict[str, str | list[str] | None], str]] = [
    ({"state": "A" * 43}, "This answer belongs to no attempt"),
    ({"state": None}, "This answer belongs to no attempt"),
    ({"state": ""}, "This answer belongs to no attempt"),
    ({"code": None}, "The provider's answer makes no sense"),
    ({"code": ""}, "The provider's answer makes no sense"),
    ({"error": "access_denied"}, "The provider's answer makes no sense"),
    ({"code": [STRANGE, STRANGE]}, "The provider's answer makes no sense"),
    ({"iss": None}, "The answer came from another provider"),
    ({"iss": "https://evil.example"}, "The answer came from another provider"),
    ({"code": STRANGE}, "The provider did not take its own code"),
    ({"code": None, "error": "access_denied"}, "Access was not granted"),
    ({"code": None, "error": "invalid_scope"}, "The provider refused"),
    ({"code": None, "error": f"<b>{STRANGE}"}, "The provider refused"),
]


async def test_answers_that_are_none(tmp_path: Path) -> None:
    """State missing, wrong; code missing, doubled, with an error; foreign issuer: a page, nothing stored, nothing repeated (R95, R99, R102)."""
    async with scene(tmp_path) as one, Browser() as browser:
        for change, told in NO_ANSWERS:
            place = (await one.allowed(browser)).headers["Location"]
            base, _, _ = place.partition("?")
            given = [
                (name, value)
                for name, values in {**query(place), **change}.items()
                if values is not None
                for value in (values if isinstance(values, list) else [values])
            ]
            page = await browser.open(f"{base}?" + "&".join(f"{name}={value}" for name, value in given))
            assert (page.status, heading(page.text).replace("&#39;", "'")) == (400, told), change
            assert STRANGE not in page.text
            assert "code=" not in str(page.url)
            assert one.connection() is None
            if "state" not in change:  # spent by the first answer
                again = await browser.open(place)
                assert heading(again.text) == "This answer belongs to no attempt", change


async def test_an_answer_counts_once(tmp_path: Path) -> None:
    """The same redirect a second time changes nothing and names no flow (R95); the connection stays."""
    async with scene(tmp_path) as one, Browser() as browser:
        place = (await one.allowed(browser)).headers["Location"]
        both = await asyncio.gather(browser.open(place), browser.open(place))
        assert sorted(page.status for page in both) == [200, 400]
        token = one.token()
        assert (await browser.open(place)).status == 400
        assert one.token() == token


async def test_another_registrations_address_ends_the_flow(tmp_path: Path) -> None:
    """The path's registration must be the one that the flow was begun with (R96)."""
    async with scene(tmp_path) as one, Browser() as browser:
        begun = await one.begin()
        place = (await one.allowed(browser, begun)).headers["Location"]
        page = await browser.open(place.replace("/callback/sandbox", "/callback/google"))
        assert heading(page.text) == "The answer came to another app&#39;s address"
        assert await reason_of(one, begun.flow_id) == "wrong_path"
        assert one.connection() is None


async def test_an_answer_that_comes_too_late(tmp_path: Path) -> None:
    """Ten minutes after the link was made the state is worth nothing (R95)."""
    async with scene(tmp_path) as one, Browser() as browser:
        place = (await one.allowed(browser)).headers["Location"]
        one.ahead = 601.0
        assert heading((await browser.open(place)).text) == "Too much time has passed"
        assert one.connection() is None


async def test_a_declined_consent_is_told_as_such(tmp_path: Path) -> None:
    """The person's no ends the flow for the page and for the waiting command alike (R102)."""
    async with scene(tmp_path) as one, Browser() as browser:
        begun = await one.begin()
        page = await one.connect(browser, begun, decision="deny")
        assert (page.status, heading(page.text)) == (400, "Access was not granted")
        assert await reason_of(one, begun.flow_id) == "denied"


async def test_fewer_scopes_are_stored_and_shown(tmp_path: Path) -> None:
    """What was granted is stored beside what was asked for, and the difference is on the page (R107)."""
    async with scene(tmp_path) as one, Browser() as browser:
        page = await one.connect(browser, scope=["things.read"])
        assert page.status == 200
        assert "Asked for, and not granted" in page.text
        stored = one.connection()
        assert stored is not None
        assert (stored.scopes, stored.asked_scopes) == (("things.read",), ("things.read", "things.write"))


async def test_reconnecting_keeps_the_connection_and_tells_of_another_account(tmp_path: Path) -> None:
    """Id, config and app stay, the tokens are new; somebody else's account is said to be one (R108)."""
    async with scene(tmp_path) as one, Browser() as browser:
        await one.connect(browser)
        before, token = one.connection(), one.token()
        assert before is not None
        page = await one.connect(browser, await one.begin(params={}), account="Bob at Acme")
        after = one.connection()
        assert after is not None
        assert (after.connection_id, after.generation, after.config) == (
            before.connection_id,
            2,
            before.config,
        )
        assert one.token() != token
        assert "until now it was Ada at Acme" in page.text


async def test_a_failed_reconnect_leaves_the_old_tokens(tmp_path: Path) -> None:
    """Declined, refused by the provider, or refused by the service itself: the stored tokens are untouched (R108)."""
    async with scene(tmp_path) as one, Browser() as browser:
        await one.connect(browser)
        before, token = one.connection(), one.token()
        await one.connect(browser, decision="deny")
        place = (await one.allowed(browser)).headers["Location"]
        one.sandbox.provider._codes.clear()  # the provider forgets its code
        page = await browser.open(place)
        assert heading(page.text) == "The provider did not take its own code"
        redirect = await one.allowed(browser)
        account, one.sandbox.provider.account = one.sandbox.provider.account, lambda _: None
        page = await browser.follow(redirect)
        assert heading(page.text) == "The service does not take the new token"
        one.sandbox.provider.account = account
        assert (one.connection(), one.token()) == (before, token)


async def test_a_form_from_elsewhere_is_not_taken(tmp_path: Path) -> None:
    """Going on needs the page's own token, the browser's cookie and no foreign site behind it (CSRF)."""
    async with scene(tmp_path) as one, Browser() as browser, Browser() as other:
        page = await browser.open(one.link(await one.begin()))
        assert (await browser.send(page, token="0" * 64)).status == 400
        assert (await browser.send(page, token=None)).status == 400
        form = dict(page.form.fields)
        place = page.url.with_query(None)
        foreign = await browser.ask(place, "POST", form, headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status == 400
        assert (await other.ask(place, "POST", form)).status == 400
        assert (await browser.ask(place, "POST", form)).status == 200


async def test_pressing_the_button_twice(tmp_path: Path) -> None:
    """Each departure has its own state and verifier, and only the last one counts (R94, R95)."""
    async with scene(tmp_path) as one, Browser() as browser:
        page = await browser.open(one.link(await one.begin()))
        first = await browser.submit(page)
        second = await browser.submit(page)
        assert query(first.url)["state"] != query(second.url)["state"]
        assert query(first.url)["code_challenge"] != query(second.url)["code_challenge"]
        refused = await browser.submit(first, decision="allow", scope=["things.read"])
        assert heading(refused.text) == "This answer belongs to no attempt"
        assert (await browser.submit(second, decision="allow", scope=["things.read"])).status == 200


async def test_a_flow_begun_at_another_name_moves_first(tmp_path: Path) -> None:
    """127.0.0.1 leads to the public address, link unspent, so that cookies and redirect address agree; a proxy that hides the name is told."""
    async with scene(tmp_path) as one, Browser() as browser:
        link = one.link(await one.begin())
        page = await browser.ask(link.replace("localhost", "127.0.0.1"))
        assert page.status == 303
        assert page.headers["Location"] == f"{link}&moved=1"
        assert (await browser.follow(page)).status == 200
        stuck = await browser.ask(f"{link.replace('localhost', '127.0.0.1')}&moved=1")
        assert (stuck.status, "pass the Host header on" in stuck.text) == (400, True)


async def test_where_a_browser_goes_in_the_end(tmp_path: Path) -> None:
    """With an address to return to, the browser goes there after success, and finds a way back after a failure (R104)."""
    async with scene(tmp_path) as one, Browser() as browser:
        place = (await one.allowed(browser, await one.begin(return_to="/connect?done=1"))).headers["Location"]
        answer = await browser.ask(place)
        assert (answer.status, answer.headers["Location"]) == (303, "/connect?done=1")
        page = await one.connect(browser, await one.begin("b", return_to="/connect?done=1"), decision="deny")
        assert "/connect?done=1" in page.read.links


async def test_two_processes_on_one_vault(tmp_path: Path) -> None:
    """Whichever process takes a step: the row is claimed by exactly one of two that try (R95, R98)."""
    async with scene(tmp_path) as one:
        begun = await one.begin()
        results = await asyncio.gather(
            *(one.flows.open("sandbox", begun.link) for _ in range(4)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, FlowRefused)]
        assert [result.reason for result in refused] == ["link_used"] * 3


async def test_rows_hold_no_secret(tmp_path: Path) -> None:
    """The flow's row has digests and a sealed value, none of link, state or verifier (R95, R143); an ended flow has nothing sealed."""
    async with scene(tmp_path) as one, Browser() as browser:
        begun = await one.begin()
        consent = await one.to_consent(browser, begun)
        cookie = next(value for name, value in browser.cookies().items() if begun.flow_id in name)
        async with one.vault._store.snapshot() as transaction:
            (row,) = await transaction.fetch("SELECT * FROM flows")
        raw = b"|".join(str(value).encode() for value in row.values())
        for secret in (begun.link.reveal(), query(consent.url)["state"], cookie, begun.code):
            assert secret.encode() not in raw
        await browser.submit(consent, decision="deny")
        async with one.vault._store.snapshot() as transaction:
            (row,) = await transaction.fetch("SELECT * FROM flows")
        assert (row["sealed"], row["state_digest"], row["stage"]) == (None, None, "failed")


async def test_scopes_from_memory_have_to_be_confirmed(tmp_path: Path) -> None:
    """What nobody has checked is shown in a field and goes out only with the person's word, and as they changed it."""
    async with scene(tmp_path, verified="memory") as one, Browser() as browser:
        page = await browser.open(one.link(await one.begin()))
        assert page.form.fields["scopes"].split() == ["things.read", "things.write"]
        refused = await browser.submit(page)
        assert (refused.status, "known from memory only" in refused.text) == (400, True)
        odd = await browser.submit(page, confirmed="yes", scopes='things.read "x"')
        assert (odd.status, "/authorize" in str(odd.url)) == (400, False)
        consent = await browser.submit(page, confirmed="yes", scopes="things.read")
        assert query(consent.url)["scope"] == "things.read"
        assert (await browser.submit(consent, decision="allow", scope=["things.read"])).status == 200
        again = await one.begin(params={})  # what was confirmed once need not be again
        assert "checkbox" not in (await browser.open(one.link(again))).text


async def test_no_secret_comes_out_of_a_flow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens, code, state, verifier, link and the app's secret are in no page of ours, no log and no file (R143)."""
    async with scene(tmp_path) as one, Browser() as browser:
        begun = await one.begin()
        redirect = await one.allowed(browser, begun)
        place = redirect.headers["Location"]
        await browser.open(place)
        await browser.open(place)  # refused, and logged
        held = one.vault.snapshot.find("sandbox", "default")
        assert held is not None
        assert held.tokens is not None
        assert held.tokens.refresh_token is not None
        secrets = [
            held.tokens.access_token.reveal(),
            held.tokens.refresh_token.reveal(),
            query(place)["code"],
            query(place)["state"],
            begun.link.reveal(),
            APP_SECRET,
        ]
        leaving = "/connect/sandbox"  # the page that leads to the provider has to hold the state
        ours = [p for p in browser.pages if str(p.url).startswith(one.public_url) and p.url.path != leaving]
        spread = "".join(p.text + str(p.headers) for p in ours) + "".join(capsys.readouterr())
        assert "connected" in spread
        assert [secret for secret in secrets if secret in spread] == []
        files = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
        assert [secret for secret in secrets if secret.encode() in files] == []


async def test_what_is_told_to_the_provider_at_the_end(tmp_path: Path) -> None:
    """Removal revokes and erases; it erases too when the provider is away, and revokes nothing that others share, or in a copy (R109)."""
    async with scene(tmp_path) as one, Browser() as browser:
        ending = Disconnecting(one.vault, one.catalog, one.registrations, one.connecting._endpoint)
        await one.connect(browser)
        token, connection = one.token(), one.connection()
        assert connection is not None
        assert one.sandbox.provider.account(token) == "Ada at Acme"
        told = await ending.disconnect(connection, actor="test")
        assert (told.done, one.sandbox.provider.account(token), one.connection()) == (True, None, None)

        await one.connect(browser)
        connection = one.connection()
        assert connection is not None
        shared = {**one.catalog.services}
        service = shared["sandbox"]
        assert service.oauth is not None
        shared["sandbox"] = replace(service, oauth=replace(service.oauth, revoke_shared=True))
        await one.connect(browser, await one.begin("other"))
        careful = replace(ending, catalog=Catalog(shared))
        told = await careful.disconnect(connection, actor="test")
        assert (told.done, "sandbox@other" in told.sentence) == (False, True)

        await one.connect(browser)
        held, connection = one.vault.snapshot.find("sandbox", "default"), one.connection()
        assert held is not None
        assert held.tokens is not None
        assert connection is not None
        await one.vault.save_connection("sandbox", "twin", held.tokens, config={"subdomain": "acme"})
        told = await ending.disconnect(connection, actor="test")
        assert (told.done, "sandbox@twin" in told.sentence) == (False, True)
        assert one.sandbox.provider.account(one.token(name="twin")) == "Ada at Acme"

        last = one.connection(name="other")
        assert last is not None
        token = one.token(name="other")
        await one.sandbox.stop()
        told = await ending.disconnect(last, actor="test")
        assert (told.done, one.connection(name="other")) == (False, None)
        assert "could not be revoked" in told.sentence
        assert one.sandbox.provider.account(token) is not None


async def test_a_link_s_scopes_are_its_maker_s(tmp_path: Path) -> None:
    """Who holds a link cannot ask for other scopes than those that were said when it was made."""
    async with scene(tmp_path) as one, Browser() as browser:
        page = await browser.open(one.link(await one.begin(scopes=("things.read",))))
        await browser.submit(page, scopes="things.read things.write", confirmed="yes")
        asked = query(next(url for url in browser.visited if "/authorize?" in url))
        assert asked["scope"] == "things.read"


async def test_made_up_states_hold_up_no_writer(tmp_path: Path) -> None:
    """An answer that nobody asked for is refused although the vault's lock of writers is taken meanwhile."""
    async with scene(tmp_path) as one, Browser() as stranger:
        writer = sqlite3.connect(tmp_path / "data" / "vault.db", isolation_level=None)
        try:
            writer.execute("BEGIN IMMEDIATE")
            place = f"{one.public_url}/callback/sandbox?code=x&state=made-up"
            refused = await stranger.ask(place)  # while the lock is held
            assert refused.headers["Location"] == "/refused/state_unknown"
        finally:
            writer.close()
