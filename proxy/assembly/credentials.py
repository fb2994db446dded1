"""Where credentials come from: the sources of the settings, and the vault for all other services."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.assembly.inforce import catalog_of, check_names
from proxy.assembly.providers import declared_registrations, refresher_of
from proxy.assembly.vaults import has_vaulted, helper_environment, open_vault
from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Credential
from proxy.connectors.module import Connectors
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.sources import Source
from proxy.connectors.sources.base44 import Base44Source
from proxy.connectors.sources.command import CommandSource
from proxy.connectors.sources.static import FileSource, StaticSource
from proxy.connectors.sources.vault import VaultSource
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault, NotConnected
from proxy.forwarding.egress import Dialer
from proxy.secret import Secret
from proxy.settings import Settings, environment
from proxy.token_session import session_connector


class Unconnected:
    """The source where there is none: nothing is connected."""

    def ready(self, service: str, connection: str | None) -> Credential | None:  # noqa: ARG002  # nothing is there
        """None."""
        return None

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """Never returns.

        Raises:
            NotConnected: always.
        """
        raise NotConnected(
            f"no token source is configured for {service}", service=service, connection=connection
        )

    async def refused(self, credential: Credential) -> None:  # noqa: ARG002  # nothing is there
        """None."""
        return

    async def close(self) -> None:
        """Nothing is held."""


def sources_of(settings: Settings, catalog: Catalog, dialer: Dialer) -> Mapping[str, Source]:
    """The sources of ``[sources.SERVICE]`` other than the vault, by type id.

    Raises:
        ConfigurationError: every value that cannot be used.
    """
    faults: list[Fault] = []
    made: dict[str, Source] = {}
    base44: Base44Source | None = None
    for type_id, source in settings.sources.items():
        service = catalog.get(type_id)
        if service is None or source.kind == "vault":
            continue
        try:
            if source.kind == "base44":
                base44 = base44 or base44_of(settings, catalog, dialer)
                made[type_id] = base44
            else:
                made[type_id] = _own_source(settings, service)
        except ConfigurationError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigurationError(*faults)
    return made


def _own_source(settings: Settings, service: Service) -> Source:
    given = settings.sources[service.type_id]
    config = given.connection_config or None
    if given.kind == "command":
        return CommandSource(
            service, given.command, environment=helper_environment(), clock=time.time, scheme=given.scheme
        )
    token = given.token
    if token is None:
        raise ConfigurationError(Fault(f"sources.{service.type_id}.token", "is missing"))
    if token.file is not None:
        return FileSource(service, token.file, clock=time.time, config=config, scheme=given.scheme)
    value = token.read(environment(), place=f"sources.{service.type_id}.token")
    return StaticSource(service, value, config=config, scheme=given.scheme)


def base44_of(settings: Settings, catalog: Catalog, dialer: Dialer) -> Base44Source:
    """The remote token endpoint of ``[base44]``.

    Raises:
        ConfigurationError: what is missing or malformed.
    """
    given = settings.base44
    token = given.token
    if (given.app_id is None) != (token is None) or not (token or given.api_urls):
        raise ConfigurationError(
            Fault(
                "base44",
                "a source of kind base44 needs base44.app_id and base44.token, or base44.api_urls for "
                "requests that name their own app",
            )
        )

    async def service_token() -> Secret:
        if token is None:
            raise NotConnected("no Base44 app is configured: set base44.app_id and base44.token")
        return await asyncio.to_thread(token.read, environment(), place="base44.token")

    return Base44Source(
        catalog,
        base=given.url,
        clock=time.time,
        app_id=given.app_id,
        service_token=service_token,
        allowed_urls=given.api_urls,
        make_connector=lambda base: session_connector(dialer, base),
    )


def vault_source(vault: Vault | None, catalog: Catalog, refresher: Refresher | None = None) -> Source:
    """The source for services without one of their own; without a refresher tokens are used as they are."""
    if vault is None:
        return Unconnected()
    return VaultSource(vault, catalog=catalog, clock=time.time, refresher=refresher)


@asynccontextmanager
async def opened_connectors(settings: Settings) -> AsyncIterator[Connectors]:
    """The connectors module as these settings make it, for programs that use it without a server.

    Sources are those of the settings, and the vault for all other services; what other processes change in
    the vault is followed within ``live.POLL_S``.

    Raises:
        ConfigurationError, StateError: what the operator has to change; nothing stays open then.
    """
    catalog = catalog_of(settings)
    check_names(settings, catalog)
    async with AsyncExitStack() as stack:
        dialer = Dialer(settings.egress.policy(()), time.monotonic)
        stack.push_async_callback(dialer.aclose)
        vault = refresher = None
        if has_vaulted(settings, catalog):
            vault = await open_vault(settings, catalog)
            stack.push_async_callback(vault.close)
            registrations = Registrations(declared_registrations(settings, catalog), vault)
            refresher = refresher_of(
                settings, catalog, vault, registrations, dialer=dialer, on_event=lambda _: None
            )
            stack.push_async_callback(refresher.close)
        source = vault_source(vault, catalog, refresher)
        connectors = Connectors(catalog, sources_of(settings, catalog, dialer), source)
        stack.push_async_callback(connectors.close)
        if vault is not None:
            following = asyncio.create_task(vault.watch(lambda: None), name="vault")
            stack.push_async_callback(_ended, following)
        yield connectors


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
