"""Signing in to the dashboard of a real server at a real OpenID Connect provider (oidc-provider)."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.browser import Browser, Page
from support.canaries import everything_under, found_in
from support.commands import environment
from support.providers.oidc import Oidc
from support.providers.real import PASSWORD, USER
from support.serving import QUICK, Serve

pytestmark = [pytest.mark.node, pytest.mark.traced]


@pytest.fixture(scope="module")
def served(oidc: Oidc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server where passwords are switched off, and with one user."""
    folder = tmp_path_factory.mktemp("sign-in")
    (folder / "oidc-secret").write_text(oidc.client_secret)
    config = folder / "proxy.toml"
    config.write_text(
        "[control]\npassword_sign_in = false\n"
        f'[control.oidc]\nissuer = "{oidc.origin}"\nclient_id = "{oidc.client_id}"\n'
        'client_secret = { file = "oidc-secret" }\nlabel = "Wonderland ID"\n'
    )
    command = [sys.executable, "-m", "proxy", "users", "add", "alice", "--role", "operator", "--no-password"]
    command += ["--email", f"{USER}@example.com", "--config", str(config), "--data-dir", str(folder / "data")]
    subprocess.run(
        command, check=True, cwd=folder, env=environment(folder, {}), capture_output=True, timeout=60
    )
    with Serve(folder, "--config", str(config), *QUICK) as server:
        oidc.allow_redirect(server.event("oidc_sign_in")["redirect_uri"])
        yield server


async def consent(browser: Browser, server: Serve, user: str, answer: str = "yes") -> Page:
    """From the sign-in page through the provider's own page, to where it ends."""
    page = await browser.open(f"{server.told['public_url']}/keys")
    assert (page.url.path, "Wonderland ID" in page.text) == ("/sign-in", True)
    page = await browser.submit(page)
    assert "wants access" in page.text
    return await browser.submit(page, username=user, password=PASSWORD, answer=answer)


async def test_a_person_signs_in_at_a_real_provider(served: Serve, oidc: Oidc) -> None:
    """The whole way: button, provider, address from its userinfo endpoint, the page that was wanted, signing out of both; and no code, token, verifier or client secret is in the log or the data folder (R94, R103, R143)."""
    async with Browser() as browser:
        page = await consent(browser, served, USER)
        assert (page.status, page.url.path) == (200, "/keys"), page.text
        assert ">alice<" in page.text
        left = await browser.submit(page)
        assert any(link.startswith(f"{oidc.origin}/session/end?client_id=") for link in left.read.links)
        assert (await browser.open(f"{served.told['public_url']}/keys")).url.path == "/sign-in"
    secrets = {value for _, value in oidc.secrets()} | {oidc.client_secret}
    assert {name for name, _ in oidc.secrets()} >= {"code", "code_verifier", "id_token", "access_token"}
    assert served.event("signed_in")["by"] == "oidc"
    assert found_in(served.log.encode(), secrets) == []
    assert found_in(everything_under(served.data), secrets) == []


@pytest.mark.parametrize(
    ("user", "answer", "reason"),
    [
        ("mallory", "yes", "unknown_user"),
        (f"unverified-{USER}", "yes", "unverified_email"),
        (USER, "no", "denied"),
    ],
)
async def test_who_may_not_is_told_why(served: Serve, user: str, answer: str, reason: str) -> None:
    """Somebody whom nobody added, whose address is not verified, or who declines, gets a page of ours that says so."""
    async with Browser() as browser:
        page = await consent(browser, served, user, answer)
        assert (page.status, page.url.path) == (403, f"/oidc/refused/{reason}"), page.text
        assert (await browser.open(f"{served.told['public_url']}/keys")).url.path == "/sign-in"
