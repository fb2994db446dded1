"""Credentials from the vault. Tokens with a known end serve until a second before it, renewed ahead of it."""

from collections.abc import Callable, Mapping

from proxy.catalog.model import Catalog
from proxy.connectors.lifetimes import EXPIRY_S
from proxy.connectors.model import Credential
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.refusals import why_not
from proxy.connectors.vault import Vault
from proxy.errors import (
    AccountError,
    NotConnected,
    ReauthorizationRequired,
    RefreshFailed,
    StateError,
    StoreError,
    UnavailableError,
)


class VaultSource:
    """Every service of the catalog, from the vault's snapshot; without ``refresher`` nothing is renewed."""

    def __init__(
        self,
        vault: Vault,
        *,
        catalog: Catalog,
        clock: Callable[[], float],
        refresher: Refresher | None = None,
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._clock = clock
        self._refresher = refresher
        self._kept: Mapping[str, Credential] = {} if refresher is None else refresher.kept

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """The stored credential while its token lives: a look into memory; near its end a refresh begins."""
        found = self._vault.snapshot.credentials.get((service, connection))
        if found is None:
            return None
        if self._kept and self._refresher is not None:  # the vault's file or server is failing
            newer = self._refresher.unsaved(found)
            if newer is not None:
                return newer
        expires_at = found.expires_at
        if expires_at is None:
            return found
        now = self._clock()
        if now >= expires_at - EXPIRY_S:
            return None
        if found.refresh_at is not None and now >= found.refresh_at and self._refresher is not None:
            self._refresher.due(found)
        return found

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The stored credential, after a look at what other processes changed, refreshed if it has ended.

        Raises:
            AccountError: there is none to give, and what a person has to do.
            RefreshFailed: the store cannot be read, or the provider gives none for now.
            RefreshInProgress: a refresh takes longer than a caller waits.
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
        held = self._vault.snapshot.find(service, connection)
        refresher = self._refresher
        if held is None or refresher is None or self._vault.is_copy:
            raise self._why_not(service, connection)
        if held.connection.state != "active" or not refresher.can_renew(held):
            raise self._why_not(service, connection)
        return await refresher.refreshed(held.connection.connection_id, generation=held.connection.generation)

    async def refused(self, credential: Credential) -> Credential | None:
        """A newer generation of the same connection: stored by someone meanwhile, or from one forced refresh.

        Raises:
            ReauthorizationRequired: the grant is dead, so the refusal will not pass.
        """
        held = self._vault.snapshot.held.get(credential.connection_id)
        if held is None:
            return None
        connection = held.connection
        current = self.ready(connection.service, connection.name)
        if current is not None and current.generation > credential.generation:
            return current
        if connection.state == "reauthorization_required":
            raise self._why_not(connection.service, connection.name)
        if self._refresher is None or connection.state != "active" or not self._refresher.can_renew(held):
            return None
        try:
            return await self._refresher.refreshed(
                connection.connection_id,
                generation=connection.generation,
                forced=connection.generation == credential.generation,
            )
        except ReauthorizationRequired:
            raise
        except (NotConnected, UnavailableError):
            return None

    def stands(self, credential: Credential) -> bool:
        """The connection is neither removed nor frozen, and its grant, if it is dead, is not used up yet."""
        held = self._vault.snapshot.held.get(credential.connection_id)
        return held is not None and held.credential is not None

    async def close(self) -> None:
        """The vault belongs to whoever opened it."""

    def _why_not(self, service: str, connection: str | None) -> AccountError:
        return why_not(self._catalog, self._vault.snapshot, service, connection, is_copy=self._vault.is_copy)
