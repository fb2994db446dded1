"""The connectors module's face: a token and ``connection_config`` for a connected account.

Same names, shapes and argument checks as Base44's connectors module (``getConnection``, ``getAccessToken``).
"""

import warnings
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from proxy.catalog.model import Catalog
from proxy.catalog.reader import nearest
from proxy.connectors.model import ConnectorConnection, Credential
from proxy.connectors.sources import Source
from proxy.connectors.sources.base44 import Base44Source
from proxy.connectors.sources.vault import VaultSource
from proxy.errors import UnknownService

Obtain = Callable[[str, str | None], Awaitable[Credential]]
_REQUIRED = "Integration type is required and must be a string"


class _Once:
    """Whether the deprecation has been told in this process."""

    told = False


class Connectors:
    """Credentials of all services: each from its own source, or from the ``default`` one.

    ``sources`` maps type ids to sources; the ``catalog`` says which types there are. All errors are
    ``proxy.errors.RequestError``; ``retry_after`` says when trying again makes sense.
    """

    def __init__(self, catalog: Catalog, sources: Mapping[str, Source], default: Source) -> None:
        self._catalog = catalog
        self._default = default
        self._sources = {type_id: sources.get(type_id, default) for type_id in catalog.services}
        self._all = tuple({id(source): source for source in (*sources.values(), default)}.values())

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """A good credential from memory, or None: then :meth:`obtain` one. No I/O, no waiting.

        The same object comes back while nothing changed.
        """
        source = self._sources.get(service)
        return None if source is None else source.ready(service, connection)

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """A good credential, fetched if need be.

        Raises:
            UnknownService: no such type in the catalog.
            AccountError: a person has to do something.
            UnavailableError: try again after ``retry_after`` seconds.
            CredentialInvalid: what the source gave cannot be used.
        """
        return await self._source(service).obtain(service, connection)

    def named_by(self, service: str, header: Callable[[str], str | None]) -> Obtain | None:
        """How to obtain the credential of the app that a request's own headers name; None: they name none.

        Args:
            service: the type id.
            header: a field of the request by name; None when it has none.

        Raises:
            BadRequest: headers that do not fit together.
        """
        source = self._sources.get(service)
        if not isinstance(source, Base44Source):
            return None
        context = source.named_by(header)
        return None if context is None else partial(source.obtain_with, context)

    async def refused(self, credential: Credential) -> Credential | None:
        """After the service refused ``credential``: a newer one to try once, or None."""
        return await self._source(credential.service).refused(credential)

    def stands(self, credential: Credential) -> bool:
        """Whether the connection of a credential given out before may still be used. No I/O, no waiting.

        Its token may have been renewed since, or have ended. Only the vault can be told to give one up.
        """
        source = self._sources.get(credential.service)
        return source is not None and (not isinstance(source, VaultSource) or source.stands(credential))

    async def get_connection(
        self, integration_type: str, *, connection: str | None = None
    ) -> ConnectorConnection:
        """The account's access token and ``connection_config`` (None when the service needs nothing).

        Args:
            integration_type: the type id, such as ``slack``.
            connection: a named account; by default the type's default one.

        Raises:
            TypeError, ValueError: ``integration_type`` is no string, or empty.
            RequestError: as :meth:`obtain`.
        """
        if not isinstance(integration_type, str):
            raise TypeError(_REQUIRED)
        if not integration_type:
            raise ValueError(_REQUIRED)
        found = self.ready(integration_type, connection) or await self.obtain(integration_type, connection)
        config = dict(found.config) if found.config else None
        return ConnectorConnection(found.access_token.reveal(), config)

    async def get_access_token(self, integration_type: str, *, connection: str | None = None) -> str:
        """The account's access token alone.

        Deprecated, as Base44's ``getAccessToken`` is: use :meth:`get_connection`. Warns once per process.
        """
        if not _Once.told:
            _Once.told = True
            warnings.warn(
                "get_access_token is deprecated: use get_connection", DeprecationWarning, stacklevel=2
            )
        return (await self.get_connection(integration_type, connection=connection)).access_token

    async def close(self) -> None:
        """Close every source."""
        for source in self._all:
            await source.close()

    def _source(self, service: str) -> Source:
        source = self._sources.get(service)
        if source is None:
            hint = nearest(service, self._catalog.services)
            raise UnknownService(f"there is no integration type {service[:100]!r}{hint}", service=None)
        return source
