"""``/services/{service}``: from an app at its provider to a connected account."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiMapping
from yarl import URL

from proxy.catalog.model import Service
from proxy.catalog.recipes import Recipe
from proxy.connectors.flow import check_public_url, redirect_address
from proxy.connectors.model import Connection
from proxy.connectors.oauth.messages import needs_browser
from proxy.connectors.oauth.registration import Registration
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.control.dashboard.frame import Frame, MissingPageError, sentences, text_of
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError, Fault
from proxy.operations.accounts import tokens_body
from proxy.operations.connections import SCHEMES, read_tokens
from proxy.operations.registrations import services_of
from proxy.snippets import snippets_of


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One service: its connections, and the steps to another one."""

    frame: Frame
    recipes: tuple[Recipe, ...]

    def add(self, app: web.Application) -> None:
        """Serve it, and what its forms do."""
        here = "/services/{service}"
        self.frame.shown(app, here, self._show)
        self.frame.done(app, f"{here}/app", self._keep_app, back=here)
        self.frame.done(app, f"{here}/app/remove", self._remove_app, back=here)
        self.frame.done(app, f"{here}/import", self._import, back=here)

    def _service(self, request: web.Request) -> Service:
        service = self.frame.ground.catalog().get(request.match_info["service"])
        if service is None:
            raise MissingPageError("There is no service of that name.")
        return service

    async def _show(self, request: web.Request, visitor: Visitor) -> web.Response:
        ground, service = self.frame.ground, self._service(request)
        connections = [one for one in ground.vault.connections() if one.service == service.type_id]
        name = request.query.get("connection", "")
        names = {one.name for one in connections}
        registration = await ground.registrations.shown(service)
        return self.frame.page(
            "service",
            visitor,
            at="services",
            service=service,
            connections=connections,
            source=ground.settings().sources.get(service.type_id),
            name=name or (SOLE_CONNECTION if not names else f"account-{len(names) + 1}"),
            again=name in names,
            params=_params(service),
            known=_known(connections, name),
            schemes=SCHEMES,
            snippets=snippets_of(service, self.recipes, ground.places()),
            **self._app(service, registration),
        )

    def _app(self, service: Service, registration: Registration | None) -> dict[str, Any]:
        """What the page says of the app at the provider; nothing where the service has no OAuth."""
        ground, oauth = self.frame.ground, service.oauth
        if oauth is None:
            return {"oauth": None}
        app_id = oauth.family if registration is None else registration.registration_id
        refused = ""
        try:
            check_public_url(service, ground.public_url)
        except ConfigurationError as error:
            refused = sentences(error)
        taker = Registration(app_id, oauth.family, "not known yet") if registration is None else registration
        titles = [ground.catalog().services[one].title for one in services_of(ground.catalog(), taker)]
        return {
            "oauth": oauth,
            "app": registration,
            "declared": app_id in ground.registrations.declared,
            "redirect": redirect_address(ground.public_url, app_id),
            "shared": [one for one in titles if one != service.title],
            "refused": refused,
            "confirmed": not oauth.scopes or oauth.scopes_verified != "memory",
            "provider": URL(oauth.authorization_url).host or service.title,
            "by_browser": needs_browser(service),
        }

    # --- what its forms do ------------------------------------------------------------------------------

    async def _keep_app(self, request: web.Request, form: MultiMapping[str], visitor: Visitor) -> str:
        """Keep client id and secret; an empty secret field leaves the one that is kept."""
        ground, service = self.frame.ground, self._service(request)
        kept = await ground.registrations.shown(service)
        oauth = service.oauth
        if oauth is None:
            raise ConfigurationError(Fault(service.type_id, "is not connected by OAuth"))
        registration_id = oauth.family if kept is None else kept.registration_id
        client_id, secret = text_of(form, "client_id"), text_of(form, "client_secret")
        if not client_id:
            raise ConfigurationError(Fault("Client id", "is needed: the provider's console shows it"))
        if not secret and kept is not None and kept.client_id == client_id and kept.client_secret:
            secret = kept.client_secret.reveal()
        if not secret and kept is not None and kept.damaged:
            raise ConfigurationError(Fault("Client secret", "is needed: the kept one does not open any more"))
        await ground.operating.by(
            visitor,
            "registrations.set",
            path={"registration": registration_id},
            body={"client_id": client_id, "client_secret": secret or None, "family": oauth.family},
        )
        self.frame.notices.add(visitor, "good", "The app is kept. Now connect an account with it.")
        return f"/services/{service.type_id}#account"

    async def _remove_app(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        ground, service = self.frame.ground, self._service(request)
        kept = await ground.registrations.shown(service)
        if kept is not None:
            path = {"registration": kept.registration_id}
            await ground.operating.by(visitor, "registrations.remove", path=path)
            text = "The app is forgotten. Its connections serve until their tokens end, and are not renewed."
            self.frame.notices.add(visitor, "good", text)
        return f"/services/{service.type_id}"

    async def _import(self, request: web.Request, form: MultiMapping[str], visitor: Visitor) -> str:
        """Store a token that somebody has; what was typed is not repeated."""
        ground, service = self.frame.ground, self._service(request)
        given = {
            name: value
            for name in ("access_token", "refresh_token", "expires_in")
            if (value := text_of(form, name))
        }
        if "access_token" not in given:
            raise ConfigurationError(Fault("Access token", "is needed"))
        granted = read_tokens(json.dumps(given).encode(), now=ground.clock())
        body = {
            "service": service.type_id,
            "name": text_of(form, "name"),
            **tokens_body(granted),
            "config": given_params(form),
            "scheme": text_of(form, "scheme") or None,
        }
        saved = await ground.operating.by(visitor, "connections.import", body=body)
        self.frame.notices.add(visitor, "good", "The token is kept sealed. Verify that the service takes it.")
        return f"/connections/{saved['service']}/{saved['name']}"


def given_params(form: MultiMapping[str]) -> Mapping[str, str]:
    """The values of ``connection_config`` in a form; those left empty are not given."""
    return {
        name.removeprefix("param."): str(value).strip()
        for name, value in form.items()
        if name.startswith("param.") and str(value).strip()
    }


def reconnect_place(service: str, name: str) -> str:
    """The page where that account is connected again."""
    return f"/services/{service}?{urlencode({'connection': name})}#account"


def _params(service: Service) -> list[Mapping[str, object]]:
    """What a person has to say, with what a browser needs to judge it while it is typed."""
    return [
        {
            "name": one.name,
            "title": one.title or one.name,
            "required": one.required,
            "pattern": one.pattern,
            "prefix": one.prefix,
            "lower": one.lower,
            "example": one.example,
            "description": one.description,
        }
        for one in service.params.values()
        if one.source == "user"
    ]


def _known(connections: list[Connection], name: str) -> Mapping[str, str]:
    """The values of the connection that is to be connected again; for another one those of the default."""
    found = next((one for one in connections if one.name == name), None)
    found = found or next((one for one in connections if one.is_default), None)
    return {} if found is None else {**found.metadata, **(found.config or {})}
