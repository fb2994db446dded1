"""What connecting refuses before anything is begun, and the small rules around it."""

import contextlib
import re
import resource
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import Inside

from proxy.catalog.grants import OAuth
from proxy.catalog.loader import load_catalog
from proxy.connecting import missing_scopes
from proxy.connectors.flow import FlowRefused, Wish, check_issuer, check_scopes, completed, new_code
from proxy.connectors.flows import Flows
from proxy.connectors.masterkey import KeyFile
from proxy.connectors.model import Connection
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.passwords import hashed, is_right, new_password
from proxy.connectors.vault import Vault
from proxy.control.attempts import Attempts, KnownBrowsers
from proxy.control.browsers import Cookies
from proxy.control.returning import safe_return
from proxy.errors import ConfigurationError
from proxy.secret import Secret

CATALOG = load_catalog()


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands in a folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


async def test_every_service_says_its_next_step(tmp_path: Path) -> None:
    """Without an app each of the 32 names the console, the redirect address and the command, or https first where http is refused."""
    given = {"wix": {"instance_id": "6a6aefc3-0000-4000-8000-000000000000"}}
    vault = await Vault.open(tmp_path, KeyFile(tmp_path / "master.key"), catalog=CATALOG, clock=time.time)
    flows = Flows(
        vault, lambda: CATALOG, Registrations({}, vault), public_url="http://localhost:8081", clock=time.time
    )
    try:
        for name, service in CATALOG.services.items():
            with pytest.raises(ConfigurationError) as refused:
                await flows.begin(Wish(name, "default", given.get(name, {}), ("x",)), actor="test")
            assert service.oauth is not None
            text, family = str(refused.value), service.oauth.family
            if service.oauth.loopback_redirect:
                assert service.console in text, name
                assert f"http://localhost:8081/callback/{family}" in text
                assert f"connector-proxy registrations set {family} --client-id ID" in text
            else:
                assert "takes only https redirect addresses" in text
            assert "--access-token-stdin" in text
    finally:
        await vault.close()


