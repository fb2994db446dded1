"""The OAuth dialect of each shipped service, against what its provider documents, taken down apart from the files.

``oauth.json``, by service: ``authorize`` (address, parameters) and the requests ``exchange``, ``refresh`` or
``mint`` and ``revoke`` as [method and address, credentials, body], with ID, SECRET, CODE and so on in place of
the values; ``answer`` and ``answer_to_refresh`` in the provider's shape with what is to come of them; ``refusals``
as [status, body, what it means].
"""

import base64
import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from proxy.catalog import check_config, load_catalog
from proxy.catalog.model import Service
from proxy.connectors.model import Tokens
from proxy.connectors.oauth import answers, messages
from proxy.connectors.oauth.answers import Grant, TokenFault, read_answer
from proxy.connectors.oauth.messages import Outgoing
from proxy.connectors.oauth.registration import Registration
from proxy.errors import ConfigurationError
from proxy.secret import Secret

FACTS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "oauth.json").read_text(encoding="utf-8")
)
CATALOG = load_catalog()
NOW = 1_800_000_000.0
REDIRECT = "https://proxy.example/callback/x"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
INSTANCE = "4c63f6b1-cf1f-4e6c-9c4b-1f4b9f5f8a10"
VALUES = {
    "CHALLENGE": CHALLENGE,
    "VERIFIER": VERIFIER,
    "REDIRECT": REDIRECT,
    "INSTANCE": INSTANCE,
    "STATE": "st/ate",
    "REFRESH": "ref/resh+1",
    "ACCESS": "access-1",
    "SECRET": "s:ecret/1",
    "CODE": "4/co de",
    "ID": "client:1",
}
CONNECTABLE = sorted(name for name, one in CATALOG.services.items() if one.oauth is not None)
REFRESHING = [name for name in CONNECTABLE if "answer_to_refresh" in FACTS[name]]
REFUSALS = [
    pytest.param(name, *refusal, id=f"{name}-{refusal[0]}-{at}")
    for name in CONNECTABLE
    for at, refusal in enumerate(FACTS[name]["refusals"])
]


def app(service: Service) -> Registration:
    assert service.oauth is not None
    return Registration(service.oauth.family, service.oauth.family, VALUES["ID"], Secret(VALUES["SECRET"]))


def config(service: Service) -> dict[str, str]:
    """What a person gave and the installer told: nothing, except where the file cannot go without."""
    return {"instance_id": INSTANCE} if service.type_id == "wix" else {}


def filled(text: str, *, quoted: bool) -> str:
    for name, value in VALUES.items():
        text = text.replace(name, urllib.parse.quote_plus(value) if quoted else value)
    return text


def wanted(expected: list[str]) -> tuple[str, str, str | None, bytes, str | None]:
    """Method, address, credentials, exact body and its type, as the table has them."""
    line, credentials, body = expected
    method, _, url = line.partition(" ")
    is_json = body.startswith("{")
    pair = f"{urllib.parse.quote_plus(VALUES['ID'])}:{urllib.parse.quote_plus(VALUES['SECRET'])}"
    authorization = {
        "": None,
        "basic": "Basic " + base64.b64encode(pair.encode()).decode(),
        "bearer ACCESS": f"Bearer {VALUES['ACCESS']}",
    }[credentials]
    kind = "application/json" if is_json else "application/x-www-form-urlencoded" if body else None
    url = url.replace("/ID/", f"/{urllib.parse.quote(VALUES['ID'], safe='')}/")
    return method, url, authorization, filled(body, quoted=not is_json).encode(), kind


def sent(outgoing: Outgoing) -> tuple[str, str, str | None, bytes, str | None]:
    assert outgoing.headers["Accept"] == "application/json"
    told = outgoing.headers.get
    return outgoing.method, outgoing.url, told("Authorization"), outgoing.body, told("Content-Type")


