"""The parts of the program, made from settings; shared by the server and the commands."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import keys
from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Catalog, Service
from proxy.catalog.reader import nearest
from proxy.connectors.masterkey import FILE_NAME as MASTER_KEY_NAME
from proxy.connectors.masterkey import GivenKey, KeyCommand, KeyFile, MasterKeySource
from proxy.connectors.model import Credential
from proxy.connectors.module import Connectors
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.postgres_url import DatabaseUrl
from proxy.connectors.refresh.events import RefreshEvent
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.sources import Source
from proxy.connectors.sources.base44 import Base44Source
from proxy.connectors.sources.command import CommandSource
from proxy.connectors.sources.static import FileSource, StaticSource
from proxy.connectors.sources.vault import VaultSource
from proxy.connectors.sqlite import FILE_NAME as VAULT_NAME
from proxy.connectors.vault import Vault
from proxy.connectors.webhook import signing_key
from proxy.errors import ConfigurationError, Fault, NotConnected, StateError
from proxy.forwarding.addresses import parse_address
from proxy.forwarding.egress import Dialer
from proxy.forwarding.permits import parse_permit
from proxy.keys import KeyRecord
from proxy.secret import Secret
from proxy.settings import SecretSource, Settings, environment
from proxy.token_session import session_connector

if TYPE_CHECKING:
    from proxy.connectors.postgres import PostgresStore


def catalog_of(settings: Settings) -> Catalog:
    """The services in force.

    Raises:
        ConfigurationError: every fault of every file.
    """
    services, networks = settings.services, settings.egress.allow_addresses

    def allow_http(host: str, _port: int) -> bool:
        address = parse_address(host)
        return address is not None and any(
            address in network for network in networks if network.version == address.version
        )

    return load_catalog(
        user_directory=services.directory,
        enabled=services.enabled or None,
        extra_hosts=services.extra_hosts,
        allow_http=allow_http,
    )


def check_names(settings: Settings, catalog: Catalog) -> None:
    """Faults between settings and catalog.

    Raises:
        ConfigurationError: a source or listener for a service that is not there.
    """
    wanted = {
        **{f"sources.{name}": name for name in settings.sources},
        **{f"listeners.{name}": name for name in settings.listeners},
        **{f"keys.{name}.root": key.root for name, key in settings.keys.items() if key.root},
    }
    faults = [
        Fault(place, f"there is no service {name!r} among those in force")
        for place, name in wanted.items()
        if catalog.get(name) is None
    ]
    if faults:
        raise ConfigurationError(*faults)


# --- keys ---------------------------------------------------------------------------------------------


def declared_keys(settings: Settings) -> Mapping[str, KeyRecord]:
    """The keys of ``[keys.NAME]``, by id.

    Raises:
        ConfigurationError: a hash or key that cannot be read, a permit that makes no sense.
    """
    faults: list[Fault] = []
    records: dict[str, KeyRecord] = {}
    for name, key in settings.keys.items():
        place = f"keys.{name}"
        for permit in key.allow:
            try:
                parse_permit(permit)
            except ValueError as error:
                faults.append(Fault(f"{place}.allow", str(error)))
        try:
            digest = _digest_of(key.hash, f"{place}.hash")
        except ConfigurationError as error:
            faults.extend(error.faults)
            continue
        key_id = f"declared:{name}"
        records[key_id] = KeyRecord(key_id, name, digest, tuple(key.allow), root=key.root, declared=True)
    if faults:
        raise ConfigurationError(*faults)
    return records


def _digest_of(given: bytes | SecretSource | None, place: str) -> bytes:
    if isinstance(given, bytes):
        return given
    if given is None:
        raise ConfigurationError(Fault(place, "is missing"))
    presented = given.read(environment(), place=place).reveal().encode()
    if not keys.is_well_formed(presented):
        raise ConfigurationError(Fault(place, f"{given} holds no proxy key: make one with 'keys generate'"))
    return hashlib.sha256(presented).digest()


# --- vault --------------------------------------------------------------------------------------------


def needs_vault(settings: Settings, catalog: Catalog) -> bool:
    """False when keys are declared and every service has a source of its own: then no disk is touched."""
    return not settings.keys or _has_vaulted(settings, catalog)


def _has_vaulted(settings: Settings, catalog: Catalog) -> bool:
    """True when a service has no source of its own."""
    return any(
        type_id not in settings.sources or settings.sources[type_id].kind == "vault"
        for type_id in catalog.services
    )


def master_key_of(settings: Settings) -> MasterKeySource:
    """Where the master key comes from: the setting, or a file in the data folder.

    Raises:
        ConfigurationError: an environment variable that is named but not set.
        StateError: none is given for a vault in PostgreSQL.
    """
    given = settings.storage.master_key
    if given is None and settings.storage.database_url is not None:
        raise StateError(
            "a vault in PostgreSQL is sealed with a key that all its instances are given: set "
            "CONNECTOR_PROXY_MASTER_KEY or storage.master_key (32 random bytes in base64url)"
        )
    if given is None:
        return KeyFile(settings.storage.data_dir / MASTER_KEY_NAME)
    if given.file is not None:
        return KeyFile(given.file, create=False)
    if given.command is not None:
        return KeyCommand(given.command, helper_environment())
    return GivenKey(given.read(environment(), place="storage.master_key"))


def _database_url(settings: Settings) -> Secret | None:
    given = settings.storage.database_url
    if isinstance(given, SecretSource):
        return given.read(environment(), place="storage.database_url")
    return given


def vault_place(settings: Settings) -> str:
    """Where the vault lies, for people; without user and password of a database.

    Raises:
        ConfigurationError: the database's address is not to be had or makes no sense.
    """
    url = _database_url(settings)
    return str(settings.storage.data_dir) if url is None else DatabaseUrl.parse(url).shown


async def vault_exists(settings: Settings) -> bool:
    """Whether there is a vault; none is made.

    Raises:
        StateError: the database cannot be asked.
        ConfigurationError: its address is not to be had or makes no sense.
    """
    url = _database_url(settings)
    if url is None:
        return (settings.storage.data_dir / VAULT_NAME).exists()
    return await _postgres().exists(url)


def _postgres() -> "type[PostgresStore]":
    from proxy.connectors.postgres import PostgresStore  # noqa: PLC0415  # 0.1 s that only its users pay

    return PostgresStore


async def open_vault(settings: Settings, catalog: Catalog) -> Vault:
    """Open or create the vault, in the data folder or the database.

    Raises:
        StateError: folder, file, database, schema or master key do not allow to go on.
        ConfigurationError: settings that this release cannot follow.
    """
    url = _database_url(settings)
    if url is not None:
        key = master_key_of(settings)  # before the database is asked
        return await Vault.over(await _postgres().open(url), key, catalog=catalog, clock=time.time)
    folder = settings.storage.data_dir
    key_file = folder / MASTER_KEY_NAME
    makes_key = settings.storage.master_key is None and not key_file.exists()
    if settings.storage.require_mount and makes_key and not is_mounted(folder):
        raise StateError(
            f"{folder} is no mount, so a master key made there would go away with the container: "
            "mount a volume there, or give a key as CONNECTOR_PROXY_MASTER_KEY"
        )
    return await Vault.open(folder, master_key_of(settings), catalog=catalog, clock=time.time)


def is_mounted(folder: Path) -> bool:
    """True when the folder, or one above it other than the root, is where a file system is mounted."""
    resolved = folder.resolve()
    return any(path.is_mount() for path in (resolved, *resolved.parents) if path != Path(path.anchor))


# --- apps at providers --------------------------------------------------------------------------------


def declared_registrations(settings: Settings, catalog: Catalog) -> Mapping[str, Registration]:
    """The apps of ``[registrations.ID]``, by id; without those whose services are switched off.

    Raises:
        ConfigurationError: a secret that is not where it should be, an id whose family nobody knows.
    """
    families = {one.oauth.family for one in catalog.services.values() if one.oauth is not None}
    is_narrowed = bool(settings.services.enabled)
    faults: list[Fault] = []
    made: dict[str, Registration] = {}
    for name, given in settings.registrations.items():
        place = f"registrations.{name}"
        family = given.family or _family_of(name, catalog)
        if family not in families:
            what = f"{name} is neither a family nor a service" if family is None else "no service is of it"
            if not is_narrowed:
                faults.append(Fault(f"{place}.family", f"{what}{nearest(family or name, families)}"))
            continue
        try:
            secret = given.client_secret
            read = None if secret is None else secret.read(environment(), place=f"{place}.client_secret")
            made[name] = Registration(name, family, given.client_id or "", read)
        except ConfigurationError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigurationError(*faults)
    return made


def _family_of(name: str, catalog: Catalog) -> str | None:
    """The family that an id names: itself, or that of the service of this name."""
    service = catalog.get(name)
    if service is not None and service.oauth is not None:
        return service.oauth.family
    known = {one.oauth.family for one in catalog.services.values() if one.oauth is not None}
    return name if name in known else None


def token_endpoint(dialer: Dialer) -> TokenEndpoint:
    """The way to providers' token endpoints, under the dialer's egress rules."""
    return TokenEndpoint(lambda url: session_connector(dialer, url), time.time)


# --- sources ------------------------------------------------------------------------------------------


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


def helper_environment() -> dict[str, str]:
    """What helper commands get to see: our environment without our own secrets and settings."""
    return {name: value for name, value in environment().items() if not name.startswith("CONNECTOR_PROXY_")}


def vault_source(vault: Vault | None, catalog: Catalog, refresher: Refresher | None = None) -> Source:
    """The source for services without one of their own; without a refresher tokens are used as they are."""
    if vault is None:
        return Unconnected()
    return VaultSource(vault, catalog=catalog, clock=time.time, refresher=refresher)


def refresher_of(
    settings: Settings,
    catalog: Catalog,
    vault: Vault,
    registrations: Registrations,
    *,
    dialer: Dialer,
    on_event: Callable[[RefreshEvent], None],
) -> Refresher:
    """What keeps the vault's tokens fresh, with a way to token endpoints of its own."""
    return Refresher(
        vault,
        catalog,
        registrations,
        token_endpoint(dialer),
        clock=time.time,
        data_dir=settings.storage.data_dir,
        on_event=on_event,
    )


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
        if _has_vaulted(settings, catalog):
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


# --- webhook ------------------------------------------------------------------------------------------


def webhook_key(settings: Settings) -> bytes | None:
    """What notices are signed with; None where no webhook is set.

    Raises:
        ConfigurationError: the secret is not there, or too short.
    """
    if settings.webhook.url is None or settings.webhook.secret is None:
        return None
    try:
        return signing_key(settings.webhook.secret.read(environment(), place="webhook.secret"))
    except ValueError as error:
        raise ConfigurationError(Fault("webhook.secret", str(error))) from None
