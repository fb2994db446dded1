"""Messages to providers, built from a service's ``[oauth]`` table. Nothing here does I/O.

``config`` of every function is the connection's ``connection_config`` and metadata together: an address may
need either (Microsoft's tenant is metadata, Salesforce's login host is not). No secret ever stands in an
address (R106); ``state`` does, because the authorization request is one (RFC 6749 §4.1.1).

Functions raise ConnectionConfigMissing or CredentialInvalid when ``config`` lacks a value or one is unfit.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote_plus, urlencode

from oauthlib.common import add_params_to_uri
from oauthlib.oauth2 import WebApplicationClient

from proxy.catalog.grants import OAuth
from proxy.catalog.model import Service
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.filling import endpoint, fill, oauth_of
from proxy.connectors.oauth.registration import Registration
from proxy.secret import Secret

_VERIFIER_LENGTH = 64  # RFC 7636 §4.1: 43 to 128
_CALLBACK = "callback:"

Kind = Literal["exchange", "refresh", "mint", "revoke"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request to a provider. Its headers and body hold secrets, so neither is ever shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    kind: Kind = "exchange"


# --- the browser's way --------------------------------------------------------------------------------


def new_verifier() -> Secret:
    """A fresh PKCE verifier, one for each attempt (RFC 7636 §4.1)."""
    return Secret(WebApplicationClient("").create_code_verifier(_VERIFIER_LENGTH))


def needs_browser(service: Service) -> bool:
    """False when tokens are bought with the app's own credentials and no person is asked."""
    return bool(oauth_of(service).authorization_url)


def authorization_address(
    service: Service,
    registration: Registration,
    *,
    redirect_uri: str,
    state: Secret,
    verifier: Secret,
    scopes: Sequence[str],
    config: Mapping[str, str],
) -> str:
    """Where the browser is sent (RFC 6749 §4.1.1), with PKCE S256 unless the service's file says off (R94).

    No ``scopes``: the parameter is left out, and the provider decides. A service of ``client_credentials``
    has an installer in place of the authorization endpoint; it gets what its file lists and nothing else.
    """
    oauth = oauth_of(service)
    flow = _flow(oauth, registration, scopes) | {"redirect_uri": redirect_uri, "state": state.reveal()}
    params: dict[str, str] = {}
    if oauth.grant == "authorization_code":
        params = {
            "response_type": "code",
            oauth.client_id_param: registration.client_id,
            "redirect_uri": redirect_uri,
            "state": state.reveal(),
        }
        if scopes:
            params[oauth.scope_param] = flow["scope"]
        if oauth.pkce != "off":
            params["code_challenge"] = _challenge(verifier)
            params["code_challenge_method"] = "S256"
    params |= _filled(service, oauth.authorization_params, config, flow)
    url = endpoint(service, oauth.authorization_url, config, flow)
    return str(add_params_to_uri(url, list(params.items())))


def _challenge(verifier: Secret) -> str:
    return str(WebApplicationClient("").create_code_challenge(verifier.reveal(), "S256"))


def from_callback(service: Service, query: Mapping[str, str]) -> Mapping[str, str]:
    """Connection values that the provider puts into the redirect (``callback:NAME``), unchecked."""
    return {
        param.name: query[param.source.removeprefix(_CALLBACK)]
        for param in service.params.values()
        if param.source.startswith(_CALLBACK) and query.get(param.source.removeprefix(_CALLBACK))
    }


# --- token requests -----------------------------------------------------------------------------------


def exchange_request(
    service: Service,
    registration: Registration,
    *,
    code: Secret,
    redirect_uri: str,
    verifier: Secret,
    config: Mapping[str, str],
    scopes: Sequence[str] = (),
) -> Outgoing:
    """The code for tokens (RFC 6749 §4.1.3). ``scopes``: those asked for, else the file's."""
    oauth = oauth_of(service)
    params = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": redirect_uri,
    }
    if oauth.pkce != "off":
        params["code_verifier"] = verifier.reveal()
    flow = _flow(oauth, registration, scopes or oauth.scopes) | {"redirect_uri": redirect_uri}
    params |= _filled(service, oauth.token_params, config, flow)
    return _token_request(oauth, registration, endpoint(service, oauth.token_url, config, flow), params)


def refresh_request(
    service: Service,
    registration: Registration,
    *,
    refresh_token: Secret,
    config: Mapping[str, str],
    scopes: Sequence[str] = (),
) -> Outgoing:
    """The refresh token for new tokens (RFC 6749 §6). ``scopes``: those asked for when connecting.

    They are sent only where the service's file wants them repeated.
    """
    oauth = oauth_of(service)
    flow = _flow(oauth, registration, scopes or oauth.scopes)
    params = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    params |= _filled(service, oauth.refresh_params, config, flow)
    url = endpoint(service, oauth.refresh_url or oauth.token_url, config, flow)
    return _token_request(oauth, registration, url, params, kind="refresh")