def result(grant: Grant) -> dict[str, Any]:
    tokens = grant.tokens
    assert grant.unfit == ()
    return {
        "access": tokens.access_token.reveal(),
        "refresh": None if tokens.refresh_token is None else tokens.refresh_token.reveal(),
        "expires_in": None if tokens.expires_at is None else tokens.expires_at - NOW,
        "refresh_expires_in": None if tokens.refresh_expires_at is None else tokens.refresh_expires_at - NOW,
        "scopes": None if grant.scopes is None else list(grant.scopes),
        "config": dict(grant.config),
        "metadata": dict(grant.metadata),
        "account": grant.account,
        "account_id": grant.account_id,
    }


def answered(name: str, key: str, *, refreshed: bool = False) -> Grant:
    body = json.dumps(FACTS[name][key]).encode()
    return read_answer(
        CATALOG.services[name], 200, "application/json", body, sent_at=NOW, refreshed=refreshed
    )


def test_every_service_is_in_the_table():
    """All 32 services can be connected, and none goes without its row."""
    assert CONNECTABLE == sorted(FACTS) == sorted(CATALOG.services)


@pytest.mark.parametrize("name", CONNECTABLE)
def test_authorization_address(name):
    """The browser goes where the provider documents, with its parameters and no others, S256 but for exceptions (R94)."""
    service = CATALOG.services[name]
    assert service.oauth is not None
    text = messages.authorization_address(
        service,
        app(service),
        redirect_uri=REDIRECT,
        state=Secret(VALUES["STATE"]),
        verifier=Secret(VERIFIER),
        scopes=service.oauth.scopes,
        config={},
    )
    base, _, query = text.partition("?")
    url, params = FACTS[name]["authorize"]
    expected = {
        key: filled(value, quoted=False) if value.isupper() else value for key, value in params.items()
    }
    assert base == url
    assert sorted(expected.items()) == sorted(urllib.parse.parse_qsl(query, strict_parsing=True))


@pytest.mark.parametrize("name", [name for name in CONNECTABLE if "exchange" in FACTS[name]])
def test_exchange_bytes(name):
    """The code is exchanged by exactly these bytes, the app named as the provider wants it (R106)."""
    service = CATALOG.services[name]
    outgoing = messages.exchange_request(
        service,
        app(service),
        code=Secret(VALUES["CODE"]),
        redirect_uri=REDIRECT,
        verifier=Secret(VERIFIER),
        config={},
    )
    assert sent(outgoing) == wanted(FACTS[name]["exchange"])


@pytest.mark.parametrize("name", [name for name in CONNECTABLE if "refresh" in FACTS[name]])
def test_refresh_bytes(name):
    """A refresh is exactly these bytes; scopes only where they are to be repeated."""
    service = CATALOG.services[name]
    outgoing = messages.refresh_request(
        service, app(service), refresh_token=Secret(VALUES["REFRESH"]), config={}
    )
    assert sent(outgoing) == wanted(FACTS[name]["refresh"])


@pytest.mark.parametrize("name", [name for name in CONNECTABLE if "mint" in FACTS[name]])
def test_mint_bytes(name):
    """Where tokens are bought with the app's own credentials, by exactly these bytes (Wix)."""
    service = CATALOG.services[name]
    told = messages.from_callback(service, {"instanceId": INSTANCE.upper(), "state": "x"})
    _, metadata = check_config(service, told)
    outgoing = messages.mint_request(service, app(service), config={}, metadata=metadata)
    assert sent(outgoing) == wanted(FACTS[name]["mint"])


def test_a_service_refreshes_mints_or_lasts():
    """Every service has a way to a new token, or tokens that do not end."""
    for name in CONNECTABLE:
        oauth = CATALOG.services[name].oauth
        assert oauth is not None
        ways = {way for way in ("refresh", "mint") if way in FACTS[name]}
        assert ways == {"none": set(), "remint": {"mint"}}.get(oauth.refresh, {"refresh"})


