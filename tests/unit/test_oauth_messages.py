"""Messages to providers: what goes into the address, what into the body, and what never does."""

import base64
import hashlib
import json
import urllib.parse
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vaults import service

from proxy.catalog.grants import OAuth
from proxy.catalog.model import Host, Param, Service
from proxy.catalog.origin import OriginTemplate
from proxy.connectors.model import Tokens
from proxy.connectors.oauth import messages
from proxy.connectors.oauth.messages import Outgoing
from proxy.connectors.oauth.registration import Registration
from proxy.errors import ConfigurationError, ConnectionConfigMissing, CredentialInvalid
from proxy.secret import Secret

ID, SECRET = "client-1", "s3cret-of-the-app"
APP = Registration("acme", "acme", ID, Secret(SECRET))
PUBLIC = Registration("acme", "acme", ID)
REDIRECT = "https://proxy.example/callback/acme"
STATE, VERIFIER, CODE = Secret("state-1"), Secret("v" * 43), Secret("code-1")
SECRETS = (SECRET, "code-1", "refresh-1", "access-1", "v" * 43)


def acme(**oauth: Any) -> Service:
    table: dict[str, Any] = {
        "authorization_url": "https://acme.example/authorize",
        "token_url": "https://acme.example/token",
        "revoke_url": "https://acme.example/revoke",
        **oauth,
    }
    return replace(service("acme"), oauth=OAuth("acme", **table))


def address(known: Service, *, scopes: tuple[str, ...] = (), **config: str) -> tuple[str, dict[str, str]]:
    text = messages.authorization_address(
        known, APP, redirect_uri=REDIRECT, state=STATE, verifier=VERIFIER, scopes=scopes, config=config
    )
    base, _, query = text.partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    assert len(pairs) == len(dict(pairs))
    return base, dict(pairs)


def exchange(known: Service, app: Registration = APP, **config: str) -> Outgoing:
    return messages.exchange_request(
        known, app, code=CODE, redirect_uri=REDIRECT, verifier=VERIFIER, config=config
    )


def refreshed(known: Service, app: Registration = APP, **more: Any) -> Outgoing:
    return messages.refresh_request(
        known, app, refresh_token=Secret("refresh-1"), config=more.pop("config", {}), **more
    )


def form(outgoing: Outgoing) -> dict[str, str]:
    assert outgoing.headers["Content-Type"] == "application/x-www-form-urlencoded"
    return dict(urllib.parse.parse_qsl(outgoing.body.decode(), keep_blank_values=True, strict_parsing=True))


# --- the browser's way --------------------------------------------------------------------------------


def test_verifiers_are_fresh_and_of_the_standard():
    """Each attempt has a verifier of its own, 43 to 128 unreserved characters (R94, RFC 7636 §4.1)."""
    several = [messages.new_verifier().reveal() for _ in range(20)]
    assert len(set(several)) == 20
    for verifier in several:
        assert 43 <= len(verifier) <= 128
        assert set(verifier) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def test_the_address_is_the_standards():
    """Code flow, our redirect and state, PKCE S256, and scopes where some are asked for (R94, R95)."""
    base, params = address(acme(), scopes=("read", "write all"))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    assert base == "https://acme.example/authorize"
    assert params == {
        "response_type": "code",
        "client_id": ID,
        "redirect_uri": REDIRECT,
        "state": "state-1",
        "scope": "read write all",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }


def test_the_challenge_is_that_of_the_standards_appendix():
    """RFC 7636 appendix B, to the letter."""
    text = messages.authorization_address(
        acme(),
        APP,
        redirect_uri=REDIRECT,
        state=STATE,
        verifier=Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        scopes=(),
        config={},
    )
    assert "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&" in text


@pytest.mark.parametrize("pkce", ["required", "supported"])
def test_pkce_goes_with_every_attempt(pkce):
    """Also where the provider does not demand it; and the verifier goes with the code (R94)."""
    _, params = address(acme(pkce=pkce))
    assert params["code_challenge_method"] == "S256"
    assert form(exchange(acme(pkce=pkce)))["code_verifier"] == VERIFIER.reveal()


def test_pkce_is_off_only_where_the_file_says_so():
    """A listed exception sends neither half."""
    _, params = address(acme(pkce="off"))
    assert not {"code_challenge", "code_challenge_method"} & params.keys()
    assert "code_verifier" not in form(exchange(acme(pkce="off")))


