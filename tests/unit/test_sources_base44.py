"""The source over a Base44 app, against a real HTTP server on loopback that plays Base44."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.base44 import SERVICE_TOKEN, FakeBase44, fake_base44
from support.vaults import CATALOG, Clock

from proxy.connectors.sources.base44 import MAX_REMEMBERED, AppContext, Base44Source
from proxy.connectors.sources.base44_endpoint import check_base
from proxy.errors import (
    BadRequest,
    ConfigurationError,
    ConnectionConfigMissing,
    CredentialInvalid,
    NotConnected,
    NotPermitted,
    RefreshFailed,
    RequestError,
    UnknownService,
)
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


@asynccontextmanager
async def _source(
    fake: FakeBase44,
    *,
    clock: Clock | None = None,
    tokens: tuple[str, ...] = (SERVICE_TOKEN,),
    configured: bool = True,
) -> AsyncIterator[Base44Source]:
    given = itertools.chain(tokens, itertools.repeat(tokens[-1]))

    async def service_token() -> Secret:
        return Secret(next(given))

    source = Base44Source(
        CATALOG,
        base=fake.url,
        clock=clock or Clock(),
        app_id="app1" if configured else None,
        service_token=service_token if configured else None,
        allowed_urls=("https://base44.app",),
    )
    try:
        yield source
    finally:
        await source.close()


async def test_the_call_is_the_contracts() -> None:
    """One GET on the contract's path with the service token and app id, nothing of ours besides (R165, R171)."""
    async with fake_base44("/prefix") as fake, _source(fake) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-1", "connection_config": None}
        found = await source.obtain("slack", None)
        path, headers = fake.requests[0]
    assert (found.access_token, found.config, found.connection) == (Secret("xoxp-1"), None, "default")
    assert path == "/prefix/api/apps/app1/external-auth/tokens/slack"
    assert (headers["Authorization"], headers["X-App-Id"]) == (f"Bearer {SERVICE_TOKEN}", "app1")
    assert headers["Accept"] == "application/json"
    assert set(headers) == {"Host", "Authorization", "X-App-Id", "Accept", "Accept-Encoding", "User-Agent"}


async def test_a_token_is_kept_for_a_minute() -> None:
    """One call a minute and type: the same object until then, and after it if the token is the same (R174)."""
    clock = Clock()
    async with fake_base44() as fake, _source(fake, clock=clock) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-1"}
        found = await asyncio.gather(*(source.obtain("slack", None) for _ in range(50)))
        assert len(fake.requests) == 1
        assert {id(one) for one in found} == {id(found[0])}
        clock.now += 59
        assert source.ready("slack", None) is found[0]
        clock.now += 1
        assert source.ready("slack", None) is None
        assert await source.obtain("slack", None) is found[0]
        assert len(fake.requests) == 2


async def test_connection_config_is_normalised() -> None:
    """Config arrives as strings, is checked, and what no address needs is dropped; missing is told (R166, R180)."""
    async with fake_base44() as fake, _source(fake) as source:
        fake.tokens["app1", "tenant"] = {
            "access_token": "t",
            "connection_config": {"subdomain": "ACME", "x": "y"},
        }
        assert (await source.obtain("tenant", None)).config == {"subdomain": "acme"}
    async with fake_base44() as fake, _source(fake) as source:
        fake.tokens["app1", "tenant"] = {"access_token": "t", "connection_config": None}
        with pytest.raises(ConnectionConfigMissing, match="subdomain"):
            await source.obtain("tenant", None)


