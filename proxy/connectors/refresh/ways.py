"""How a connection gets its next token, by its service's file. Pure."""

from dataclasses import dataclass
from typing import Literal

from proxy.catalog.model import Service
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.oauth.messages import Outgoing, mint_request, refresh_request
from proxy.connectors.oauth.registration import Registration
from proxy.secret import Secret

_KEEPS_WORKING = frozenset({"stable", "rotating_lenient", "remint", "none"})


@dataclass(frozen=True, slots=True)
class Way:
    """``kind``: by refresh token, or minted with the app's own credentials.

    ``grant``: what is spent (marked in the intent). ``repeatable``: asking twice harms nothing, because the
    refresh token outlives its use. ``grace_s``: otherwise, how long a spent one goes on working; 0: unknown.
    """

    kind: Literal["refresh", "mint"]
    grant: Secret
    repeatable: bool
    grace_s: float


def way_of(service: Service | None, connection: Connection, tokens: Tokens | None) -> Way | None:
    """None where nothing can be renewed: no OAuth data, or no refresh token."""
    oauth = None if service is None else service.oauth
    if oauth is None or tokens is None:
        return None
    if oauth.grant == "client_credentials" or oauth.refresh == "remint":
        return Way("mint", tokens.access_token, True, 0.0) if connection.registration else None
    if not tokens.refresh_token or oauth.refresh == "none":
        return None
    grace = float(oauth.refresh_grace_s or 0)
    return Way("refresh", tokens.refresh_token, oauth.refresh in _KEEPS_WORKING, grace)


def request_of(
    way: Way, service: Service, registration: Registration, connection: Connection, tokens: Tokens
) -> Outgoing:
    """The request for the next token.

    Raises:
        ConnectionConfigMissing, CredentialInvalid: the connection lacks a value of the endpoint's address.
    """
    config, scopes = dict(connection.config or {}), connection.asked_scopes
    if way.kind == "mint":
        return mint_request(service, registration, config=config, metadata=connection.metadata, scopes=scopes)
    return refresh_request(
        service,
        registration,
        refresh_token=tokens.refresh_token or Secret(""),
        config={**connection.metadata, **config},
        scopes=scopes,
    )
