"""Tokens that a refresh brought for a connection that was removed meanwhile: they are revoked (R109, R132).

Best effort, in a task of its own, for a short time. Where the provider is not told the grant simply is not
used any more, and whoever removed the connection can end it in the account's settings there.
"""

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.catalog.model import Catalog
from proxy.connectors.audit import About
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.messages import revoke_requests
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.refresh.lease import Claimed
from proxy.connectors.seal import SealBrokenError
from proxy.connectors.sharing import touched
from proxy.connectors.vault import Vault
from proxy.errors import RequestError, StateError, StoreError

LIMIT_S = 8.0
AT_ONCE = 16  # what is over it is left to the provider: thousands removed together make no storm
ACTOR, ACTION = "refresh", "connection.revoke"


@dataclass(slots=True)
class Orphans:
    """See the module. ``catalog`` gives the services in force."""

    vault: Vault
    registrations: Registrations
    endpoint: TokenEndpoint
    catalog: Callable[[], Catalog]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def revoke(self, claimed: Claimed, grant: Grant) -> None:
        """Begin to end a grant that nobody holds here any more. Returns at once."""
        if len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.get_running_loop().create_task(
            self._bounded(claimed, grant), name="revoke an orphan", context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for those under way; each is bounded."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _bounded(self, claimed: Claimed, grant: Grant) -> None:
        connection = claimed.connection
        try:
            async with asyncio.timeout(LIMIT_S):
                if not await self._may_end(claimed, grant):
                    return
                done = await self._told(claimed, grant)
            detail = {"done": done, "removed_during_refresh": True}
            await self.vault.record(ACTOR, ACTION, f"{connection.service}@{connection.name}", detail)
        except (RequestError, StoreError, StateError, SealBrokenError, TimeoutError):
            return

    async def _may_end(self, claimed: Claimed, grant: Grant) -> bool:
        """The same caution as where a person removes a connection; and that person did not say to keep it."""
        connection = claimed.connection
        if self.vault.is_copy or connection.registration is None:
            return False
        tokens = Tokens(grant.tokens.access_token, grant.tokens.refresh_token or claimed.tokens.refresh_token)
        if self.vault.snapshot.find(connection.service, connection.name) is not None:
            return False  # connected anew, perhaps by the same person
        if touched(self.vault.snapshot, self.catalog(), connection, tokens):
            return False
        about = About(action="connection.remove", connection=f"{connection.service}@{connection.name}")
        rows = await self.vault.audit(about=about, limit=1)
        told = rows[0].detail if rows else {}
        return told.get("connection_id") == connection.connection_id and not told.get("keeps_grant")

    async def _told(self, claimed: Claimed, grant: Grant) -> bool:
        connection = claimed.connection
        service = self.catalog().get(connection.service)
        if service is None or service.oauth is None:
            return False
        registration = await self.registrations.find(service, connection.registration)
        if registration is None:
            return False
        tokens = Tokens(grant.tokens.access_token, grant.tokens.refresh_token or claimed.tokens.refresh_token)
        known = {**connection.metadata, **(connection.config or {})}
        requests = revoke_requests(service, registration, tokens, config=known)
        told = [await self.endpoint.tell(request) for request in requests]
        return bool(told) and told[0]
