"""Where the vault is, and opening it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.catalog.model import Catalog
from proxy.connectors.masterkey import FILE_NAME as MASTER_KEY_NAME
from proxy.connectors.masterkey import GivenKey, KeyCommand, KeyFile, MasterKeySource
from proxy.connectors.postgres_url import DatabaseUrl
from proxy.connectors.sqlite import FILE_NAME as VAULT_NAME
from proxy.connectors.vault import Vault
from proxy.errors import StateError
from proxy.secret import Secret
from proxy.settings import SecretSource, Settings, environment

if TYPE_CHECKING:
    from proxy.connectors.postgres import PostgresStore


def needs_vault(settings: Settings, catalog: Catalog) -> bool:
    """False when keys are declared and every service has a source of its own: then no disk is touched."""
    return not settings.keys or has_vaulted(settings, catalog)


def has_vaulted(settings: Settings, catalog: Catalog) -> bool:
    """True when a service has no source of its own."""
    return any(
        type_id not in settings.sources or settings.sources[type_id].kind == "vault"
        for type_id in catalog.services
    )


def helper_environment() -> dict[str, str]:
    """What helper commands get to see: our environment without our own secrets and settings."""
    return {name: value for name, value in environment().items() if not name.startswith("CONNECTOR_PROXY_")}


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