def test_dialects_of_the_address():
    """Own names for client id and scopes, another separator, further params, a query of its own."""
    known = acme(
        authorization_url="https://acme.example/authorize?v=2",
        client_id_param="client_key",
        scope_param="user_scope",
        scope_separator=",",
        authorization_params={"owner": "user", "app": "{client_id}", "asked": "{scope}"},
    )
    base, params = address(known, scopes=("a", "b"))
    assert base == "https://acme.example/authorize"
    assert {name: params[name] for name in ("v", "client_key", "user_scope", "owner", "app", "asked")} == {
        "v": "2",
        "client_key": ID,
        "user_scope": "a,b",
        "owner": "user",
        "app": ID,
        "asked": "a,b",
    }
    assert not {"client_id", "scope"} & params.keys()


def test_no_scopes_no_parameter():
    """Without scopes the provider decides; an empty parameter would say something else."""
    _, params = address(acme(authorization_params={"asked": "{scope}"}))
    assert not {"scope", "asked"} & params.keys()


def test_an_installer_gets_what_its_file_lists():
    """With client_credentials nothing of the code flow is added to the installer's address."""
    known = acme(
        grant="client_credentials",
        refresh="remint",
        authorization_params={"appId": "{client_id}", "redirectUrl": "{redirect_uri}", "state": "{state}"},
    )
    assert address(known)[1] == {"appId": ID, "redirectUrl": REDIRECT, "state": "state-1"}
    assert messages.needs_browser(known)
    assert not messages.needs_browser(acme(grant="client_credentials", authorization_url=""))


def test_values_from_the_redirect():
    """Values whose source is the callback are picked out of its query, nothing else."""
    known = replace(
        acme(),
        params={
            "instance_id": Param("instance_id", ".+", source="callback:instanceId"),
            "other": Param("other", ".+"),
        },
    )
    query = {"instanceId": "i-1", "other": "x", "state": "s"}
    assert messages.from_callback(known, query) == {"instance_id": "i-1"}
    assert messages.from_callback(known, {"instanceId": ""}) == {}


# --- values in addresses ------------------------------------------------------------------------------

LOGIN = Param("login_host", r"(?:login|test)\.acme\.example|[a-z.]{1,40}", default="login.acme.example")
TENANT = Param("tenant", r"[a-z0-9.-]{1,40}", default="common", informational=True)


def tenanted() -> Service:
    known = acme(
        authorization_url="https://{login_host}/authorize",
        token_url="https://{login_host}/{tenant}/token",
        revoke_url="https://acme.example/apps/{client_id}/token",
    )
    hosts = (*known.hosts, Host("login", OriginTemplate("https://{login_host}", ("acme.example",))))
    return replace(known, hosts=hosts, params={"login_host": LOGIN, "tenant": TENANT})


def test_endpoints_take_values_of_the_connection_or_defaults():
    """Hosts and path segments come from the connection's values, else from the file's defaults."""
    assert address(tenanted())[0] == "https://login.acme.example/authorize"
    assert address(tenanted(), login_host="test.acme.example")[0] == "https://test.acme.example/authorize"
    assert exchange(tenanted()).url == "https://login.acme.example/common/token"
    assert exchange(tenanted(), tenant="acme.example").url == "https://login.acme.example/acme.example/token"


@pytest.mark.parametrize(
    "value",
    [
        "evil.example", "acme.example", "login.acme.example.evil.example", "login.acme.example:444",
        "u@login.acme.example", "login.acme.example/x", "login.acme.example#", "LOGIN.acme.example", "\uff4cogin.acme.example",
    ],
)  # fmt: skip
def test_no_value_turns_an_endpoint_elsewhere(value):
    """A value that leads outside the service is refused when the address is built, whatever was stored (R76, R81)."""
    with pytest.raises(CredentialInvalid) as caught:
        exchange(tenanted(), login_host=value)
    assert value not in str(caught.value)


def test_a_host_that_nothing_binds_is_not_asked():
    """A param as host without one of ``[[hosts]]`` to bind it leads nowhere; nor does a service without [oauth]."""
    with pytest.raises(CredentialInvalid, match="binds"):
        exchange(replace(tenanted(), hosts=tenanted().hosts[:1]))
    with pytest.raises(ValueError, match="has no"):
        exchange(service("acme"))


@pytest.mark.parametrize("value", ["a/b", "a?b", "a#b", "a%2fb", "..%2f", "a b", "a\n"])
def test_no_value_changes_the_path(value):
    """A path value has its param's form, or there is no request."""
    with pytest.raises(CredentialInvalid):
        exchange(tenanted(), tenant=value)


