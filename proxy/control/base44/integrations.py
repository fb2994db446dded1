"""The calls of Base44's command line: ``connectors list-available``, ``initiate``, ``pull``, ``push``."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.catalog.model import Param, Service
from proxy.connectors.flow import Wish, check_scopes
from proxy.connectors.model import Connection, State
from proxy.connectors.oauth.messages import needs_browser
from proxy.connectors.outcomes import FlowRefused
from proxy.control.base44.answers import NOT_CONNECTED, NOT_IN_VAULT, NOT_SET_UP, Refusal, document
from proxy.control.base44.asking import Asker
from proxy.control.base44.served import Served
from proxy.control.bodies import parse_json, read_bytes
from proxy.errors import BadRequest, ConfigurationError

ON_PAGE = "connect-page"
"""The id of an attempt that a person makes on the connect page, where values can be filled in."""
_MAX_BODY = 65_536
_SCOPES_BODY = 'the body must be {"scopes": ["...", ...]}'
_STATUS: Mapping[State, str] = {
    "active": "active",
    "refreshing": "active",
    "frozen": "disconnected",
    "disconnected": "disconnected",
    "reauthorization_required": "expired",
}


@dataclass(frozen=True, slots=True)
class Integrations:
    """The calls, as the command line makes them."""

    served: Served

    async def available(self, _: web.Request, asker: Asker) -> web.Response:  # noqa: ARG002  # one shape for all calls
        """``available-integrations``: all services in force and the values that each wants from a person."""
        services = sorted(self.served.catalog().services.values(), key=lambda one: one.title.lower())
        return document({"integrations": [_described(one) for one in services]})

    async def listing(self, _: web.Request, asker: Asker) -> web.Response:
        """``list``: the app's connections, one a service, of the services that the key is for."""
        found: list[Mapping[str, object]] = []
        for service in self.served.catalog().services.values():
            if not asker.reaches(service.type_id):
                continue
            held = self.served.held(asker, service)
            if held is not None:
                found.append(_shown(held))
            elif self.served.elsewhere(service.type_id):
                found.append({"integration_type": service.type_id, "status": "active", "scopes": []})
        return document({"integrations": found})

    async def begin(self, request: web.Request, asker: Asker) -> web.Response:
        """``PUT integrations/{type}``: the address where a person gives consent for these scopes.

        Scopes replace what was granted; none: those of the service's file, or of the connection.
        """
        service = self.served.service(request.match_info["type"])
        asker.check_whole(service.type_id, asker.connection_of(service.type_id))
        scopes = await _scopes_of(request)
        held = self.served.held(asker, service)
        if self.served.elsewhere(service.type_id):
            return _begun(done=True)
        has_all = held is not None and scopes in (set(), set(_scopes(held)))
        if held is not None and has_all and _STATUS[held.state] == "active":
            return _begun(done=True, connection_id=held.connection_id)
        try:
            return await self._begin(asker, service, held, scopes)
        except ConfigurationError as error:
            raise Refusal(NOT_SET_UP, "; ".join(str(fault) for fault in error.faults)) from None

    async def _begin(
        self, asker: Asker, service: Service, held: Connection | None, scopes: set[str]
    ) -> web.Response:
        name = self.served.name_of(asker, service)
        flows = self.served.connecting.flows
        registration = await flows.registration_for(service)
        asked = tuple(sorted(scopes)) if scopes else None
        if not needs_browser(service):
            given = {} if held is None else {**held.metadata, **(held.config or {})}
            outcome = await self.served.connecting.mint(service, name, registration, given, actor=asker.actor)
            if not outcome.ok:
                raise Refusal(NOT_SET_UP, f"{outcome.title}. {outcome.detail} {outcome.remedy}")
            return _begun(done=True)
        if held is None and any(one.required and one.source == "user" for one in service.params.values()):
            return _begun(
                address=f"{flows.public_url}/connect/{service.type_id}?connection={name}",
                connection_id=ON_PAGE,
            )
        begun = await flows.begin(Wish(service.type_id, name, {}, asked), actor=asker.actor)
        link = f"{flows.public_url}/connect/{service.type_id}?link={begun.link.reveal()}"
        return _begun(address=link, connection_id=begun.flow_id)

    async def status(self, request: web.Request, asker: Asker) -> web.Response:
        """``status``: how far an attempt to connect is."""
        service = self.served.service(request.query.get("integration_type", ""))
        attempt = request.query.get("connection_id", "")
        asker.check_whole(service.type_id, asker.connection_of(service.type_id))
        held = self.served.held(asker, service)
        is_active = held is not None and _STATUS[held.state] == "active"
        if attempt == ON_PAGE or (held is not None and attempt == held.connection_id):
            return document({"status": "ACTIVE" if is_active else "PENDING"})
        row = await self.served.vault.flow(attempt)
        if row is None or row.service != service.type_id:
            raise Refusal(NOT_CONNECTED, "there is no such attempt to connect: begin again")
        try:
            _, outcome = await self.served.connecting.flows.progress(attempt)
        except FlowRefused as refused:
            raise Refusal(NOT_CONNECTED, str(refused)) from None
        if outcome is None:
            return document({"status": "PENDING"})
        return document({"status": "ACTIVE" if outcome.ok else "FAILED"})

    async def remove(self, request: web.Request, asker: Asker) -> web.Response:
        """``DELETE integrations/{type}/remove``: the grant is revoked where that can be, and erased here."""
        service = self.served.service(request.match_info["type"])
        held = self.served.held(asker, service)
        asker.check_whole(service.type_id, held.name if held is not None else None)
        if held is None:
            if self.served.elsewhere(service.type_id):
                text = f"the token of {service.type_id} comes from the settings: [sources.{service.type_id}]"
                raise Refusal(NOT_IN_VAULT, text)
            raise Refusal(NOT_CONNECTED, f"No active connection for {service.type_id}")
        await self.served.disconnect(held, asker.actor)
        return document({"status": "removed", "integration_type": service.type_id})


