"""The parts of the program, made from settings; shared by the server and the commands."""

from proxy.assembly.credentials import (
    Unconnected,
    base44_of,
    opened_connectors,
    sources_of,
    vault_source,
)
from proxy.assembly.inforce import catalog_of, check_names, declared_keys
from proxy.assembly.providers import declared_registrations, refresher_of, token_endpoint, webhook_key
from proxy.assembly.vaults import (
    helper_environment,
    is_mounted,
    master_key_of,
    needs_vault,
    open_vault,
    vault_exists,
    vault_place,
)

__all__ = [
    "Unconnected",
    "base44_of",
    "catalog_of",
    "check_names",
    "declared_keys",
    "declared_registrations",
    "helper_environment",
    "is_mounted",
    "master_key_of",
    "needs_vault",
    "open_vault",
    "opened_connectors",
    "refresher_of",
    "sources_of",
    "token_endpoint",
    "vault_exists",
    "vault_place",
    "vault_source",
    "webhook_key",
]
