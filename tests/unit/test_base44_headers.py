"""Requests that bring their own Base44 app: whose token they get, and where those headers never go."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support import raw, steps
from support.base44 import SERVICE_TOKEN, FakeBase44, fake_base44
from support.plane import KEY, Scene, code, scene, tokens
from support.vaults import Clock

from proxy.assembly.credentials import Unconnected, base44_of, sources_of
from proxy.catalog.loader import load_catalog
from proxy.connectors.module import Connectors
from proxy.connectors.sources.base44 import Base44Source
from proxy.errors import ConfigurationError
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.secret import Secret
from proxy.settings import load_settings

APP = [("Base44-App-Id", "app1"), ("Base44-Service-Authorization", f"Bearer {SERVICE_TOKEN}")]
OTHER = [("Base44-App-Id", "app2"), ("Base44-Service-Authorization", "Bearer service-token-2")]


@asynccontextmanager
async def fronted(
    *, allowed: bool = True, configured: bool = True
) -> AsyncIterator[tuple[Scene, FakeBase44]]:
    """A plane whose service gets its tokens from a stand-in for Base44, by its own app or the request's."""

    async def service_token() -> Secret:
        return Secret(SERVICE_TOKEN)

    async with fake_base44() as fake, scene() as on:
        fake.tokens = {
            ("app1", "svc"): {"access_token": "token-of-app-one"},
            ("app2", "svc"): {"access_token": "token-of-app-two"},
        }
        source = Base44Source(
            on.catalog,
            base=fake.url,
            clock=Clock(),
            app_id="app1" if configured else None,
            service_token=service_token if configured else None,
            allowed_urls=(fake.url,) if allowed else (),
        )
        on.put(connectors=Connectors(on.catalog, {"svc": source}, Unconnected()))
        try:
            yield on, fake
        finally:
            await source.close()


async def test_each_request_gets_its_own_apps_token() -> None:
    """On one connection: app one, app two, the configured app, in any order; the headers themselves never leave (R173)."""
    async with fronted() as (on, fake), on.calling() as caller:
        url = ("Base44-Api-Url", fake.url)
        extra = [("Base44-State", "s"), ("Base44-Functions-Version", "1")]
        for fields in ([*APP, url], [*OTHER, url, *extra], [], OTHER, OTHER):
            assert (await on.ask(caller, fields=fields)).status == 200
        one, two = b"Bearer token-of-app-one", b"Bearer token-of-app-two"
        assert tokens(on.upstream) == [one, two, one, two, two]
        sent = b"".join(peer.received for peer in on.upstream.peers).lower()
        assert b"base44" not in sent
        assert b"service-token" not in sent
        assert len(fake.requests) == 3  # the configured app is remembered apart from a named one
        assert {line["connection"] for line in await on.logged(5)} == {"default"}


async def test_uses_of_named_apps_are_not_kept() -> None:
    """When a connection was used last is noted of ours only: requests can name any number of apps and tokens."""
    async with fronted() as (on, fake), on.calling() as caller:
        for number in range(5):
            fake.service_tokens["app2"] = f"token-{number}"
            named = ("Base44-Service-Authorization", f"Bearer token-{number}")
            assert (await on.ask(caller, fields=[OTHER[0], named])).status == 200
        assert on.plane.take_account_uses() == {}
        assert (await on.ask(caller)).status == 200
        assert on.plane.take_account_uses() == {"base44:svc:default": on.wall}
        assert {line["connection"] for line in await on.logged(6)} == {"default"}


async def test_a_refused_token_of_a_named_app_is_fetched_anew() -> None:
    """After a 401 the same app is asked once more, with the request's own service token (R63)."""
    async with fronted(configured=False) as (on, fake):
        first = True

        async def script(peer) -> None:
            nonlocal first
            while True:
                request = await peer.request()
                assert request.body == b"x"
                await peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (401 if first else 200))
                if first:
                    fake.tokens["app2", "svc"] = {"access_token": "newer-token-of-app-two"}
                first = False

        on.upstream.script = script
        assert (await on.call("POST", fields=OTHER, body=b"x")).status == 200
        assert tokens(on.upstream) == [b"Bearer token-of-app-two", b"Bearer newer-token-of-app-two"]