@given(st.text(max_size=12))
def test_a_path_value_stays_one_segment(value):
    """Even a param that allows anything fills exactly one path segment of the same host."""
    known = acme(token_url="https://acme.example/a/{free}/token")
    known = replace(known, params={"free": Param("free", r"[\s\S]*")})
    try:
        url = exchange(known, free=value).url
    except (ConnectionConfigMissing, CredentialInvalid):
        return
    parts = urllib.parse.urlsplit(url)
    assert (parts.netloc, parts.query, parts.fragment) == ("acme.example", "", "")
    assert [urllib.parse.unquote(part) for part in parts.path.split("/")] == ["", "a", value, "token"]


def test_a_missing_value_is_named():
    """Without a value and default the error says which is missing; it is the account's to complete."""
    known = replace(acme(token_params={"site": "{site}"}), params={"site": Param("site", "[a-z]+")})
    with pytest.raises(ConnectionConfigMissing, match="lacks site"):
        exchange(known)
    assert form(exchange(known, site="x"))["site"] == "x"


# --- token requests -----------------------------------------------------------------------------------


def test_the_exchange():
    """RFC 6749 §4.1.3 with PKCE, the app in the body; JSON is asked for."""
    outgoing = exchange(acme())
    assert (outgoing.method, outgoing.url, outgoing.kind) == (
        "POST",
        "https://acme.example/token",
        "exchange",
    )
    assert form(outgoing) == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "redirect_uri": REDIRECT,
        "code_verifier": "v" * 43,
        "client_id": ID,
        "client_secret": SECRET,
    }
    assert outgoing.headers["Accept"] == "application/json"
    assert "Authorization" not in outgoing.headers


def test_basic_is_percent_encoded():
    """Id and secret are form-encoded each before they are joined (R106, RFC 6749 §2.3.1)."""
    app = Registration("acme", "acme", "id:with/odd signs", Secret("p+:%&=~"))
    outgoing = exchange(acme(client_auth="basic"), app)
    scheme, _, value = outgoing.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value) == b"id%3Awith%2Fodd+signs:p%2B%3A%25%26%3D~"
    assert not {"client_id", "client_secret"} & form(outgoing).keys()


@pytest.mark.parametrize("way", ["basic", "body", "none"])
def test_a_public_client_names_itself_in_the_body(way):
    """Without a secret there is no authentication, only the client id (RFC 6749 §3.2.1; Airtable)."""
    outgoing = exchange(acme(client_auth=way), PUBLIC)
    assert form(outgoing)["client_id"] == ID
    assert "client_secret" not in form(outgoing)
    assert "Authorization" not in outgoing.headers


def test_client_auth_none_sends_no_secret():
    """Where the file says none, a secret that is there stays here (R106)."""
    outgoing = exchange(acme(client_auth="none"))
    assert form(outgoing)["client_id"] == ID
    assert SECRET.encode() not in outgoing.body
    assert "Authorization" not in outgoing.headers


def test_json_bodies_and_own_names():
    """Where the file says json the same members go as JSON, under its own name of the client id."""
    outgoing = exchange(acme(token_body="json", client_id_param="client_key", pkce="off"))
    assert outgoing.headers["Content-Type"] == "application/json"
    assert json.loads(outgoing.body) == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "redirect_uri": REDIRECT,
        "client_key": ID,
        "client_secret": SECRET,
    }


def test_the_refresh():
    """RFC 6749 §6; scopes only where the file repeats them, those asked for before those of the file."""
    assert form(refreshed(acme(scopes=("a",)))) == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh-1",
        "client_id": ID,
        "client_secret": SECRET,
    }
    repeating = acme(
        scopes=("a", "b"),
        refresh_params={"scope": "{scope}"},
        token_params={"scope": "{scope}"},
        refresh_url="https://acme.example/renew",
    )
    assert form(refreshed(repeating))["scope"] == "a b"
    assert form(refreshed(repeating, scopes=("c",)))["scope"] == "c"
    assert form(exchange(repeating))["scope"] == "a b"
    assert refreshed(repeating).url == "https://acme.example/renew"
    assert refreshed(repeating).kind == "refresh"
    assert "scope" not in form(refreshed(replace(repeating, oauth=replace(repeating.oauth, scopes=()))))


