"""Tokens that somebody else keeps: a value handed in, or a file that is written from outside."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.catalog.model import Scheme, Service
from proxy.catalog.params import check_config
from proxy.connectors.checked import MAX_TOKEN, token_fault
from proxy.connectors.model import Credential
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.connectors.sources.cache import CachedCredential, Fetched
from proxy.errors import ConfigurationError, Fault, NotConnected, RefreshFailed
from proxy.secret import Secret

LOOK_S = 1.0  # how often a file is looked at


class StaticSource:
    """One service's token as a value that never changes.

    Raises:
        ConfigurationError: the token or the ``config`` cannot be used.
    """

    def __init__(
        self,
        service: Service,
        token: Secret,
        *,
        config: Mapping[str, str] | None = None,
        scheme: Scheme | None = None,
        name: str = SOLE_CONNECTION,
    ) -> None:
        fault = token_fault(token, scheme or service.auth.scheme)
        if fault is not None:
            raise ConfigurationError(Fault(f"{service.type_id}: token", fault))
        checked, _ = check_config(service, config or {})
        self._service = service
        self._credential = Credential(
            service=service.type_id,
            connection_id=f"static:{service.type_id}:{name}",
            connection=name,
            access_token=token,
            config=checked,
            scheme=scheme,
        )

    def ready(self, service: str, connection: str | None) -> Credential | None:  # noqa: ARG002  # one service only
        """The credential, always."""
        return self._credential if connection is None or connection == self._credential.connection else None

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The credential.

        Raises:
            NotConnected: ``connection`` has another name.
        """
        found = self.ready(service, connection)
        if found is None:
            raise NotConnected(
                f"{self._service.title} has one connection here, {self._credential.connection!r}; "
                f"there is no {connection!r}",
                service=service,
                connection=connection,
            )
        return found

    async def refused(self, credential: Credential) -> Credential | None:  # noqa: ARG002  # there is no other
        """None: there is no other token."""
        return None

    async def close(self) -> None:
        """Nothing is held."""


class FileSource:
    """One service's token in a file, looked at once a second and read again when it changed.

    A file that is being replaced or is gone for now lets the last token serve on for five minutes.
    """

    def __init__(
        self,
        service: Service,
        path: Path,
        *,
        clock: Callable[[], float],
        config: Mapping[str, str] | None = None,
        scheme: Scheme | None = None,
        name: str = SOLE_CONNECTION,
    ) -> None:
        checked, _ = check_config(service, config or {})
        self._service = service
        self._path = path
        self._config = checked
        self._seen: tuple[tuple[int, int, int], Secret] | None = None
        self._cache = CachedCredential(
            service, self._fetch, kind="file", clock=clock, scheme=scheme, name=name
        )

    async def _fetch(self) -> Fetched:
        try:
            token = await asyncio.to_thread(self._read)
        except (OSError, UnicodeDecodeError) as error:
            raise RefreshFailed(
                f"the token file for {self._service.title} cannot be read ({type(error).__name__})",
                service=self._service.type_id,
                retry_after=LOOK_S,
            ) from None
        return Fetched(token, ttl=LOOK_S, config=self._config)

    def _read(self) -> Secret:
        with self._path.open("rb") as file:
            about = os.fstat(file.fileno())
            mark = (about.st_ino, about.st_mtime_ns, about.st_size)
            if self._seen is None or self._seen[0] != mark:
                self._seen = (mark, Secret(file.read(MAX_TOKEN + 1).decode().strip()))
            return self._seen[1]

    def ready(self, service: str, connection: str | None) -> Credential | None:  # noqa: ARG002  # one service only
        """The token as it was when last looked at, less than a second ago."""
        return self._cache.ready(connection)

    async def obtain(self, service: str, connection: str | None) -> Credential:  # noqa: ARG002  # one service only
        """Look at the file.

        Raises:
            RequestError: NotConnected for another name, RefreshFailed or CredentialInvalid for the file.
        """
        return await self._cache.obtain(connection)

    async def refused(self, credential: Credential) -> Credential | None:
        """A newer token, if the file has one."""
        return await self._cache.refused(credential)

    async def close(self) -> None:
        """Stop looking."""
        await self._cache.close()
