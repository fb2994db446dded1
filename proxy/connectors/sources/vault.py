"""Credentials from the vault. Tokens with a known end serve until a second before it."""

from collections.abc import Callable

from proxy.catalog.model import Catalog, Service
from proxy.connectors.lifetimes import EXPIRY_S
from proxy.connectors.model import Credential
from proxy.connectors.snapshot import DAMAGED, Held
from proxy.connectors.vault import Vault
from proxy.errors import (
    AccountError,
    AmbiguousConnection,
    NotConnected,
    ReauthorizationRequired,
    RefreshFailed,
    StateError,
    StoreError,
)


class VaultSource:
    """Every service of the catalog, from the vault's snapshot."""

    def __init__(self, vault: Vault, *, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._vault = vault
        self._catalog = catalog
        self._clock = clock

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """The stored credential while its token lives."""
        found = self._vault.snapshot.credentials.get((service, connection))
        if found is None:
            return None
        expires_at = found.expires_at
        return found if expires_at is None or self._clock() < expires_at - EXPIRY_S else None

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The stored credential, after a look at what other processes changed.

        Raises:
            AccountError: there is none to give, and what a person has to do.
            RefreshFailed: the store cannot be read, and nothing in memory will do.
        """
        try:
            await self._vault.catch_up()
        except (StoreError, StateError) as error:
            found = self.ready(service, connection)
            if found is not None:
                return found
            raise RefreshFailed(
                "the vault cannot be read for now", service=service, connection=connection, retry_after=1.0
            ) from error
        found = self.ready(service, connection)
        if found is not None:
            return found
        raise self._why_not(service, connection)

    async def refused(self, credential: Credential) -> Credential | None:
        """A newer generation of the same connection, if someone has stored one."""
        held = self._vault.snapshot.held.get(credential.connection_id)
        if held is None or held.credential is None or held.credential is credential:
            return None
        current = self.ready(held.connection.service, held.connection.name)
        return current if current is not None and current.generation > credential.generation else None

    async def close(self) -> None:
        """The vault belongs to whoever opened it."""

    def _why_not(self, service: str, connection: str | None) -> AccountError:
        known = self._catalog.get(service)
        title = service if known is None else known.title
        needed = _needed_params(known)
        held = self._vault.snapshot.find(service, connection)
        if held is not None:
            return _why_unusable(title, held, needed)
        of_service = self._vault.snapshot.by_service.get(service, ())
        names = ", ".join(repr(one.connection.name) for one in of_service)
        if not of_service:
            return NotConnected(
                f"{title} is not connected: connect an account with "
                f"'connector-proxy connect {service}{needed} --access-token-stdin < token-file'",
                service=service,
                connection=connection,
            )
        if connection is not None:
            return NotConnected(
                f"{title} has no connection {connection!r}, it has {names}",
                service=service,
                connection=connection,
            )
        return AmbiguousConnection(
            f"{title} has several connections and no default: name one of {names} as {service}@NAME, "
            f"or set one with 'connector-proxy connections default {service}@NAME'",
            service=service,
        )


def _needed_params(service: Service | None) -> str:
    """The options without which a service cannot be connected, for a person to fill in."""
    params = () if service is None else service.params.values()
    needed = (param.name for param in params if param.required and not param.informational)
    return "".join(f" --param {name}=..." for name in needed)


def _why_unusable(title: str, held: Held, needed: str) -> AccountError:
    connection = held.connection
    about = f"{connection.service}@{connection.name}"
    again = (
        f"'connector-proxy connect {connection.service} --connection {connection.name}{needed} "
        "--access-token-stdin < token-file'"
    )
    kind: type[AccountError] = ReauthorizationRequired
    if connection.state == "frozen":
        kind, detail = (
            NotConnected,
            f"the connection {about} is frozen ({connection.cause}): an operator has to thaw it",
        )
    elif connection.cause == DAMAGED:
        detail = f"the stored token of {title} ({about}) is damaged: store a new one with {again}"
    elif connection.state == "reauthorization_required":
        detail = f"{title} ({about}) needs a person ({connection.cause}); store a new token with {again}"
    else:
        detail = f"the token of {title} ({about}) has expired; store a new one with {again}"
    return kind(detail, service=connection.service, connection=connection.name)
