"""Users with roles, in a browser: what each may see and do, and that a change of a role counts at once."""

import asyncio
from pathlib import Path

import pytest
from support.browser import Browser, Page
from support.connecting import Scene, scene

from proxy.connectors.passwords import hashed
from proxy.connectors.users import ROLES, Account, Role, SignedIn
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError, ForbiddenError
from proxy.operations.users import add_user
from proxy.secret import Secret

PASSWORD = "correct horse battery"
STORED = hashed(Secret(PASSWORD))
KEY = {"name": "made", "service": "sandbox", "connection": "", "methods": "", "path": ""}


async def user(one: Scene, name: str, role: str) -> str:
    made = await add_user(one.vault, name, role, email=None, with_password=True, actor="test")
    assert made is not None
    return made.reveal()


async def signed_in(one: Scene, browser: Browser, name: str, password: str) -> Page:
    page = await browser.open(f"{one.public_url}/sign-in")
    return await browser.submit(page, user=name, password=password)


async def send(browser: Browser, page: Page, place: str, **fields: str) -> Page:
    """A form that this page might not show, with the token of one that it does."""
    token = next(form.fields["token"] for form in page.read.forms if "token" in form.fields)
    asked = await browser.ask(page.url.with_path(place), "POST", {"token": token, **fields})
    return await browser.follow(asked)


@pytest.mark.parametrize("role", ROLES)
async def test_what_each_role_may(tmp_path: Path, role: Role) -> None:
    """Viewers see, operators connect and make keys, admins say who; only admins make keys that reveal tokens (R93)."""
    connect = key = 403 if role == "viewer" else 200
    users = 200 if role == "admin" else 403
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        home = await signed_in(one, browser, "ada", await user(one, "ada", role))
        assert (home.status, home.url.path) == (200, "/")
        for place in ("/services", "/connections", "/keys", "/audit", "/password"):
            assert (await browser.open(one.public_url + place)).status == 200, place
        assert (await browser.open(f"{one.public_url}/connect/sandbox")).status == connect
        assert (await send(browser, home, "/connect/sandbox")).status in (
            {403} if connect == 403 else {200, 400}
        )
        assert (await browser.open(f"{one.public_url}/users")).status == users
        assert (await send(browser, home, "/users", name="eve", role="admin")).status == users
        assert [each.name for each in await one.vault.users()] == (
            ["ada", "eve"] if users == 200 else ["ada"]
        )
        made = await send(browser, home, "/keys/new", **KEY)
        assert (made.status, "cpk_" in made.text) == (key, key == 200)
        revealing = await send(browser, home, "/keys/new", **KEY | {"name": "more", "kind": "service"})
        assert ("cpk_" in revealing.text) == (role == "admin")
        assert revealing.status == {"viewer": 403, "operator": 400, "admin": 200}[role]
        stopped = await send(browser, home, "/keys/revoke-all")
        assert (stopped.status == 403) == (role == "viewer")
        stopped = await send(browser, home, "/connections/freeze-all")
        assert (stopped.status == 403) == (role == "viewer")
        actors = {entry.actor for entry in await one.vault.audit() if entry.action == "key.create"}
        assert actors == (set() if role == "viewer" else {"user:ada"})