@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "match"),
    [
        (404, {}, '{"detail": "Connector connection not found", "code": "NOT_FOUND"}', NotConnected, "Slack is not connected"),
        (401, {}, '{"detail": "Unauthorized"}', CredentialInvalid, r"refused the app's service token \(401\)"),
        (403, {}, '{"detail": "service tokens only"}', CredentialInvalid, r"\(403\)"),
        (403, {"X-Base44-Connector-Error": "metered_connector_requires_proxy"}, "{}", CredentialInvalid, "bills Slack per call"),
        (302, {"Location": "/elsewhere"}, "", RefreshFailed, "redirect"),
        (307, {"Location": "https://evil.example/"}, "", RefreshFailed, "redirect"),
        (429, {"Retry-After": "7"}, "{}", RefreshFailed, "slow down"),
        (500, {}, "<html>", RefreshFailed, "answered 500"),
        (503, {"Retry-After": "99999"}, "", RefreshFailed, "answered 503"),
        (204, {}, "", RefreshFailed, "answered 204"),
        (200, {}, "<html>", RefreshFailed, "not JSON"),
        (200, {}, "null", RefreshFailed, "not a JSON object"),
        (200, {}, "{}", RefreshFailed, "no access_token"),
        (200, {}, '{"access_token": null}', RefreshFailed, "no access_token"),
        (200, {}, '{"access_token": "a b"}', CredentialInvalid, "no header can"),
        (200, {}, '{"access_token": "a", "connection_config": []}', RefreshFailed, "not a map"),
        (200, {}, '{"access_token": "' + "a" * 2**20 + '"}', RefreshFailed, "more than 1048576"),
    ],
)  # fmt: skip
async def test_every_other_answer_is_a_typed_error(
    *, status: int, headers: dict[str, str], body: str, error: type[RequestError], match: str
) -> None:
    """Each answer has one meaning, told without the answer's text; redirects are never followed (R81, R168-R179)."""
    async with fake_base44() as fake, _source(fake) as source:
        fake.answer = lambda: web.Response(status=status, headers=headers, text=body)
        with pytest.raises(error, match=match) as caught:
            await source.obtain("slack", None)
        assert fake.paths == ["/api/apps/app1/external-auth/tokens/slack"]
    assert type(caught.value) is error
    assert caught.value.service == "slack"
    assert SERVICE_TOKEN not in repr(caught.value.__dict__)
    if error is RefreshFailed:
        assert caught.value.retry_after is not None
        assert caught.value.retry_after <= 60


async def test_base44_not_there() -> None:
    """A refused connection or a broken answer is RefreshFailed without the address."""
    async with fake_base44() as fake:
        pass
    async with _source(fake) as source:
        with pytest.raises(RefreshFailed, match="could not be asked") as caught:
            await source.obtain("slack", None)
    assert "127.0.0.1" not in str(caught.value)


async def test_an_outage_is_bridged_a_disconnection_is_not() -> None:
    """While Base44 fails the last token serves up to five minutes more; a 404 ends it at once (R123)."""
    clock = Clock()
    async with fake_base44() as fake, _source(fake, clock=clock) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-1"}
        first = await source.obtain("slack", None)
        fake.answer = lambda: web.Response(status=500)
        clock.now += 300
        assert await source.obtain("slack", None) is first
        fake.answer = lambda: web.json_response({"code": "NOT_FOUND"}, status=404)
        clock.now += 55
        with pytest.raises(NotConnected):
            await source.obtain("slack", None)
        fake.answer = lambda: web.Response(status=500)
        clock.now += 4
        with pytest.raises(RefreshFailed):
            await source.obtain("slack", None)


async def test_a_refused_service_token_is_read_again_once() -> None:
    """401 from Base44: the service token's place is read once more, and asked again only if it changed."""
    async with fake_base44() as fake, _source(fake, tokens=("stale", SERVICE_TOKEN)) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-1"}
        assert (await source.obtain("slack", None)).access_token == Secret("xoxp-1")
        assert [headers["Authorization"] for _, headers in fake.requests] == [
            "Bearer stale",
            f"Bearer {SERVICE_TOKEN}",
        ]
    async with fake_base44() as fake, _source(fake, tokens=("stale",)) as source:
        with pytest.raises(CredentialInvalid):
            await source.obtain("slack", None)
        assert len(fake.requests) == 1