async def test_where_no_server_is_listed_the_headers_mean_nothing() -> None:
    """Without ``base44.api_urls`` only the configured app counts, whatever a request says; still nothing leaves."""
    async with fronted(allowed=False) as (on, _):
        assert (await on.call(fields=OTHER)).status == 200
        assert tokens(on.upstream) == [b"Bearer token-of-app-one"]
        assert b"ase44" not in on.upstream.peers[0].received


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([*APP, ("Base44-Api-Url", "https://elsewhere.test")], "not_permitted"),
        ([*APP, ("Base44-Api-Url", "http://169.254.169.254")], "bad_request"),
        ([*APP, ("Base44-Api-Url", "https://user@base44.app")], "bad_request"),
        (APP[:1], "bad_request"),
        (APP[1:], "bad_request"),
        ([*APP, OTHER[0]], "bad_request"),
        ([*APP, OTHER[1]], "bad_request"),
        ([APP[0], ("Base44-Service-Authorization", "Basic abc")], "bad_request"),
        ([APP[0], ("Base44-Service-Authorization", "Bearer a b")], "bad_request"),
        ([("Base44-App-Id", "../app1"), APP[1]], "bad_request"),
        ([APP[0], OTHER[1]], "credential_invalid"),
    ],
)
async def test_headers_that_are_refused(fields: list[tuple[str, str]], expected: str) -> None:
    """A foreign server, half a pair, two of one kind and malformed values are refused; no service token goes anywhere else (R81)."""
    async with fronted() as (on, fake):
        assert code(await on.call(fields=fields)) == expected
        assert not on.upstream.peers
        assert len(fake.requests) == (expected == "credential_invalid")


async def test_a_key_comes_first() -> None:
    """The headers are no proof to the proxy: without a key, or with one for something else, Base44 is not even asked (R85)."""
    async with fronted() as (on, fake):
        assert code(await on.call(key=None, fields=APP)) == "invalid_key"
        on.keys(steps.record("other"))
        assert code(await on.call(fields=APP)) == "not_permitted"
        on.keys(steps.record("svc@another"))
        assert code(await on.call(fields=APP)) == "not_permitted"
        assert len(fake.requests) == 1  # the name of the default connection had to be found out
        assert not on.upstream.peers


async def test_other_sources_ignore_the_headers() -> None:
    """A service whose tokens come from elsewhere answers as without the headers, malformed ones included."""
    async with scene() as on:
        on.put(connectors=Connectors(on.catalog, {"svc": FromScene(on)}, Unconnected()))
        request = raw.request("GET", "/svc/x", key=KEY, fields=[*OTHER[:1]])
        async with on.calling() as caller:
            await caller.send(request)
            assert (await caller.answer()).status == 200
        assert tokens(on.upstream) == [b"Bearer token-one"]


class FromScene:
    """The scene's scripted source, as a source of the module."""

    def __init__(self, on: Scene) -> None:
        self.ready, self.obtain, self.refused = on.source.ready, on.source.obtain, on.source.refused

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ('app_id = "a"\ntoken = { env = "HOME" }', True),
        ('api_urls = ["https://base44.app"]', True),
        (
            'app_id = "a"\ntoken = { env = "HOME" }\napi_urls = ["https://app.base44.com", "https://base44.app"]',
            True,
        ),
        ("", False),
        ('app_id = "a"\napi_urls = ["https://base44.app"]', False),
        ('token = { env = "HOME" }', False),
    ],
)
async def test_the_settings(tmp_path, text: str, fine: bool) -> None:  # noqa: FBT001  # a column
    """An app with its token, or servers that requests may name, or both; half an app is a fault that says so."""
    path = tmp_path / "proxy.toml"
    path.write_text(f'[sources.slack]\nkind = "base44"\n[base44]\n{text}\n', encoding="utf-8")
    settings, catalog = load_settings(path, {"HOME": str(tmp_path)}), load_catalog()
    dialer = Dialer(EgressPolicy(), lambda: 0.0)
    if not fine:
        with pytest.raises(ConfigurationError, match=r"base44\.app_id and base44\.token"):
            sources_of(settings, catalog, dialer)
        return
    source = base44_of(settings, catalog, dialer)
    named = source.named_by(dict(APP).get)
    assert (named is not None) is ("api_urls" in text)
    await source.close()