def test_the_mint():
    """RFC 6749 §4.4, with values of the connection, be they config or metadata."""
    known = acme(grant="client_credentials", refresh="remint", token_params={"instance_id": "{instance_id}"})
    known = replace(known, params={"instance_id": Param("instance_id", "[0-9a-f]+", informational=True)})
    outgoing = messages.mint_request(known, APP, config={}, metadata={"instance_id": "ab12"})
    assert form(outgoing) == {
        "grant_type": "client_credentials",
        "instance_id": "ab12",
        "client_id": ID,
        "client_secret": SECRET,
    }
    assert outgoing.kind == "mint"
    with pytest.raises(ConnectionConfigMissing, match="instance_id"):
        messages.mint_request(known, APP, config={}, metadata={})
    scoped = messages.mint_request(
        acme(grant="client_credentials", refresh="remint"), APP, config={}, metadata={}, scopes=("a", "b")
    )
    assert form(scoped)["scope"] == "a b"


# --- revocation ---------------------------------------------------------------------------------------

PAIR = Tokens(Secret("access-1"), Secret("refresh-1"))


def revoked(tokens: Tokens = PAIR, app: Registration = APP, **oauth: Any) -> tuple[Outgoing, ...]:
    return messages.revoke_requests(acme(**oauth), app, tokens, config={})


def test_revocation_names_the_refresh_token():
    """RFC 7009: the refresh token ends the grant; without one the access token is named (R109)."""
    (outgoing,) = revoked()
    assert form(outgoing) == {"token": "refresh-1", "client_id": ID, "client_secret": SECRET}
    (outgoing,) = revoked(Tokens(Secret("access-1")))
    assert form(outgoing)["token"] == "access-1"
    assert outgoing.kind == "revoke"
    assert revoked(revoke_url="") == ()


def test_dialects_of_revocation():
    """Bearer, basic with JSON and DELETE, nothing but the token, hints, and both tokens one after another."""
    (bearer,) = revoked(revoke_auth="bearer", revoke_body="none")
    assert (bearer.headers["Authorization"], bearer.body) == ("Bearer access-1", b"")
    assert "Content-Type" not in bearer.headers
    (deleted,) = revoked(
        revoke_url="https://acme.example/apps/{client_id}/token",
        revoke_method="DELETE",
        revoke_auth="basic",
        revoke_body="json",
        revoke_param="access_token",
        revoke_token="access",
    )
    assert (deleted.method, deleted.url) == ("DELETE", f"https://acme.example/apps/{ID}/token")
    assert json.loads(deleted.body) == {"access_token": "access-1"}
    assert base64.b64decode(deleted.headers["Authorization"].split()[1]).decode() == f"{ID}:{SECRET}"
    (bare,) = revoked(revoke_auth="none")
    assert bare.body == b"token=refresh-1"
    (hinted,) = revoked(revoke_hint=True)
    assert form(hinted)["token_type_hint"] == "refresh_token"
    first, second = revoked(revoke_token="both", revoke_auth="none", revoke_hint=True)
    assert (first.body, second.body) == (
        b"token=refresh-1&token_type_hint=refresh_token",
        b"token=access-1&token_type_hint=access_token",
    )


# --- what never happens -------------------------------------------------------------------------------


def all_messages(known: Service) -> list[Outgoing]:
    return [exchange(known), refreshed(known), *messages.revoke_requests(known, APP, PAIR, config={})]


@pytest.mark.parametrize("way", ["basic", "body", "none"])
@pytest.mark.parametrize("revoke", ["basic", "body", "none", "bearer"])
def test_no_secret_in_an_address_or_a_text(way, revoke):
    """No code, token, verifier or secret stands in a URL, nor shows in repr or str of a message (R106, R143)."""
    known = acme(client_auth=way, revoke_auth=revoke, token_params={"x": "{client_id}"})
    for outgoing in all_messages(known):
        for secret in SECRETS:
            assert secret not in outgoing.url
            assert secret not in f"{outgoing!r}{outgoing!s}"
    base, params = address(known)
    assert not any(secret in f"{base}{params}" for secret in SECRETS)


def test_registrations_are_valid_from_birth():
    """Ids, families, client ids and secrets that cannot be are refused together, the secret unseen."""
    with pytest.raises(ConfigurationError) as caught:
        Registration("a/b", "Fam", "a\nb", Secret("se\ncret"))
    assert len(caught.value.faults) == 4
    assert "cret" not in str(caught.value).replace("client_secret", "")
    assert SECRET not in repr(APP)