def _begun(
    *, done: bool = False, address: str | None = None, connection_id: str | None = None
) -> web.Response:
    return document(
        {
            "redirect_url": address,
            "connection_id": connection_id,
            "already_authorized": done,
            "error": None,
            "error_message": None,
            "other_user_email": None,
        }
    )


def _described(service: Service) -> Mapping[str, object]:
    return {
        "integration_type": service.type_id,
        "display_name": service.title,
        "description": f"{service.title}: {service.docs}",
        "connection_config_fields": [
            _field(one) for one in service.params.values() if one.source == "user" and not one.informational
        ],
    }


def _field(param: Param) -> Mapping[str, object]:
    title = param.title or param.name
    return {
        "name": param.name,
        "display_name": title,
        "description": param.description,
        "placeholder": param.example,
        "required": param.required,
        "validation_pattern": f"^(?:{param.pattern})$",
        "validation_error": f"That does not have the form of {title}"
        + (f", for example {param.example}" if param.example else ""),
    }


def _scopes(connection: Connection) -> tuple[str, ...]:
    """Those that were asked for: what is granted may be spelt otherwise, and would never equal a file's."""
    return connection.asked_scopes or connection.scopes


def _shown(connection: Connection) -> Mapping[str, object]:
    shown: dict[str, object] = {
        "integration_type": connection.service,
        "status": _STATUS[connection.state],
        "scopes": list(_scopes(connection)),
    }
    if connection.account and "@" in connection.account:
        shown["user_email"] = connection.account
    return shown


async def _scopes_of(request: web.Request) -> set[str]:
    """The scopes of a body ``{"scopes": [...]}``.

    Raises:
        BadRequest: it is none.
        BodyTooLarge: over ``_MAX_BODY``.
    """
    try:
        scopes = parse_json(await read_bytes(request, _MAX_BODY))["scopes"]
    except (ValueError, LookupError, TypeError):
        raise BadRequest(_SCOPES_BODY) from None
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        raise BadRequest(_SCOPES_BODY)
    try:
        return set(check_scopes(scopes, "scopes"))
    except ConfigurationError as error:
        raise BadRequest(str(error.faults[0])) from None