async def test_roles_and_users_change_at_once(tmp_path: Path) -> None:
    """A role counts from the next request on; a new password or a removal ends that user's sessions and nobody else's (R93)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as ada, Browser() as admin:
        await signed_in(one, ada, "ada", await user(one, "ada", "viewer"))
        page = await signed_in(one, admin, "admin", PASSWORD)
        assert (await ada.open(f"{one.public_url}/users")).status == 403
        page = await admin.open(f"{one.public_url}/users")
        await send(admin, page, "/users/ada/role", role="admin")
        assert (await ada.open(f"{one.public_url}/users")).status == 200
        await send(admin, page, "/users/ada/role", role="operator")
        assert (await ada.open(f"{one.public_url}/users")).status == 403
        renewed = await send(admin, page, "/users/ada/password")
        assert (await ada.open(f"{one.public_url}/")).url.path == "/sign-in"
        new = renewed.text.partition("<p><code>")[2].partition("</code>")[0]
        assert (await signed_in(one, ada, "ada", new)).url.path == "/"
        await send(admin, page, "/users/ada/remove")
        assert (await ada.open(f"{one.public_url}/")).url.path == "/sign-in"
        assert (await signed_in(one, ada, "ada", new)).status == 403
        assert (await admin.open(f"{one.public_url}/users")).status == 200
        assert all(new not in str(page.url) for page in (*ada.pages, *admin.pages))


async def test_nobody_signs_in_as_somebody_else(tmp_path: Path) -> None:
    """A user's password opens that user only, also not the first one; a user without one cannot sign in with any."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        of_ada = await user(one, "ada", "admin")
        await user(one, "bob", "viewer")
        await add_user(one.vault, "carl", "viewer", email="C@example.com", with_password=False, actor="test")
        assert await one.vault.recognise("c@EXAMPLE.com", Account("issuer", "client", "subject")) == "carl"
        for name, password in (("bob", of_ada), ("admin", of_ada), ("carl", ""), ("ada", PASSWORD)):
            assert (await signed_in(one, browser, name, password)).status == 403, name
        one.ahead = 61.0
        assert (await signed_in(one, browser, "ada", of_ada)).url.path == "/"


async def test_a_role_that_no_release_knows_signs_nobody_in(tmp_path: Path) -> None:
    """A row whose role is none of ours, as a later release or a hand may write it, opens nothing."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await signed_in(one, browser, "ada", await user(one, "ada", ROLES[-1]))
        assert (await browser.open(f"{one.public_url}/users")).status == 200
        await one.vault.change_role("ada", "superuser", actor="test")  # type: ignore[arg-type]  # what the row then says
        assert (await browser.open(f"{one.public_url}/users")).url.path == "/sign-in"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Ada", "role": "viewer"}, "Name: has to be"),
        ({"name": "admin", "role": "viewer"}, "always there"),
        ({"name": "ada", "role": "owner"}, "Role: has to be one of viewer"),
        ({"name": "ada", "role": "viewer", "email": "ada"}, "Mail address: is no mail address"),
        ({"name": "taken", "role": "viewer"}, "there is a user with this name"),
    ],
)
async def test_bad_input_names_the_field(tmp_path: Path, fields: dict[str, str], said: str) -> None:
    """A user that makes no sense is not added, and the page says which field to change and keeps what was typed."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await user(one, "taken", "viewer")
        home = await signed_in(one, browser, "admin", PASSWORD)
        page = await send(browser, home, "/users", **fields)
        assert page.status == 400
        assert said.replace("'", "&#39;") in page.text
        assert f'value="{fields["name"]}"' in page.text
        assert [each.name for each in await one.vault.users()] == ["taken"]


def test_passwords_are_stored_hashed(tmp_path: Path) -> None:
    """R143: neither a user's password nor a session is readable in the database."""

    async def work() -> list[bytes]:
        async with scene(tmp_path, password=STORED) as one, Browser() as browser:
            made = await user(one, "ada", "viewer")
            await signed_in(one, browser, "ada", made)
            return [made.encode(), *(each.value.encode() for each in browser.jar)]

    secret = asyncio.run(work())
    files = [part.read_bytes() for part in tmp_path.rglob("*") if part.is_file()]
    assert len(secret) > 1
    assert any(b"ada" in content for content in files)
    assert not any(one in content for one in secret for content in files)


async def test_a_form_can_do_no_more_than_a_token_of_that_role(tmp_path: Path) -> None:
    """Pages and API run the same operations: the role's scopes are asked, and every fault named, before anything is done (R93)."""
    async with scene(tmp_path, password=STORED) as one:
        viewer, operator = (Visitor(Secret("s"), SignedIn("ada", role)) for role in ("viewer", "operator"))
        for visitor, name, path in (
            (viewer, "keys.revoke_all", {}),
            (viewer, "connections.remove", {"connection": "sandbox@default"}),
            (operator, "users.remove", {"user": "eve"}),
        ):
            with pytest.raises(ForbiddenError):
                await one.operating.by(visitor, name, path=path)
        with pytest.raises(ConfigurationError) as caught:
            await one.operating.by(operator, "keys.create", body={"name": "no good", "allow": [], "rate": 1})
        assert {fault.place for fault in caught.value.faults} == {"name", "allow", "rate"}
        assert [entry.action for entry in await one.vault.audit()] == ["admin.password"]
