"""Tokens from a command that prints JSON, in the manner of credential_process and git credential helpers.

It prints ``{"access_token": "...", "expires_at": "2026-01-01T00:00:00Z", "connection_config": {...}}``;
``expires_at`` (RFC 3339, or seconds since the epoch) and ``connection_config`` may be left out.
"""

from collections.abc import Callable, Mapping, Sequence

from proxy.catalog.model import Scheme, Service
from proxy.connectors.model import Credential
from proxy.connectors.process import CommandFailedError, run_command
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.connectors.sources.answer import (
    read_access_token,
    read_connection_config,
    read_expires_at,
    read_object,
)
from proxy.connectors.sources.cache import CachedCredential, Fetched
from proxy.errors import RefreshFailed
from proxy.secret import Secret

TTL_S = 300.0


class CommandSource:
    """One service's token from ``argv``, run without a shell in ``environment`` and nothing else.

    What it prints is kept until a margin before ``expires_at``; without one, for ``ttl`` seconds.
    """

    def __init__(
        self,
        service: Service,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        timeout: float = 10.0,
        ttl: float = TTL_S,
        scheme: Scheme | None = None,
        name: str = SOLE_CONNECTION,
    ) -> None:
        self._service = service
        self._argv = tuple(argv)
        self._environment = dict(environment)
        self._timeout = timeout
        self._ttl = ttl
        self._cache = CachedCredential(
            service, self._fetch, kind="command", clock=clock, scheme=scheme, name=name
        )

    async def _fetch(self) -> Fetched:
        try:
            printed = await run_command(self._argv, environment=self._environment, timeout=self._timeout)
        except CommandFailedError as error:
            raise self._failed(str(error)) from None
        try:
            answer = read_object(printed)
            return Fetched(
                Secret(read_access_token(answer)),
                ttl=self._ttl,
                expires_at=read_expires_at(answer),
                config=read_connection_config(answer),
            )
        except ValueError as error:
            raise self._failed(f"printed an answer that cannot be used: {error}") from None

    def _failed(self, what: str) -> RefreshFailed:
        return RefreshFailed(
            f"the credential command for {self._service.title} {what}",
            service=self._service.type_id,
            retry_after=1.0,
        )

    def ready(self, service: str, connection: str | None) -> Credential | None:  # noqa: ARG002  # one service only
        """What the command printed, while it is fresh."""
        return self._cache.ready(connection)

    async def obtain(self, service: str, connection: str | None) -> Credential:  # noqa: ARG002  # one service only
        """Run the command if need be; callers at the same time share one run.

        Raises:
            RequestError: RefreshFailed, NotConnected for another name, CredentialInvalid for the values.
        """
        return await self._cache.obtain(connection)

    async def refused(self, credential: Credential) -> Credential | None:
        """Run the command again; None when it prints the same token."""
        return await self._cache.refused(credential)

    async def close(self) -> None:
        """End a run that is under way."""
        await self._cache.close()