def test_an_https_address_is_good_for_all(cli: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a public https address Slack too is only a registration away."""
    monkeypatch.setenv("CONNECTOR_PROXY_CONTROL__PUBLIC_URL", "https://proxy.example.com")
    done = cli("connect", "slack", "--paste")
    assert "https://proxy.example.com/callback/slack" in done.err
    assert "registrations set slack" in done.err


def test_scopes_from_memory_are_asked_for(cli: Inside) -> None:
    """Where nobody can confirm them, a command says which to say; documented ones are taken as they are."""
    cli(
        "registrations",
        "set",
        "airtable",
        "--client-id",
        "a",
        "--client-secret-stdin",
        stdin=b"s3cret-canary",
    )
    refused = cli("connect", "airtable", "--paste")
    assert (refused.code, "--scope data.records:read" in refused.err) == (3, True)
    cli("registrations", "set", "google", "--client-id", "g", "--client-secret-stdin", stdin=b"s3cret-canary")
    taken = cli("connect", "googledrive", "--paste", stdin=b"nonsense\n")
    assert "https://accounts.google.com/o/oauth2/" in taken.err
    assert "code_challenge_method=S256" in taken.err
    assert "access_type=offline" in taken.err
    assert (taken.code, "pasted address" in taken.err) == (3, True)
    assert "s3cret-canary" not in taken.err + refused.err


def test_registrations(cli: Inside) -> None:
    """Kept sealed, listed without secrets but with what the provider must know, and forgotten on demand."""
    done = cli(
        "registrations",
        "set",
        "google",
        "--client-id",
        "g-1",
        "--client-secret-stdin",
        stdin=b"s3cret-canary\n",
    )
    assert (done.code, "http://localhost:8081/callback/google" in done.out) == (0, True)
    assert cli("registrations", "set", "work", "--client-id", "x").code == 3
    assert cli("registrations", "set", "work", "--client-id", "x", "--family", "googel").code == 3
    assert cli("registrations", "set", "work", "--client-id", "x", "--family", "google").code == 0
    listed = {one["id"]: one for one in cli("registrations", "list", "--json").document}
    assert listed["google"]["has_secret"] is True
    assert listed["work"]["redirect_address"] == "http://localhost:8081/callback/work"
    assert {"gmail", "googledrive"} <= set(listed["google"]["services"])
    shown = cli("registrations", "list")
    assert "s3cret-canary" not in shown.out + shown.err
    assert not any(b"s3cret-canary" in path.read_bytes() for path in cli.data.iterdir())
    assert cli("registrations", "remove", "work").code == 0
    assert cli("registrations", "remove", "work").code == 3


def test_a_copy_of_somebody_elses_grant_is_not_revoked_unasked(cli: Inside) -> None:
    """A token that was handed in is erased here, and said not to be revoked."""
    cli("connect", "github", "--access-token-stdin", stdin=b"ghp_x")
    done = cli("connections", "remove", "github", "--json")
    assert (done.code, done.document["revoked"]) == (0, False)
    assert "handed in" in done.document["about"]
    assert cli("connections", "list", "--json").document == []


# --- where a browser may go (R104) --------------------------------------------------------------------

ORIGINS = ("https://app.example.com", "http://localhost:3000")
GOOD = (
    "/", "/connect", "/connect/slack?x=1&y=https://evil.com", "/a/b#c", "https://app.example.com",
    "https://app.example.com/", "https://app.example.com/done?x=//y", "https://app.example.com?x", "http://localhost:3000/a",
)  # fmt: skip
HOSTS = (
    "evil.com",
    "www.evil.com/x",
    "3627734734",
    "0x7f000001",
    "evil.com@app.example.com",
    "app.example.com.evil.com",
    "%65vil.com",
    "evil.com:443",
    "[::1]/x",
)
LEADS = (
    "//", "///", "////", "/\\", "\\/", "\\\\", "/\\/", "/\t/", "/\n/", "/ /", "/.//", "/..//", "/./", "/../", "/%2f/", "/%5c", "/%09/",
    "/%2e%2e//", "/%2e/", "/;/../", "http://", "https://", "HTTP://", "https:", "https:/", "https:\\\\", "http:///", "ftp://", "//;@",
    "javascript://", "javascript:alert(1)//", "data:text/html,", "vbscript:", "\x00//", "\x01https://", " //", "\u3000//", "\u2028//",
    "/\u200b/", "/%00/", "/%0d%0aLocation:%20//", "/%23//", "/:@", "https://app.example.com@", "https://app.example.com:80@",
    "https://app.example.com.", "https://app.example.com\\@", "https://app.example.com%2f@", "https://app.example.com:x@",
    "https://app.example.com//", "https://app.example.com/\\", "https://app.example.com/..//", "?//", "#//", "", "./", "../", "x/",
)  # fmt: skip


def test_the_list_is_long() -> None:
    """The places that only look like ours are over 500."""
    assert len(set(LEADS)) * len(set(HOSTS)) > 500


@pytest.mark.parametrize("good", GOOD)
def test_places_that_are_ours(good: str) -> None:
    """A path here, or a listed origin with any path, is taken as it stands."""
    assert safe_return(good, ORIGINS) == good


@pytest.mark.parametrize("lead", LEADS)
def test_places_that_only_look_so(lead: str) -> None:
    """Whatever browsers and servers read in different ways leads nowhere (the families of known open redirects)."""
    for host in HOSTS:
        assert safe_return(lead + host, ORIGINS) is None, lead + host
        assert safe_return(lead + host, ()) is None


@given(st.text(max_size=40))
def test_no_text_leads_to_another_origin(text: str) -> None:
    """What is taken begins with one slash, or with a listed origin that ends there."""
    for origin in ("", *ORIGINS):
        found = safe_return(origin + text, ORIGINS)
        if found is not None:
            assert re.match(r"/(?![/\\])|(https://app\.example\.com|http://localhost:3000)(?:[/?]|$)", found)


# --- small rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "granted", "missing"),
    [
        (("a", "b"), ("b", "a"), ()),
        (("a", "b"), ("a",), ("b",)),
        (("email",), ("https://www.googleapis.com/auth/userinfo.email",), ()),
        (("User.Read", "offline_access"), ("https://graph.microsoft.com/user.read",), ()),
        (("mail",), ("hotmail",), ("mail",)),
        ((), ("anything",), ()),
    ],
)
def test_scopes_that_were_not_granted(
    asked: tuple[str, ...], granted: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """Other spellings of providers count as granted, and nothing else does (R107)."""
    assert missing_scopes(asked, granted) == missing


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\\b", "a\nb", "ä", "x" * 501])
def test_what_is_no_scope(scope: str) -> None:
    """Only what RFC 6749 §3.3 allows is ever sent."""
    with pytest.raises(ConfigurationError):
        check_scopes((scope,))


def test_connecting_again_keeps_what_is_not_said() -> None:
    """Person-given values, scopes and app of the connection are taken over; the provider's own values are not."""
    service = CATALOG.services["salesforce"]
    before = Connection(
        "con_1",
        "salesforce",
        "default",
        is_default=True,
        config={"instance_url": "https://a.my.salesforce.com", "login_host": "test.salesforce.com"},
        registration="mine",
        asked_scopes=("api",),
    )
    wish = completed(Wish("salesforce", "default", {}), service, before)
    assert (wish.params, wish.scopes, wish.registration) == (
        {"login_host": "test.salesforce.com"},
        ("api",),
        "mine",
    )
    said = completed(
        Wish("salesforce", "default", {"login_host": "login.salesforce.com"}, ("id",)), service, before
    )
    assert (said.params, said.scopes) == ({"login_host": "login.salesforce.com"}, ("id",))


def test_passwords() -> None:
    """A hash opens to its password only, two hashes differ, and one takes long enough to slow a guesser."""
    password = new_password()
    began = time.perf_counter()
    stored = hashed(password)
    assert time.perf_counter() - began > 0.02
    assert is_right(password, stored)
    assert not is_right(Secret(password.reveal() + "x"), stored)
    assert not is_right(Secret("x" * 2000), stored)
    assert hashed(password) != stored
    assert password.reveal() not in stored
    for broken in ("", "scrypt", "plain$1$1$1$eA==$eA==", "scrypt$x$8$1$eA==$eA==", stored[:-10]):
        assert not is_right(password, broken)


def test_guesses_are_slowed() -> None:
    """Five a minute from one address or IPv6 network, ten for one user, sixty in all; a minute gives them back."""
    now = [1000.0]
    attempts = Attempts(lambda: now[0])
    for number in range(5):
        assert attempts.wait("2001:db8::1", "ann") == 0
        attempts.failed(f"2001:db8::{number}", "ann")
    assert 59 < attempts.wait("2001:db8::ffff") <= 60
    assert attempts.wait("2001:db8:0:1::1", "ann") == attempts.wait("::ffff:192.0.2.1", "ann") == 0
    for number in range(5):
        attempts.failed(f"192.0.2.{number}", "ann")
    assert attempts.wait("198.51.100.1", "ann") > 0
    assert attempts.wait("198.51.100.1", "bob") == 0
    for number in range(50):
        attempts.failed(f"203.0.113.{number}", f"user{number}")
    assert 0 < attempts.wait("198.51.100.1", "bob") <= 60
    now[0] += 61
    assert attempts.wait("2001:db8::1", "ann") == attempts.wait("198.51.100.1", "bob") == 0


def test_a_stranger_locks_nobody_out() -> None:
    """A browser that has signed in as the user before guesses on while strangers use up all there is; five, as any source."""
    attempts, known = Attempts(lambda: 1000.0), KnownBrowsers(b"k" * 32)
    mark = known.mark("admin")
    source = known.known("admin", mark)
    assert source is not None
    assert known.known("admin", known.mark("admin")) not in {None, source}
    for stranger in (
        None,
        Secret(""),
        Secret("a.b"),
        known.mark("eve"),
        KnownBrowsers(b"x" * 32).mark("admin"),
    ):
        assert known.known("admin", stranger) is None
    for number in range(200):
        attempts.failed(f"192.0.2.{number}", "admin")
    assert attempts.wait("198.51.100.1", "admin") > 0
    for _ in range(5):
        assert attempts.wait(source, "admin", is_known=True) == 0
        attempts.failed(source, "admin", is_known=True)
    assert attempts.wait(source, "admin", is_known=True) > 0


def test_cookies_over_https_are_bound_to_the_host() -> None:
    """Over https the name carries __Host-, so no sibling host or path can set it; over loopback http it cannot."""
    assert Cookies(secure=True).name("session") == "__Host-session"
    assert Cookies(secure=False).name("session") == "connector-proxy-session"


def test_codes_are_easy_to_compare() -> None:
    """Eight consonants in two groups, another one each time."""
    codes = {new_code() for _ in range(50)}
    assert len(codes) == 50
    assert all(re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", code) for code in codes)


def test_no_command_leaves_a_core_dump(cli: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command gives up core dumps, also those that a crash reporter would be handed; where that is done already it runs too (R143)."""
    limits: list[tuple[int, tuple[int, int]]] = []
    for hard, wanted in ((resource.RLIM_INFINITY, [(resource.RLIMIT_CORE, (1, 1))]), (0, [])):
        limits.clear()
        with monkeypatch.context() as patched:
            patched.setattr(resource, "getrlimit", lambda _, hard=hard: (0, hard))
            patched.setattr(resource, "setrlimit", lambda which, pair: limits.append((which, pair)))
            cli("services", "--json")
        assert limits == wanted


ORIGIN, WITH_PATH = "https://login.example", "https://login.example/tenant"


@pytest.mark.parametrize(
    ("iss", "issuer", "told", "fine"),
    [
        (True, "", ORIGIN, True),
        (True, "", f"{ORIGIN}/", False),
        (True, "", None, False),
        (True, WITH_PATH, WITH_PATH, True),
        (True, WITH_PATH, ORIGIN, False),
        (True, WITH_PATH, f"{WITH_PATH}/", False),
        (True, WITH_PATH, None, False),
        (False, WITH_PATH, None, True),
        (False, WITH_PATH, WITH_PATH, True),
        (False, WITH_PATH, "https://login.example/other", False),
        (False, "", "https://whoever.example", True),
    ],
)
def test_the_issuer_is_compared_to_the_letter(
    *, iss: bool, issuer: str, told: str | None, fine: bool
) -> None:
    """The answer's issuer is the one that the service's file names, with its path, else the origin it sends browsers to (R99)."""
    oauth = OAuth("acme", f"{ORIGIN}/authorize", f"{ORIGIN}/token", iss=iss, issuer=issuer)
    values = {"code": "c", "state": "s"} | ({} if told is None else {"iss": told})
    if fine:
        check_issuer(oauth, values)
        return
    with pytest.raises(FlowRefused, match="another provider"):
        check_issuer(oauth, values)


def test_a_secret_that_does_not_open(cli: Inside) -> None:
    """One damaged row breaks no list: it stands there with the remedy; ``check`` fails for it until it is set again, and connecting says the same (R140)."""
    for name in ("google", "github"):
        cli("registrations", "set", name, "--client-id", "x", "--client-secret-stdin", stdin=b"s3cret-canary")
    with contextlib.closing(sqlite3.connect(cli.data / "vault.db")) as database, database:
        database.execute("UPDATE registrations SET client_secret = x'00' WHERE registration_id = 'google'")
    remedy = "registrations set google --client-id ID --client-secret-stdin --family google"
    listed = cli("registrations", "list")
    assert (listed.code, "does not open" in listed.out, "github" in listed.out) == (0, True, True)
    assert remedy in listed.out
    damaged = {one["id"]: one["damaged"] for one in cli("registrations", "list", "--json").document}
    assert damaged == {"github": False, "google": True}
    checked = cli("check")
    assert (checked.code, remedy in checked.err) == (3, True)
    refused = cli("connect", "googledrive", "--paste")
    assert (refused.code != 0, remedy in refused.err) == (True, True)
    again = ("registrations", "set", "google", "--client-id", "x", "--client-secret-stdin")
    assert cli(*again, stdin=b"new-secret").code == 0
    assert cli("check").code == 0
    assert "s3cret-canary" not in listed.out + checked.err + refused.err
