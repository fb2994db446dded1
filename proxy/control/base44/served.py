"""What the calls are answered from: the accounts of one app."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.catalog.model import Catalog, Service
from proxy.catalog.reader import nearest
from proxy.connecting import Connecting
from proxy.connectors.model import Connection, Credential
from proxy.connectors.module import Connectors
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.connectors.vault import Vault
from proxy.control.base44.answers import VAULT_UNAVAILABLE, Refusal
from proxy.control.base44.asking import Asker
from proxy.errors import StoreError, UnknownService


@dataclass(frozen=True, slots=True)
class Served:
    """What the calls are answered from.

    Args:
        app_id: the one app that is served now; None: none.
        catalog: the services in force now.
        connectors: where tokens come from now.
        vault: has the accounts and the audit.
        connecting: takes consent to its end.
        disconnect: ends a connection, in the name of an actor.
        elsewhere: True for a service whose token does not come from the vault.
    """

    app_id: Callable[[], str | None]
    catalog: Callable[[], Catalog]
    connectors: Callable[[], Connectors]
    vault: Vault
    connecting: Connecting
    disconnect: Callable[[Connection, str], Awaitable[object]]
    elsewhere: Callable[[str], bool]

    def service(self, type_id: str) -> Service:
        """The service of an integration type.

        Raises:
            UnknownService: there is none.
        """
        catalog = self.catalog()
        found = catalog.get(type_id)
        if found is None:
            hint = nearest(type_id[:100], catalog.services)
            raise UnknownService(f"there is no integration type {type_id[:100]!r}{hint}", service=None)
        return found

    def held(self, asker: Asker, service: Service) -> Connection | None:
        """The connection that the asker means by a service; None: there is none in the vault."""
        found = self.vault.snapshot.find(service.type_id, asker.connection_of(service.type_id))
        return None if found is None else found.connection

    def name_of(self, asker: Asker, service: Service) -> str:
        """The name of that connection, or what it will have."""
        held = self.held(asker, service)
        if held is not None:
            return held.name
        return asker.connection_of(service.type_id) or SOLE_CONNECTION

    async def credential(self, asker: Asker, service: str, connection: str | None) -> Credential:
        """The account's credential, for an asker that may have all of it.

        Raises:
            NotPermitted: it may not; no source was asked where no connection would change that.
            RequestError: as :meth:`Connectors.obtain`.
        """
        asker.check_whole(service, connection)
        connectors = self.connectors()
        found = connectors.ready(service, connection) or await connectors.obtain(service, connection)
        asker.check_whole(service, found.connection)
        return found

    async def note_reveal(self, asker: Asker, credential: Credential, call: str) -> None:
        """The audit row of a token that is about to be given away (R157).

        Raises:
            Refusal: it could not be written, so the token is not given.
        """
        subject = f"{credential.service}@{credential.connection}"
        try:
            await self.vault.record(asker.actor, "token.reveal", subject, {"call": call, "from": asker.peer})
        except StoreError:
            raise Refusal(
                VAULT_UNAVAILABLE,
                "no token is given while the vault cannot note who got it: see the log",
                retry_after=5.0,
            ) from None
