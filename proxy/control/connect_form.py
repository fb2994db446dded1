"""The page on which a person sees what is going to be connected, and says so."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from yarl import URL

from proxy.catalog.model import Service
from proxy.connectors.flow import Flow, oauth_of
from proxy.control.browsers import form_token
from proxy.control.html import Pages
from proxy.secret import Secret


def connect_form(
    pages: Pages,
    service: Service,
    secret: Secret,
    *,
    flow: Flow | None = None,
    fault: str = "",
    name: str = "",
    params: Mapping[str, str] | None = None,
    scopes: tuple[str, ...] | None = None,
    return_to: str | None = None,
    status: int = 200,
) -> web.Response:
    """The page, of a ``flow`` that a link opened or of what was given; ``secret``: what its token is made of.

    Raises:
        ConfigurationError: the service has no OAuth data.
    """
    oauth = oauth_of(service)
    documented = not oauth.scopes or oauth.scopes_verified != "memory"
    values: dict[str, Any] = {
        "code": "",
        "flow_id": "",
        "name": name,
        "params": params or {},
        "confirmed": documented,
        "scopes": oauth.scopes if scopes is None else scopes,
    }
    if flow is not None:
        values |= {
            "code": flow.code,
            "flow_id": flow.flow_id,
            "name": flow.row.name,
            "params": flow.params,
            "confirmed": flow.confirmed,
            "scopes": flow.scopes if scopes is None else scopes,
        }
    return pages.page(
        "connect",
        status=status,
        service=service,
        token=form_token(secret),
        fault=fault,
        provider=URL(oauth.authorization_url).host or service.title,
        asked_params=[one for one in service.params.values() if one.source == "user"],
        return_to=return_to,
        **values,
    )