def mint_request(
    service: Service,
    registration: Registration,
    *,
    config: Mapping[str, str],
    metadata: Mapping[str, str],
    scopes: Sequence[str] = (),
) -> Outgoing:
    """A token bought with the app's own credentials (RFC 6749 §4.4), the first one and every later one."""
    oauth = oauth_of(service)
    known = {**metadata, **config}
    flow = _flow(oauth, registration, scopes or oauth.scopes)
    params = {"grant_type": "client_credentials"}
    if flow["scope"]:
        params[oauth.scope_param] = flow["scope"]
    params |= _filled(service, oauth.token_params, known, flow)
    url = endpoint(service, oauth.token_url, known, flow)
    return _token_request(oauth, registration, url, params, kind="mint")


def _token_request(
    oauth: OAuth, registration: Registration, url: str, params: dict[str, str], *, kind: Kind = "exchange"
) -> Outgoing:
    headers = {"Accept": "application/json"}
    if oauth.client_auth == "none":
        params[oauth.client_id_param] = registration.client_id
    else:
        _identify(oauth.client_auth, oauth, registration, params, headers)
    body = _encode(oauth.token_body, params, headers)
    return Outgoing("POST", url, headers, body, kind)


# --- revocation ---------------------------------------------------------------------------------------


def revoke_requests(
    service: Service, registration: Registration, tokens: Tokens, *, config: Mapping[str, str]
) -> tuple[Outgoing, ...]:
    """What ends the grant at the provider (RFC 7009 and its dialects); empty when nothing can.

    The grant is gone when the first of them is accepted; a second one only makes sure. Where
    ``oauth.revoke_shared`` this ends the tokens of every service of the family for that person.
    """
    oauth = oauth_of(service)
    if not oauth.revoke_url:
        return ()
    refresh, access = ("refresh_token", tokens.refresh_token), ("access_token", tokens.access_token)
    which = "access" if oauth.revoke_auth == "bearer" else oauth.revoke_token
    wanted = {"access": (access,), "refresh": (refresh,), "both": (refresh, access)}[which]
    chosen = [(name, token) for name, token in wanted if token] or [("access_token", tokens.access_token)]
    url = endpoint(service, oauth.revoke_url, config, _flow(oauth, registration, ()))
    return tuple(_revocation(oauth, registration, url, name, token) for name, token in chosen)


def _revocation(oauth: OAuth, registration: Registration, url: str, name: str, token: Secret) -> Outgoing:
    headers = {"Accept": "application/json"}
    params = {oauth.revoke_param: token.reveal()} if oauth.revoke_body != "none" else {}
    if oauth.revoke_hint:
        params["token_type_hint"] = name
    if oauth.revoke_auth == "bearer":
        headers["Authorization"] = f"Bearer {token.reveal()}"
    else:
        _identify(oauth.revoke_auth, oauth, registration, params, headers)
    if oauth.revoke_body == "none":
        return Outgoing(oauth.revoke_method, url, headers, b"", "revoke")
    body = _encode(oauth.revoke_body, params, headers)
    return Outgoing(oauth.revoke_method, url, headers, body, "revoke")


# --- parts --------------------------------------------------------------------------------------------


def _flow(oauth: OAuth, registration: Registration, scopes: Sequence[str]) -> dict[str, str]:
    return {"client_id": registration.client_id, "scope": oauth.scope_separator.join(scopes)}


def _filled(
    service: Service, table: Mapping[str, str], config: Mapping[str, str], flow: Mapping[str, str]
) -> dict[str, str]:
    """A table of params; one that comes out empty (``{scope}`` where there are none) is left out."""
    filled = {name: fill(service, text, config, flow) for name, text in table.items()}
    return {name: text for name, text in filled.items() if text}


def _identify(
    way: Literal["basic", "body", "none"],
    oauth: OAuth,
    registration: Registration,
    params: dict[str, str],
    headers: dict[str, str],
) -> None:
    """Say which app is asking (RFC 6749 §2.3.1); one without a secret only names itself (§3.2.1)."""
    secret = registration.client_secret
    if way == "basic" and secret is not None:
        headers["Authorization"] = basic_credentials(registration.client_id, secret)
    elif way != "none":
        params[oauth.client_id_param] = registration.client_id
        if secret is not None:
            params["client_secret"] = secret.reveal()


def basic_credentials(client_id: str, secret: Secret) -> str:
    """An app's id and secret as a value of ``Authorization``, each percent-encoded (RFC 6749 §2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _encode(body: Literal["form", "json"], params: Mapping[str, str], headers: dict[str, str]) -> bytes:
    if body == "json":
        headers["Content-Type"] = "application/json"
        return json.dumps(dict(params), ensure_ascii=True, separators=(",", ":")).encode()
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return urlencode(params).encode()
