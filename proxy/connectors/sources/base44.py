"""Tokens from a Base44 app: ``GET {base}/api/apps/{appId}/external-auth/tokens/{type}`` (its service role).

The answer holds ``access_token`` and ``connection_config`` and no expiry, so it is kept for a short time. The
service token opens far more than connectors: it goes only to the configured or an allow-listed base, and
never after a redirect.
"""

import asyncio
import hashlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from yarl import URL

from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Credential
from proxy.connectors.sources.answer import read_access_token, read_connection_config, read_object
from proxy.connectors.sources.cache import CachedCredential, Fetched
from proxy.errors import (
    BadRequest,
    ConfigurationError,
    CredentialInvalid,
    Fault,
    NotConnected,
    NotPermitted,
    RefreshFailed,
    UnknownService,
)
from proxy.secret import Secret

TTL_S = 60.0
LIMIT_S = 10.0
MAX_BODY = 2**20
MAX_REMEMBERED = 1024  # credentials of apps that arrived by request headers
_TYPE = re.compile(r"[a-z0-9_-]+", re.ASCII)
_APP_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_BEARER = re.compile(r"Bearer ([!-~]+)", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_METERED = "metered_connector_requires_proxy"

ServiceToken = Callable[[], Awaitable[Secret]]


def check_base(text: str) -> URL:
    """A Base44 address: https (http on loopback only), no user, query or fragment; maybe a path prefix.

    Raises:
        ConfigurationError: anything else.
    """
    fault = Fault("base44.url", "must be https://host[:port][/prefix]; http only for localhost")
    if not text.isascii() or any(c <= " " or c in "@?#\\%" for c in text):
        raise ConfigurationError(fault)
    try:
        url = URL(text, encoded=True)
    except ValueError:
        raise ConfigurationError(fault) from None
    is_plain = url.scheme == "http" and url.raw_host in _LOOPBACK
    if (
        not url.raw_host
        or not (url.scheme == "https" or is_plain)
        or {".", ".."} & set(url.raw_path.split("/"))
    ):
        raise ConfigurationError(fault)
    return url.with_host(url.raw_host.lower()).with_path(url.raw_path.rstrip("/"), encoded=True)


@dataclass(frozen=True, slots=True)
class AppContext:
    """One app as a caller's ``Base44-*`` headers name it."""

    app_id: str
    service_token: Secret
    api_url: str | None = None

    @classmethod
    def from_headers(cls, get: Callable[[str], str | None]) -> Self:
        """From a request's headers, read as Base44's own client reads them.

        Raises:
            BadRequest: a header is missing or malformed.
        """
        app_id = get("Base44-App-Id") or ""
        if _APP_ID.fullmatch(app_id) is None:
            raise BadRequest("Base44-App-Id is missing or malformed")
        bearer = _BEARER.fullmatch(get("Base44-Service-Authorization") or "")
        if bearer is None:
            raise BadRequest("Base44-Service-Authorization must be 'Bearer' and one token")
        return cls(app_id, Secret(bearer.group(1)), get("Base44-Api-Url"))


@dataclass(frozen=True, slots=True)
class Reply:
    """What of an answer counts: ``error`` is the header ``X-Base44-Connector-Error``."""

    status: int
    retry_after: str
    error: str
    body: bytes = field(repr=False)


class TokenEndpoint:
    """The HTTP side: one session, no cookies, no redirects, no proxy variables (R81, R82).

    ``make_connector`` lets the caller apply egress rules (pinned addresses, extra roots).
    """

    def __init__(self, make_connector: Callable[[], aiohttp.BaseConnector] | None = None) -> None:
        self._make_connector = make_connector
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = self._make_connector() if self._make_connector else aiohttp.TCPConnector(limit=20)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=LIMIT_S, connect=5.0),
                headers={"Accept": "application/json", "User-Agent": "connector-proxy"},
            )
        return self._session

    async def fetch(self, base: URL, app_id: str, token: Secret, service: Service) -> Reply:
        """One call.

        Raises:
            RefreshFailed: no whole answer within 10 s and 1 MiB.
        """
        path = f"{base.raw_path.rstrip('/')}/api/apps/{app_id}/external-auth/tokens/{service.type_id}"
        headers = {"Authorization": f"Bearer {token.reveal()}", "X-App-Id": app_id}
        try:
            async with self._open().get(
                base.with_path(path, encoded=True), headers=headers, allow_redirects=False
            ) as answer:
                body = await _bounded(answer.content)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _failed(service, f"could not be asked ({type(error).__name__})") from None
        if body is None:
            raise _failed(service, f"answered with more than {MAX_BODY} bytes")
        told = answer.headers
        return Reply(
            answer.status, told.get("Retry-After", ""), told.get("X-Base44-Connector-Error", ""), body
        )

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    parts = bytearray()
    async for chunk in content.iter_chunked(65536):
        parts += chunk
        if len(parts) > MAX_BODY:
            return None
    return bytes(parts)


def _failed(service: Service, what: str, retry_after: float = 1.0) -> RefreshFailed:
    return RefreshFailed(
        f"Base44 {what} for the token of {service.title}", service=service.type_id, retry_after=retry_after
    )


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), 60.0) if retry_after.isascii() and retry_after.isdigit() else 5.0


