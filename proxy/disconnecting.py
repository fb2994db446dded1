"""Ending a connection: the provider is told, best effort and for a short time; here all is erased (R109)."""

import asyncio
from dataclasses import dataclass

from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Connection
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.messages import revoke_requests
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.seal import SealBrokenError
from proxy.connectors.sharing import touched
from proxy.connectors.vault import Vault
from proxy.errors import RequestError

_LIMIT_S = 8.0
_ALL_REVOKED = "is revoked at the provider"


@dataclass(frozen=True, slots=True)
class Revocation:
    """Whether the grant is over at the provider; ``sentence`` is about it and follows "its grant"."""

    done: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Disconnecting:
    """What ends connections. ``wanted`` of :meth:`disconnect`: True and False override what is prudent."""

    vault: Vault
    catalog: Catalog
    registrations: Registrations
    endpoint: TokenEndpoint

    async def disconnect(
        self, connection: Connection, *, wanted: bool | None = None, actor: str
    ) -> Revocation:
        """Tell the provider, then forget the connection and erase its tokens, whatever the provider said.

        Raises:
            ConfigurationError: the connection is gone already.
            StoreError: nothing was removed.
        """
        revocation = await self._revoke(connection, wanted=wanted)
        await self.vault.remove(connection.service, connection.name, keeps_grant=wanted is False, actor=actor)
        subject = f"{connection.service}@{connection.name}"
        await self.vault.record(actor, "connection.revoke", subject, {"done": revocation.done})
        return revocation

    async def _revoke(self, connection: Connection, *, wanted: bool | None) -> Revocation:
        service = self.catalog.get(connection.service)
        why_not = await self._reason(connection, service, wanted=wanted)
        if why_not:
            return Revocation(done=False, sentence=f"was not revoked at the provider: {why_not}")
        assert service is not None  # noqa: S101  # _reason would have said so
        title = service.title
        by_hand = f"revoke the app's access in the account's settings at {title}"
        try:
            registration = await self.registrations.find(service, connection.registration)
        except SealBrokenError:
            registration = None
        if registration is None:
            return Revocation(
                done=False, sentence=f"was not revoked, its app is not registered here: {by_hand}"
            )
        if await self._tell(service, registration, connection):
            return Revocation(done=True, sentence=_ALL_REVOKED)
        return Revocation(
            done=False, sentence=f"could not be revoked, {title} did not accept it in time: {by_hand}"
        )

    async def _reason(
        self, connection: Connection, service: Service | None, *, wanted: bool | None
    ) -> str | None:
        """Why the provider is not told, or None."""
        if wanted is False:
            return "as you said"
        if service is None or service.oauth is None or not service.oauth.revoke_url:
            return "it has no address for that"
        if self.vault.is_copy:
            return "this is a copy of the vault, and the original may still use the grant"
        if connection.registration is None and not wanted:
            return "its token was handed in and may be in use elsewhere (--revoke does it)"
        held = self.vault.snapshot.held.get(connection.connection_id)
        tokens = None if held is None else held.tokens
        others = [] if wanted else touched(self.vault.snapshot, self.catalog, connection, tokens)
        if others:
            return (
                f"that would end the access of {', '.join(others)} too, if it is the same account "
                "(--revoke does it)"
            )
        return None

    async def _tell(self, service: Service, registration: Registration, connection: Connection) -> bool:
        held = self.vault.snapshot.held.get(connection.connection_id)
        if held is None or held.tokens is None:
            return False
        known = {**connection.metadata, **(connection.config or {})}
        try:
            requests = revoke_requests(service, registration, held.tokens, config=known)
            async with asyncio.timeout(_LIMIT_S):
                told = [await self.endpoint.tell(request) for request in requests]
        except (RequestError, TimeoutError):
            return False
        return bool(told) and told[0]