@pytest.mark.parametrize("name", CONNECTABLE)
def test_revocation_bytes(name):
    """A grant is revoked by exactly these requests, or the provider knows none (R109)."""
    service = CATALOG.services[name]
    tokens = Tokens(Secret(VALUES["ACCESS"]), Secret(VALUES["REFRESH"]))
    outgoing = messages.revoke_requests(service, app(service), tokens, config={})
    assert [sent(one) for one in outgoing] == [wanted(one) for one in FACTS[name]["revoke"]]


@pytest.mark.parametrize("name", CONNECTABLE)
def test_answer(name):
    """The provider's answer gives tokens, times, scopes, names and the values that addresses need (R105, R107, R180)."""
    grant = answered(name, "answer")
    assert result(grant) == FACTS[name]["granted"]
    check_config(CATALOG.services[name], {**grant.config, **grant.metadata, **config(CATALOG.services[name])})


@pytest.mark.parametrize("name", REFRESHING)
def test_answer_to_a_refresh(name):
    """Its answer to a refresh does so too: new tokens replace, absent ones say that the old one stays (R114)."""
    assert result(answered(name, "answer_to_refresh", refreshed=True)) == FACTS[name]["renewed"]


@pytest.mark.parametrize(("name", "status", "body", "meaning"), REFUSALS)
def test_refusal(name, status, body, meaning):
    """What the provider says when a grant is dead, the app is wrong or it is busy is told apart (R120)."""
    with pytest.raises(TokenFault) as caught:
        read_answer(
            CATALOG.services[name], status, "application/json", json.dumps(body).encode(), sent_at=NOW
        )
    assert type(caught.value) is getattr(answers, meaning)


def test_values_that_lead_elsewhere_are_left_out():
    """An instance or data centre address outside the service is not taken, and the tokens are not lost (R76)."""
    for name, member, param in (("salesforce", "instance_url", "instance_url"), ("wrike", "host", "host")):
        body = json.dumps(FACTS[name]["answer"] | {member: "https://evil.example"}).encode()
        grant = read_answer(CATALOG.services[name], 200, "application/json", body, sent_at=NOW)
        assert (dict(grant.config), grant.unfit) == ({}, (param,))
        assert grant.tokens.refresh_token is not None
    with pytest.raises(ConfigurationError, match="instance_url: is missing"):
        check_config(CATALOG.services["salesforce"], {})
    check_config(
        CATALOG.services["salesforce"], {"login_host": "test.salesforce.com"}, before_connecting=True
    )


def test_tenants_and_login_hosts():
    """Microsoft's directory and Salesforce's login host come from the connection, and bind every endpoint."""
    outlook, salesforce = CATALOG.services["outlook"], CATALOG.services["salesforce"]
    own = {"tenant": "contoso.onmicrosoft.com"}
    assert (
        messages.refresh_request(outlook, app(outlook), refresh_token=Secret("r"), config=own).url
        == "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
    )
    sandbox = {"login_host": "acme--uat.sandbox.my.salesforce.com"}
    tokens = Tokens(Secret("a"), Secret("r"))
    (revoke,) = messages.revoke_requests(salesforce, app(salesforce), tokens, config=sandbox)
    assert revoke.url == "https://acme--uat.sandbox.my.salesforce.com/services/oauth2/revoke"


def test_slacks_bot_and_user_are_two_connections():
    """One install may give both tokens: each service takes its own, and never the other's in its place."""
    both = {**FACTS["slack"]["answer"], "access_token": "BOT", "token_type": "bot", "scope": "chat:write"}
    for name, expected in (("slack", "ACCESS"), ("slackbot", "BOT")):
        body = json.dumps(both).encode()
        grant = read_answer(CATALOG.services[name], 200, "application/json", body, sent_at=NOW)
        assert grant.tokens.access_token.reveal() == expected
    only_bot = json.dumps(both | {"authed_user": {"id": "U123"}}).encode()
    with pytest.raises(answers.OutcomeUnknown):
        read_answer(CATALOG.services["slack"], 200, "application/json", only_bot, sent_at=NOW)
