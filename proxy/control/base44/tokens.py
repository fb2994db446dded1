"""``getConnection`` and its deprecated twin: an account's access token, for those who may have all of it."""

from dataclasses import dataclass, field

from aiohttp import web

from proxy.connectors.model import Credential
from proxy.control.base44.answers import NOT_CONNECTED, Refusal, document
from proxy.control.base44.asking import Allowance, Asker
from proxy.control.base44.served import Served


@dataclass(frozen=True, slots=True)
class Tokens:
    """The two calls that give a token. Each one given is counted and audited (R64, R157)."""

    served: Served
    allowance: Allowance = field(default_factory=Allowance)

    async def of_type(self, request: web.Request, asker: Asker) -> web.Response:
        """``getConnection(type)``: the service's connection (R165, R172)."""
        service = self.served.service(request.match_info["type"])
        name = asker.connection_of(service.type_id)
        asker.check_whole(service.type_id, name)
        self.allowance.take(asker.key_id)
        found = await self.served.credential(asker, service.type_id, name)
        return await self._given(asker, found, "getConnection")

    async def of_connection(self, request: web.Request, asker: Asker) -> web.Response:
        """``getWorkspaceConnection(id)``: a connection by its id, as ``connections list`` shows it."""
        wanted = request.match_info["id"]
        held = self.served.vault.snapshot.held.get(wanted)
        if held is None or not asker.reaches(held.connection.service):
            raise Refusal(NOT_CONNECTED, "there is no connection with this id: see 'connections list --json'")
        connection = held.connection
        self.allowance.take(asker.key_id)
        found = await self.served.credential(asker, connection.service, connection.name)
        return await self._given(asker, found, "getWorkspaceConnection")

    async def _given(self, asker: Asker, credential: Credential, call: str) -> web.Response:
        await self.served.note_reveal(asker, credential, call)
        return document(
            {
                "access_token": credential.access_token.reveal(),
                "integration_type": credential.service,
                "connection_config": dict(credential.config) if credential.config else None,
            }
        )
