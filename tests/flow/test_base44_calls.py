"""Base44's connectors calls over HTTP: who gets which token, in which words the others are refused (R165-R184)."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.app44 import APP, SERVICES, STATIC, scene
from support.browser import Browser
from support.stores import edit

from proxy.connectors.oauth.registration import Registration
from proxy.control.base44.asking import Allowance, Asker
from proxy.errors import InvalidKey, NotPermitted, RateLimited, StoreError
from proxy.forwarding.keys import Grant, KeyRing
from proxy.forwarding.permits import compile_permits, parse_permit
from proxy.keys import KeyRecord, digest, generate
from proxy.secret import Secret

TYPES = ("external-auth/tokens/slack", "external-auth/tokens/notion", "external-auth/tokens/linear")


def one_code(answer: Any) -> tuple[int, str]:
    """Status and code, once the answer has the members that both of Base44's programs read."""
    told = answer.document
    assert told["message"] == told["detail"]
    assert isinstance(told["detail"], str)
    assert told["instance"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Proxy-Status"].startswith("connector-proxy; error=")
    return answer.status, answer.code


async def test_a_connection_in_base44s_words(tmp_path: Path) -> None:
    """R165, R166, R180: the token, its type, and connection_config as a map of strings, or null where there is none."""
    async with scene(tmp_path) as one:
        key = await one.key("slack", "salesforce")
        await one.connect("slack")
        config = {"instance_url": "https://acme.my.salesforce.com"}
        await one.connect("salesforce", config=config)
        slack, salesforce = await one.token_of("slack", key), await one.token_of("salesforce", key)
        assert slack.document == {
            "access_token": one.token("slack"),
            "integration_type": "slack",
            "connection_config": None,
        }
        assert salesforce.document["connection_config"] == config
        assert (slack.status, slack.headers["Content-Type"]) == (200, "application/json")
        assert slack.headers["Cache-Control"] == "no-store"


async def test_every_token_given_is_audited_before_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R157, R143: an audit row names key and connection; no row, no token; and no log line holds a token or key."""
    async with scene(tmp_path) as one:
        key = await one.key("slack")
        saved = await one.connect("slack", "work")
        assert (await one.token_of("slack", key)).status == 200
        assert (await one.ask(f"external-auth/tokens/connectors/{saved.connection_id}", key)).status == 200
        row = (f"service key {key[4:12]}", "slack@work")
        assert await one.audited("token.reveal") == [row, row]

        async def full(*_: object) -> None:
            raise StoreError("the disk is full", reason="full")

        monkeypatch.setattr(type(one.vault), "record", full)
        refused = await one.token_of("slack", key)
        assert one_code(refused) == (503, "vault_unavailable")
        assert refused.headers["Retry-After"] == "5"
        assert one.token("slack") not in refused.text
        events = await one.logged(3)
        assert [(event["call"], event["status"], event["key_id"]) for event in events] == [
            ("external-auth/tokens", 200, key[4:12]),
            ("external-auth/tokens/connectors", 200, key[4:12]),
            ("external-auth/tokens", 503, key[4:12]),
        ]
        for secret in (*one.tokens, key):
            assert secret not in one.text.getvalue()


async def test_who_gets_nothing(tmp_path: Path) -> None:
    """R84, R85, R173: no key, a strange, revoked, expired or proxy key, and another app's id get 401 and no token."""
    async with scene(tmp_path) as one:
        await one.connect("slack")
        good = await one.key("slack")
        revoked = await one.key("slack")
        await one.vault.revoke_key(revoked[4:12])
        bodies = set()
        for key in (
            None,
            generate()[1].reveal(),
            revoked,
            await one.key("*", kind="proxy"),
            await one.key("slack", expires_at=time.time() - 1),
            f"b44k_{good}",
            "x",
        ):
            refused = await one.token_of("slack", key)
            assert one_code(refused) == (401, "invalid_key")
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")
            assert one.token("slack") not in refused.text
            bodies.add(refused.document["detail"])
        assert len(bodies) == 1
        foreign = await one.ask("external-auth/tokens/slack", good, app="another")
        assert one_code(foreign) == (401, "foreign_app")
        assert (await one.ask("external-auth/tokens/slack", app="another")).code == "invalid_key"


async def test_the_ways_to_show_the_key(tmp_path: Path) -> None:
    """As Bearer and as the command line's ``api_key: b44k_KEY``; two different ones are refused, the same one twice is one (R86, R91)."""
    async with scene(tmp_path) as one:
        await one.connect("slack")
        key, other = await one.key("slack"), await one.key("slack")
        place = "external-auth/tokens/slack"
        for headers, status in (
            ({"api_key": f"b44k_{key}"}, 200),
            ({"Authorization": f"Bearer {key}", "api_key": f"b44k_{key}"}, 200),
            ({"Authorization": f"Bearer {key}", "on-behalf-of": "Bearer eyJ.a.user"}, 200),
            ({"api_key": key}, 401),
            ({"Authorization": f"Basic {key}"}, 401),
            ({"Authorization": f"Bearer {key} {key}"}, 401),
            ({"Authorization": f"Bearer {key}", "api_key": f"b44k_{other}"}, 400),
            ({"Authorization": "Bearer eyJ.a.user", "api_key": f"b44k_{key}"}, 400),
        ):
            answer = await one.ask(place, headers=headers)
            assert answer.status == status, (headers.keys(), answer)


async def test_what_can_be_wrong_with_an_account(tmp_path: Path) -> None:
    """R168, R169, R178: an unknown type, nothing connected, a dead grant and several accounts have a code each, and say what to do."""
    async with scene(tmp_path) as one:
        key = await one.key("*")
        unknown = await one.token_of("slak", key)
        assert one_code(unknown) == (404, "unknown_service")
        assert 'did you mean "slack"?' in unknown.document["detail"]
        missing = await one.token_of("slack", key)
        assert one_code(missing) == (404, "NOT_FOUND")
        assert missing.document["connect_url"].endswith("/connect/slack")
        for name in ("..%2Fpayments", "%2e%2e", "slack%20", "SLACK", "slack%00", "connectors%2Fx"):
            assert (await one.token_of(name, key)).status in {400, 404}, name
        await one.connect("slack", expires_at=time.time() - 60)
        dead = await one.token_of("slack", key)
        assert one_code(dead)[0] == 424
        assert dead.document["connect_url"].endswith("/connect/slack")
        await one.connect("notion", "a")
        await one.connect("notion", "b")
        assert (await one.token_of("notion", key)).document["access_token"] == one.token("notion", "a")
        await one.vault.remove("notion", "a")
        await one.connect("notion", "c")
        assert one_code(await one.token_of("notion", key)) == (409, "ambiguous_connection")


async def test_a_key_has_what_its_permits_say(tmp_path: Path) -> None:
    """A token goes only to a key with a permit for the whole service, or for all of that connection; which then is the one it means."""
    async with scene(tmp_path) as one:
        for name in ("main", "work"):
            await one.connect("slack", name)
        await one.connect("notion")
        slack, work = await one.key("slack"), await one.key("slack@work")
        both = await one.key("slack@work", "slack@main")
        for key, service, token in (
            (slack, "slack", one.token("slack", "main")),
            (work, "slack", one.token("slack", "work")),
            (both, "slack", one.token("slack", "main")),
        ):
            assert (await one.token_of(service, key)).document["access_token"] == token
        for permit in (
            "notion",
            "slack:GET",
            "slack:*:/api/auth.test",
            "slack:read-only",
            "slack:observe",
            "slack@gone",
            "notion:*",
        ):
            key = await one.key(permit)
            answer = await one.token_of("slack", key)
            assert answer.status in {403, 404}, permit
            assert not any(token in answer.text for token in one.tokens)
        by_id = {
            name: f"external-auth/tokens/connectors/{held.connection.connection_id}"
            for name in ("main", "work")
            if (held := one.vault.snapshot.find("slack", name)) is not None
        }
        assert (await one.ask(by_id["work"], slack)).document["access_token"] == one.token("slack", "work")
        assert one_code(await one.ask(by_id["main"], work)) == (403, "not_permitted")
        assert one_code(await one.ask(by_id["main"], await one.key("notion"))) == (404, "NOT_FOUND")
        assert one_code(await one.ask("external-auth/tokens/connectors/con_x", slack)) == (404, "NOT_FOUND")


async def test_a_token_of_the_settings_and_a_frozen_one(tmp_path: Path) -> None:
    """A token that the settings bring is given like those of the vault; a frozen connection's is not (R165)."""
    async with scene(tmp_path) as one:
        key = await one.key("*")
        assert (await one.token_of("linear", key)).document["access_token"] == STATIC
        await one.connect("slack")
        await one.vault.freeze("slack", "default")
        refused = await one.token_of("slack", key)
        assert refused.status >= 400
        assert one.token("slack") not in refused.text


async def test_what_is_not_served(tmp_path: Path) -> None:
    """App-user calls are 501 with a code whoever asks, Stripe is not installed, any other call says that it is none of ours."""
    async with scene(tmp_path) as one:
        key = await one.key("*")
        for method, path in (
            ("GET", "app-user-auth/connectors/abc/token"),
            ("POST", "app-user-auth/connectors/abc/initiate"),
            ("DELETE", "app-user-auth/connectors/abc"),
        ):
            for shown in (key, None):
                answer = await one.ask(path, shown, method=method)
                assert one_code(answer) == (501, "app_user_connectors_unsupported")
        stripe = await one.ask("payments/stripe/status", key)
        assert stripe.document == {"stripe_mode": None, "sandbox_claim_url": None}
        assert one_code(await one.ask("payments/stripe/install", key, method="POST")) == (
            501,
            "stripe_unsupported",
        )
        for method, path in (("GET", "entities/Task"), ("POST", "external-auth/tokens/slack"), ("GET", "")):
            assert one_code(await one.ask(path, key, method=method)) == (404, "not_served")
            assert one_code(await one.ask(path, method=method)) == (401, "invalid_key")


async def test_without_the_setting_there_is_nothing(tmp_path: Path) -> None:
    """Until an app is named, the calls do not exist on the control plane; on the data plane they never do (R93)."""
    async with scene(tmp_path, app=None) as one:
        key = await one.key("*")
        await one.connect("slack")
        for path in (*TYPES, "external-auth/list", "app-user-auth/connectors/a/token"):
            assert (await one.ask(path, key)).code == "not_found"
    other = tmp_path / "other"
    other.mkdir()
    async with scene(other) as one:
        key = await one.key("*")
        async with one.session.get(
            f"{one.data_url}/api/apps/{APP}/external-auth/tokens/slack",
            headers={"Authorization": f"Bearer {key}"},
        ) as answer:
            assert answer.status == 401


async def test_guesses_are_slowed(tmp_path: Path) -> None:
    """R92: from the eleventh wrong key of an address on, each answer takes longer; a good key's does not."""
    async with scene(tmp_path) as one:
        key = await one.key("slack")
        await one.connect("slack")
        took = []
        for _ in range(12):
            begun = time.perf_counter()
            await one.token_of("slack", generate()[1].reveal())
            took.append(time.perf_counter() - begun)
        assert took[10] >= 0.05
        assert took[11] >= 0.1
        assert (await one.token_of("slack", key)).status == 200


# --- what the command line asks ---------------------------------------------------------------------------


async def test_the_list_and_what_can_be_connected(tmp_path: Path) -> None:
    """R167: all services in force with the values they want; the app's connections with their scopes, of those services the key is for."""
    async with scene(tmp_path) as one:
        wide, narrow = await one.key("*"), await one.key("slack")
        found = (await one.ask("external-auth/available-integrations", narrow)).document["integrations"]
        assert sorted(each["integration_type"] for each in found) == sorted(SERVICES)
        sandbox = next(each for each in found if each["integration_type"] == "sandbox")
        (field,) = sandbox["connection_config_fields"]
        assert (field["name"], field["placeholder"], field["required"]) == ("subdomain", "acme", True)
        assert re.fullmatch(field["validation_pattern"], "acme")
        assert not re.fullmatch(field["validation_pattern"], "evil.example/")
        await one.connect("slack", scopes=("a", "b"), asked_scopes=("b", "a"), account="ada@example.com")
        await one.connect("notion", account="Ada")
        await one.vault.freeze("notion", "default")
        told = {
            each["integration_type"]: each
            for each in (await one.ask("external-auth/list", wide)).document["integrations"]
        }
        assert told["slack"] == {
            "integration_type": "slack",
            "status": "active",
            "scopes": ["b", "a"],
            "user_email": "ada@example.com",
        }
        assert told["notion"]["status"] == "disconnected"
        assert "user_email" not in told["notion"]
        assert told["linear"]["scopes"] == []
        of_narrow = (await one.ask("external-auth/list", narrow)).document["integrations"]
        assert [each["integration_type"] for each in of_narrow] == ["slack"]


async def test_connecting_by_the_command_lines_calls(tmp_path: Path) -> None:
    """R97, R98: PUT gives a link that works once, status follows it to the end, and the same scopes again are no new consent."""
    async with scene(tmp_path) as one, Browser() as browser:
        key = await one.key("sandbox")
        await one.connect("sandbox", config={"subdomain": "acme"}, asked_scopes=("old",))
        place, wish = "external-auth/integrations/sandbox", {"scopes": ["things.read"]}
        begun = (await one.ask(place, key, method="PUT", body=wish)).document
        assert set(begun) == {
            "redirect_url",
            "connection_id",
            "already_authorized",
            "error",
            "error_message",
            "other_user_email",
        }
        assert begun["already_authorized"] is False
        status = f"external-auth/status?integration_type=sandbox&connection_id={begun['connection_id']}"
        assert (await one.ask(status, key)).document == {"status": "PENDING"}
        page = await browser.submit(await browser.open(begun["redirect_url"]))
        page = await browser.send(page, decision="allow", scope=["things.read"])
        assert (await browser.follow(page)).status == 200
        assert (await one.ask(status, key)).document == {"status": "ACTIVE"}
        one.tokens.add(one.token("sandbox"))
        given = (await one.token_of("sandbox", key)).document
        assert given["access_token"].startswith("sbx-access-")
        assert given["connection_config"] == {"subdomain": "acme"}
        again = (await one.ask(place, key, method="PUT", body=wish)).document
        assert (again["already_authorized"], again["redirect_url"]) == (True, None)
        other = await one.ask(place, key, method="PUT", body={"scopes": ["things.write"]})
        assert other.document["already_authorized"] is False
        assert ("service key " + key[4:12], "sandbox@default") in await one.audited("connection.save")
        foreign = f"external-auth/status?integration_type=slack&connection_id={begun['connection_id']}"
        assert one_code(await one.ask(foreign, key)) == (403, "not_permitted")
        assert one_code(await one.ask(foreign, await one.key("slack"))) == (404, "NOT_FOUND")


async def test_what_stands_in_the_way_of_connecting(tmp_path: Path) -> None:
    """No app registered, values that are missing, a body that is none, a key for less: each is told before anybody is sent anywhere."""
    async with scene(tmp_path) as one:
        key = await one.key("*")

        async def put(service: str, body: Any = None, shown: str = key) -> Any:
            wish = {"scopes": []} if body is None else body
            return await one.ask(f"external-auth/integrations/{service}", shown, method="PUT", body=wish)

        unregistered = await put("github")
        assert one_code(unregistered) == (428, "not_set_up")
        assert "registrations set github" in unregistered.document["message"]
        values = (await put("sandbox")).document
        assert values["redirect_url"].endswith("/connect/sandbox?connection=default")
        status = f"external-auth/status?integration_type=sandbox&connection_id={values['connection_id']}"
        assert (await one.ask(status, key)).document == {"status": "PENDING"}
        assert (await put("linear")).document["already_authorized"] is True
        for body in ([], {}, {"scopes": "a"}, {"scopes": [1]}, {"scopes": ["a b"]}, "text"):
            assert one_code(await put("sandbox", body)) == (400, "bad_request"), body
        assert one_code(await put("github", shown=await one.key("github:GET"))) == (403, "not_permitted")


async def test_an_app_whose_secret_does_not_open(tmp_path: Path) -> None:
    """It is named with what mends it, and nobody is told to wait: no time mends it (R140)."""
    async with scene(tmp_path) as one:
        key = await one.key("*")
        await one.vault.save_registration(
            Registration("github", "github", "app", Secret("canary-app-secret"))
        )
        await edit(tmp_path / "data", "UPDATE registrations SET client_secret = x'00'")
        place = "external-auth/integrations/github"
        refused = await one.ask(place, key, method="PUT", body={"scopes": []})
        assert one_code(refused) == (503, "vault_unavailable")
        assert "registrations set github" in refused.document["message"]
        assert "Retry-After" not in refused.headers


async def test_removing_a_connection(tmp_path: Path) -> None:
    """R109: the app's connection is erased here; nothing there is 404, a token of the settings stays, a key for less removes nothing."""
    async with scene(tmp_path) as one:
        key = await one.key("*")
        await one.connect("slack")
        place = "external-auth/integrations/slack/remove"
        refused = await one.ask(place, await one.key("slack:GET"), method="DELETE")
        assert one_code(refused) == (403, "not_permitted")
        done = await one.ask(place, key, method="DELETE")
        assert done.document == {"status": "removed", "integration_type": "slack"}
        assert one.vault.snapshot.find("slack", None) is None
        assert await one.audited("connection.remove") == [(f"service key {key[4:12]}", "slack@default")]
        assert one_code(await one.ask(place, key, method="DELETE")) == (404, "NOT_FOUND")
        static = await one.ask("external-auth/integrations/linear/remove", key, method="DELETE")
        assert one_code(static) == (409, "not_in_vault")


async def test_a_used_key_is_seen_to_be_used(tmp_path: Path) -> None:
    """The last use of a service key is kept like that of any other (R155)."""
    async with scene(tmp_path) as one:
        key = await one.key("slack")
        await one.token_of("slack", key)
        follower = one.app.core.follower
        assert follower is not None
        await follower.write_uses()
        assert time.time() - (await one.vault.key_usage())[key[4:12]] < 30


# --- what keys may have -----------------------------------------------------------------------------------


def asker(*permits: str) -> Asker:
    key_id, key = generate()
    record = KeyRecord(key_id, "k", digest(key.reveal().encode()), permits, kind="service")
    return Asker(
        Grant(record, compile_permits(parse_permit(text) for text in permits)), key.reveal().encode(), ""
    )


_SERVICES = st.sampled_from(["slack", "notion", "slackbot"])
_PERMITS = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["slack", "notion", "slackbot", "*"]),
        st.just(""),
        st.sampled_from(["", ":GET", ":*", ":*:/a/**", ":read-only", ":observe", ":observe,GET"]),
    )
    | st.builds(
        "{}@{}{}".format,
        _SERVICES,
        st.sampled_from(["main", "work"]),
        st.sampled_from(["", ":POST", ":*:/b"]),
    ),
    max_size=5,
)


