"""One fetched credential: kept in memory, fetched once at a time, kept up while fetching fails for now."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from proxy.catalog.model import Scheme, Service
from proxy.connectors.checked import token_fault, usable_config
from proxy.connectors.lifetimes import EXPIRY_S, margin
from proxy.connectors.model import Credential
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.errors import CredentialInvalid, NotConnected, RefreshFailed, RequestError, UnavailableError
from proxy.secret import Secret

STALE_S = 300.0  # how long a token without a known end goes on while its source is away
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
FORCED_S = 10.0  # a refused token makes at most one fetch in this time


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source gave; ``ttl`` (seconds): how long it is kept when ``expires_at`` (epoch) is unknown."""

    access_token: Secret
    ttl: float
    expires_at: float | None = None
    config: Mapping[str, str] | None = None


class CachedCredential:
    """The credential of one service from one place.

    ``fetch`` runs in a task of its own, so a caller that leaves does not stop it for the others. After a
    failure the next fetch waits 1 s, doubling to 60 s. A failure that passes by itself lets a token that
    still lives serve on. ``listed``: see Credential.
    """

    def __init__(
        self,
        service: Service,
        fetch: Callable[[], Awaitable[Fetched]],
        *,
        kind: str,
        clock: Callable[[], float],
        scheme: Scheme | None = None,
        name: str = SOLE_CONNECTION,
        listed: bool = True,
    ) -> None:
        self._service = service
        self._fetch = fetch
        self._clock = clock
        self._scheme: Scheme | None = scheme
        self._name = name
        self._listed = listed
        self.connection_id = f"{kind}:{service.type_id}:{name}"
        self._credential: Credential | None = None
        self._fetched_at = self._fresh_until = self._usable_until = 0.0
        self._failure: RequestError | None = None
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._forced_at = float("-inf")
        self._task: asyncio.Task[Credential] | None = None

    def _admit(self, connection: str | None) -> None:
        if connection is not None and connection != self._name:
            raise NotConnected(
                f"{self._service.title} has one connection here, {self._name!r}; there is no {connection!r}",
                service=self._service.type_id,
                connection=connection,
            )

    def ready(self, connection: str | None) -> Credential | None:
        """The credential while it is fresh."""
        if not self._is_fresh() or (connection is not None and connection != self._name):
            return None
        return self._credential

    def _is_fresh(self) -> bool:
        """Before the time of fetching the clock was set back: how old the token is is not known (R125)."""
        return self._fetched_at <= self._clock() < self._fresh_until

    async def obtain(self, connection: str | None) -> Credential:
        """The fresh credential, fetched if need be; one that still lives while fetching fails for now.

        Raises:
            RequestError: why there is none.
        """
        self._admit(connection)
        fresh = self.ready(connection)
        if fresh is not None:
            return fresh
        try:
            return await self._fetched()
        except UnavailableError:
            if self._credential is not None and self._clock() < self._usable_until:
                return self._credential
            raise

    async def refused(self, credential: Credential) -> Credential | None:
        """A newer credential than ``credential``: fetched by another caller meanwhile, or now."""
        current = self._credential
        if current is not None and current is not credential and self._is_fresh():
            return current
        if 0 <= self._clock() - self._forced_at < FORCED_S:
            return None
        self._forced_at = self._clock()
        self._fresh_until = 0.0
        try:
            renewed = await self._fetched()
        except RequestError:
            return None
        return renewed if renewed is not credential else None

    async def close(self) -> None:
        """Stop a fetch that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _fetched(self) -> Credential:
        if self._task is None:
            wait = self._retry_at - self._clock()
            if self._failure is not None and 0 < wait <= LAST_RETRY_S:
                raise self._again(self._failure, wait)
            self._task = asyncio.create_task(self._run(), name=f"fetch {self.connection_id}")
            self._task.add_done_callback(self._ended)
        task = self._task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                raise RefreshFailed(
                    "the source of this token was closed or replaced",
                    service=self._service.type_id,
                    retry_after=FIRST_RETRY_S,
                ) from None
            raise

    def _ended(self, task: asyncio.Task[Credential]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # callers may all have left: then nobody else looks at it

    async def _run(self) -> Credential:
        started = self._clock()
        try:
            return self._take(await self._fetch(), started)
        except RequestError as error:
            self._failure = error
            wait = max(self._retry_s, error.retry_after or 0.0)
            self._retry_at = self._clock() + min(wait, LAST_RETRY_S)
            self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)
            if not isinstance(error, UnavailableError):
                self._credential, self._fresh_until, self._usable_until = None, 0.0, 0.0
            raise

    def _take(self, fetched: Fetched, started: float) -> Credential:
        service = self._service.type_id
        fault = token_fault(fetched.access_token, self._scheme or self._service.auth.scheme)
        if fault is not None:
            raise CredentialInvalid(
                f"the token for {self._service.title} cannot be used: {fault}", service=service
            )
        config = usable_config(self._service, fetched.config)
        if fetched.expires_at is None:
            self._fresh_until, self._usable_until = started + fetched.ttl, started + fetched.ttl + STALE_S
        else:
            lifetime = fetched.expires_at - started
            if lifetime <= EXPIRY_S:
                raise CredentialInvalid(
                    f"the token for {self._service.title} has expired already", service=service
                )
            self._usable_until = fetched.expires_at - EXPIRY_S
            self._fresh_until = min(fetched.expires_at - margin(lifetime), self._usable_until)
        self._fetched_at = started
        self._failure, self._retry_at, self._retry_s = None, 0.0, FIRST_RETRY_S
        held = self._credential
        if (
            held is not None
            and held.access_token == fetched.access_token
            and (held.config, held.expires_at) == (config, fetched.expires_at)
        ):
            return held  # callers' caches key on identity
        self._credential = Credential(
            service=service,
            connection_id=self.connection_id,
            connection=self._name,
            access_token=fetched.access_token,
            config=config,
            scheme=self._scheme,
            expires_at=fetched.expires_at,
            generation=1 if held is None else held.generation + 1,
            listed=self._listed,
        )
        return self._credential

    @staticmethod
    def _again(failure: RequestError, wait: float) -> RequestError:
        """The same failure for another caller: a shared exception's traceback would grow."""
        return type(failure)(
            failure.detail, retry_after=wait, service=failure.service, connection=failure.connection
        )