async def test_a_token_refused_by_the_service_is_fetched_once_more() -> None:
    """After an upstream 401: one more call, whose newer token is given; the same token is no answer (R127, R182)."""
    async with fake_base44() as fake, _source(fake) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-1"}
        first = await source.obtain("slack", None)
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-2"}
        second = await source.refused(first)
        assert second is not None
        assert second.access_token == Secret("xoxp-2")
        assert await source.refused(second) is None
        assert len(fake.requests) == 2


async def test_a_clock_set_back_stops_no_fetch() -> None:
    """An hour back: no token counts as fresh that was fetched later, and a refused one is fetched anew (R125, R127)."""
    clock = Clock()
    async with fake_base44() as fake, _source(fake, clock=clock) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-1"}
        fetched = await source.refused(await source.obtain("slack", None))
        assert (fetched, len(fake.requests)) == (None, 2)  # the same token: no answer to a refusal
        clock.now -= 3600
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-2"}
        again = await source.obtain("slack", None)
        assert (again.access_token, len(fake.requests)) == (Secret("xoxp-2"), 3)
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-3"}
        newer = await source.refused(again)
        assert newer is not None
        assert newer.access_token == Secret("xoxp-3")
        assert await source.obtain("slack", None) is newer
        assert len(fake.requests) == 4


async def test_apps_named_by_requests_are_kept_apart() -> None:
    """Two apps, and two tokens of one app, never see each other's credentials (R172, R173)."""
    async with fake_base44() as fake, _source(fake, configured=False) as source:
        fake.tokens["app1", "slack"] = {"access_token": "xoxp-app1"}
        fake.tokens["app2", "slack"] = {"access_token": "xoxp-app2"}
        one = AppContext("app1", Secret(SERVICE_TOKEN))
        two = AppContext("app2", Secret("service-token-2"))
        first = await source.obtain_with(one, "slack")
        assert first.access_token == Secret("xoxp-app1")
        assert (await source.obtain_with(two, "slack")).access_token == Secret("xoxp-app2")
        assert await source.obtain_with(one, "slack") is first
        assert len(fake.requests) == 2
        with pytest.raises(CredentialInvalid):
            await source.obtain_with(AppContext("app1", Secret("service-token-2")), "slack")
        assert source.ready("slack", None) is None
        with pytest.raises(NotConnected, match="no Base44 app is configured"):
            await source.obtain("slack", None)


async def test_what_requests_make_us_remember_is_bounded() -> None:
    """However many apps and tokens requests name, no more than 1024 credentials are kept (R162)."""
    async with fake_base44() as fake, _source(fake, configured=False) as source:
        fake.answer = lambda: web.json_response({"access_token": "x"})
        for at in range(MAX_REMEMBERED + 20):
            await source.obtain_with(AppContext("app1", Secret(f"token-{at}")), "slack")
        assert len(source._by_app) == MAX_REMEMBERED
        await source.obtain_with(AppContext("app1", Secret(f"token-{MAX_REMEMBERED}")), "slack")
        assert len(fake.requests) == MAX_REMEMBERED + 20


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("https://evil.example", NotPermitted),
        ("https://base44.app.evil.example", NotPermitted),
        ("https://base44.app:444", NotPermitted),
        ("http://base44.app", BadRequest),
        ("https://u@base44.app", BadRequest),
        ("https://base44.app/?x", BadRequest),
        ("https://base44.app/a/../b", BadRequest),
        ("https://base44.app\\@evil.example", BadRequest),
        ("file:///etc/passwd", BadRequest),
        ("", BadRequest),
    ],
)
async def test_the_service_token_goes_to_listed_bases_only(url: str, error: type[RequestError]) -> None:
    """``Base44-Api-Url`` outside the list is refused before any connection is made (R76, R81)."""
    async with fake_base44() as fake, _source(fake, configured=False) as source:
        with pytest.raises(error):
            await source.obtain_with(AppContext("app1", Secret(SERVICE_TOKEN), url), "slack")
        assert fake.requests == []
        fake.tokens["app1", "slack"] = {"access_token": "x"}
        assert await source.obtain_with(AppContext("app1", Secret(SERVICE_TOKEN), fake.url + "/"), "slack")