@given(permits=_PERMITS, service=_SERVICES, connection=st.sampled_from([None, "main", "work"]))
def test_only_whole_permits_give_tokens(permits: list[str], service: str, connection: str | None) -> None:
    """Whatever its other permits say, a key has a token only by one for the whole service or connection; slack's is never notion's."""
    whole = {service, "*", f"{service}:*", "*:*"}
    named = {f"{service}@{name}" for name in ({connection} if connection else {"main", "work"})}
    allowed = bool((whole | named) & set(permits))
    try:
        asker(*permits).check_whole(service, connection)
    except NotPermitted:
        assert not allowed
    else:
        assert allowed


@given(kind=st.sampled_from(["proxy", "service"]), allow=_PERMITS.filter(bool))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_proxy_key_is_a_service_token(kind: Any, allow: list[str]) -> None:
    """A key of kind proxy is nobody to these calls, whatever it permits; one of kind service is nobody to the data path (R93)."""
    key_id, key = generate()
    shown = key.reveal().encode()
    ring = KeyRing({key_id: KeyRecord(key_id, "k", digest(shown), tuple(allow), kind=kind)})
    for asked in ("proxy", "service"):
        try:
            ring.authenticate(shown, now=0.0, peer_ip=None, kind=asked)  # type: ignore[arg-type]  # both literals
        except InvalidKey:
            assert asked != kind
        else:
            assert asked == kind


def test_tokens_are_given_at_a_rate() -> None:
    """R64: so many at once, then as many as come in over time, each key by itself; a refusal says when to come again."""
    now = 0.0
    allowance = Allowance(2.0, 3.0, clock=lambda: now)
    for _ in range(3):
        allowance.take("a")
    with pytest.raises(RateLimited) as caught:
        allowance.take("a")
    assert caught.value.retry_after == pytest.approx(0.5)
    allowance.take("b")
    now = 0.5
    allowance.take("a")
    with pytest.raises(RateLimited):
        allowance.take("a")


async def test_too_many_at_once_is_429(tmp_path: Path) -> None:
    """R64: beyond its allowance a key is told to keep what it got, with Retry-After, and nothing is revealed or audited."""
    async with scene(tmp_path) as one:
        key = await one.key("slack")
        await one.connect("slack")
        statuses = [(await one.token_of("slack", key)).status for _ in range(140)]
        assert 429 in statuses
        refused = await one.token_of("slack", key)
        if refused.status == 429:
            assert one_code(refused) == (429, "rate_limited")
            assert refused.headers["Retry-After"] == "1"
        assert len(await one.audited("token.reveal")) == statuses.count(200) + (refused.status == 200)
