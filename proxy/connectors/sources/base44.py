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
from dataclasses import dataclass
from typing import Self

import aiohttp
from yarl import URL

from proxy.catalog.model import Catalog
from proxy.connectors.model import Credential
from proxy.connectors.sources.base44_endpoint import TokenEndpoint, check_base, interpret
from proxy.connectors.sources.cache import CachedCredential, Fetched
from proxy.errors import (
    BadRequest,
    ConfigurationError,
    Fault,
    NotConnected,
    NotPermitted,
    UnknownService,
)
from proxy.secret import Secret

TTL_S = 60.0
MAX_REMEMBERED = 1024  # credentials of apps that arrived by request headers
CONTEXT_HEADERS = ("Base44-App-Id", "Base44-Service-Authorization")  # either says that an app is named
_TYPE = re.compile(r"[a-z0-9_-]+", re.ASCII)
_APP_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_BEARER = re.compile(r"Bearer ([!-~]+)", re.ASCII)

ServiceToken = Callable[[], Awaitable[Secret]]


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


class Base44Source:
    """All services, from one app whose id and service token are configured, and from apps that requests name.

    ``service_token`` is asked when needed and once more after Base44 refused what it gave. ``allowed_urls``:
    the bases that ``Base44-Api-Url`` may name besides ``base``; where there are none, what requests say of
    apps is ignored.

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
        make_connector: Callable[[str], aiohttp.BaseConnector] | None = None,
    ) -> None:
        if app_id is not None and _APP_ID.fullmatch(app_id) is None:
            raise ConfigurationError(Fault("base44.app_id", "has letters, digits, '_' and '-' only"))
        self._catalog = catalog
        self._base = check_base(base)
        self._allowed = frozenset((self._base, *(check_base(text) for text in allowed_urls)))
        self._follows_requests = bool(allowed_urls)
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

    def named_by(self, header: Callable[[str], str | None]) -> AppContext | None:
        """The app that a request's ``Base44-*`` headers name; None where there are none, or none count.

        Raises:
            BadRequest: as :meth:`AppContext.from_headers`.
        """
        if not self._follows_requests or not any(header(name) for name in CONTEXT_HEADERS):
            return None
        return AppContext.from_headers(header)

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
                service,
                base,
                context.app_id,
                lambda: _given(token),
                kind=f"base44-{next(self._numbers)}",
                listed=False,
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
            raise NotPermitted("Base44-Api-Url is not on the list base44.api_urls")
        return base

    def _cache(
        self,
        service: str,
        base: URL,
        app_id: str,
        service_token: ServiceToken,
        *,
        kind: str,
        listed: bool = True,
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
            return interpret(known, reply, self._ttl)

        return CachedCredential(known, fetch, kind=kind, clock=self._clock, listed=listed)


async def _given(token: Secret) -> Secret:
    return token