def _interpret(service: Service, reply: Reply, ttl: float) -> Fetched:
    """What an answer means; 401 never comes here with a token that could be renewed."""
    known, status = service.type_id, reply.status
    if status == 200:  # noqa: PLR2004  # the only success
        try:
            answer = read_object(reply.body)
            token, config = read_access_token(answer), read_connection_config(answer)
        except ValueError as error:
            raise _failed(service, f"gave an answer that cannot be used ({error})") from None
        return Fetched(Secret(token), ttl=ttl, config=config)
    if status == 404:  # noqa: PLR2004  # "Connector connection not found"
        raise NotConnected(
            f"{service.title} is not connected in the Base44 app: connect it there", service=known
        )
    if status == 403 and reply.error == _METERED:  # noqa: PLR2004  # the contract's code for metered connectors
        raise CredentialInvalid(
            f"Base44 bills {service.title} per call and gives no token for it: use callApi there",
            service=known,
        )
    if status in {401, 403}:
        raise CredentialInvalid(
            f"Base44 refused the app's service token ({status}): give a current one for this app",
            service=known,
        )
    if 300 <= status < 400:  # noqa: PLR2004  # redirects would carry the service token elsewhere
        raise _failed(service, f"sent a redirect ({status}), which is not followed,")
    if status == 429:  # noqa: PLR2004  # too many requests
        raise _failed(service, "asked us to slow down (429)", _seconds(reply.retry_after))
    raise _failed(service, f"answered {status}", _seconds(reply.retry_after))


class Base44Source:
    """All services, from one app whose id and service token are configured, and from apps that requests name.

    ``service_token`` is asked when needed and once more after Base44 refused what it gave. ``allowed_urls``:
    the bases that ``Base44-Api-Url`` may name besides ``base``.

    Raises:
        ConfigurationError: a base or the app id is malformed.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        base: str,
        clock: Callable[[], float],
        app_id: str | None = None,
        service_token: ServiceToken | None = None,
        allowed_urls: tuple[str, ...] = (),
        ttl: float = TTL_S,
        make_connector: Callable[[], aiohttp.BaseConnector] | None = None,
    ) -> None:
        if app_id is not None and _APP_ID.fullmatch(app_id) is None:
            raise ConfigurationError(Fault("base44.app_id", "has letters, digits, '_' and '-' only"))
        self._catalog = catalog
        self._base = check_base(base)
        self._allowed = frozenset((self._base, *(check_base(text) for text in allowed_urls)))
        self._clock = clock
        self._app_id = app_id
        self._service_token = service_token
        self._ttl = ttl
        self._endpoint = TokenEndpoint(make_connector)
        self._numbers = itertools.count(1)
        self._own: dict[str, CachedCredential] = {}
        self._by_app: OrderedDict[tuple[URL, str, bytes, str], CachedCredential] = OrderedDict()

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """The configured app's token, while it is fresh."""
        cache = self._own.get(service)
        return None if cache is None else cache.ready(connection)

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The configured app's token, fetched if need be.

        Raises:
            NotConnected: not connected in that app, or no app is configured.
            RefreshFailed, CredentialInvalid, UnknownService: as their texts say.
        """
        cache = self._own.get(service)
        if cache is None:
            if self._app_id is None or self._service_token is None:
                raise NotConnected(
                    "no Base44 app is configured: set base44.app_id and base44.token",
                    service=service,
                )
            cache = self._cache(service, self._base, self._app_id, self._service_token, kind="base44")
            self._own[service] = cache
        return await cache.obtain(connection)

    async def obtain_with(
        self, context: AppContext, service: str, connection: str | None = None
    ) -> Credential:
        """The token of the app that a request's headers name, with that request's service token.

        What is remembered is found again only with the same base, app and service token.

        Raises:
            NotPermitted: ``Base44-Api-Url`` is not on the list.
            RequestError: as :meth:`obtain`.
        """
        base = self._allowed_base(context.api_url)
        key = (
            base,
            context.app_id,
            hashlib.sha256(context.service_token.reveal().encode()).digest(),
            service,
        )
        cache = self._by_app.get(key)
        if cache is None:
            token = context.service_token
            cache = self._cache(
                service, base, context.app_id, lambda: _given(token), kind=f"base44-{next(self._numbers)}"
            )
            while len(self._by_app) >= MAX_REMEMBERED:
                self._by_app.popitem(last=False)
            self._by_app[key] = cache
        self._by_app.move_to_end(key)
        return await cache.obtain(connection)

    async def refused(self, credential: Credential) -> Credential | None:
        """Fetch once more; None when Base44 gives the same token."""
        for cache in (self._own.get(credential.service), *self._by_app.values()):
            if cache is not None and cache.connection_id == credential.connection_id:
                return await cache.refused(credential)
        return None

    async def close(self) -> None:
        """Stop fetches and close connections."""
        await asyncio.gather(*(cache.close() for cache in (*self._own.values(), *self._by_app.values())))
        await self._endpoint.close()

    def _allowed_base(self, api_url: str | None) -> URL:
        if api_url is None:
            return self._base
        try:
            base = check_base(api_url)
        except ConfigurationError:
            raise BadRequest("Base44-Api-Url is malformed") from None
        if base not in self._allowed:
            raise NotPermitted("Base44-Api-Url is not on the list base44.allowed_urls")
        return base

    def _cache(
        self, service: str, base: URL, app_id: str, service_token: ServiceToken, *, kind: str
    ) -> CachedCredential:
        known = self._catalog.get(service)
        if known is None or _TYPE.fullmatch(service) is None:
            raise UnknownService("there is no such integration type")

        async def fetch() -> Fetched:
            token = await service_token()
            reply = await self._endpoint.fetch(base, app_id, token, known)
            if reply.status == 401:  # noqa: PLR2004  # the token may have been replaced since it was read
                renewed = await service_token()
                if renewed != token:
                    reply = await self._endpoint.fetch(base, app_id, renewed, known)
            return _interpret(known, reply, self._ttl)

        return CachedCredential(known, fetch, kind=kind, clock=self._clock)


async def _given(token: Secret) -> Secret:
    return token