async def test_only_types_of_the_catalog_are_asked_for() -> None:
    """Identifiers never reach a path unless the catalog has them, so dots and slashes cannot re-target a call."""
    async with fake_base44() as fake, _source(fake) as source:
        for identifier in ("..", ".", "../evil", "connectors/x", "SLACK", "stripe"):
            with pytest.raises(UnknownService):
                await source.obtain(identifier, None)
        assert fake.requests == []
        with pytest.raises(NotConnected):
            await source.obtain("slack", "work")


async def test_cookies_and_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cookie is kept between calls and no proxy of the environment is used (R82)."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    clock = Clock()
    async with fake_base44() as fake, _source(fake, clock=clock) as source:
        for _ in range(2):
            fake.answer = lambda: web.json_response(
                {"access_token": "x"}, headers={"Set-Cookie": "a=b; Path=/"}
            )
            await source.obtain("slack", None)
            clock.now += 61
        assert all("Cookie" not in headers for _, headers in fake.requests)
        assert len(fake.requests) == 2


def _headers(**changed: str | None) -> dict[str, str]:
    base = {
        "Base44-App-Id": "app1",
        "Base44-Service-Authorization": "Bearer tok",
        "Base44-Api-Url": "https://x.example",
    }
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in {**base, **named}.items() if value is not None}


def test_context_from_headers() -> None:
    """The three headers become an app context; the address may be left out."""
    assert AppContext.from_headers(_headers().get) == AppContext("app1", Secret("tok"), "https://x.example")
    assert AppContext.from_headers(_headers(Base44_Api_Url=None).get).api_url is None


@pytest.mark.parametrize(
    "changed",
    [
        {"Base44_App_Id": None},
        {"Base44_App_Id": ""},
        {"Base44_App_Id": "a/b"},
        {"Base44_App_Id": ".."},
        {"Base44_Service_Authorization": None},
        {"Base44_Service_Authorization": "Bearer"},
        {"Base44_Service_Authorization": "Bearer "},
        {"Base44_Service_Authorization": "bearer tok"},
        {"Base44_Service_Authorization": "Bearer a b"},
        {"Base44_Service_Authorization": "Basic tok"},
    ],
)
def test_malformed_context_headers(changed: dict[str, str | None]) -> None:
    """Exactly ``Bearer`` and one token, and a plain app id, as Base44's own client demands."""
    with pytest.raises(BadRequest):
        AppContext.from_headers(_headers(**changed).get)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://base44.app", "https://base44.app"),
        ("https://base44.app/", "https://base44.app"),
        ("https://Base44.app:8443/pre/fix/", "https://base44.app:8443/pre/fix"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
def test_bases_are_normalised(text: str, expected: str) -> None:
    """A base may have a port and a prefix; a trailing slash means nothing."""
    assert str(check_base(text)).rstrip("/") == expected


async def test_a_malformed_app_id_stops_the_start() -> None:
    """An app id that could change the path is a configuration error."""
    with pytest.raises(ConfigurationError, match="app_id"):
        Base44Source(CATALOG, base="https://base44.app", clock=Clock(), app_id="../x")


async def test_a_compressed_flood_is_cut_off() -> None:
    """A small compressed answer that unfolds beyond 1 MiB is refused."""
    async with fake_base44() as fake, _source(fake) as source:

        def bomb() -> web.Response:
            response = web.Response(text=json.dumps({"access_token": "a" * 4_000_000}))
            response.enable_compression(web.ContentCoding.gzip)
            return response

        fake.answer = bomb
        with pytest.raises(RefreshFailed, match="more than"):
            await source.obtain("slack", None)
