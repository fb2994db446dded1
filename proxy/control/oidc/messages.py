"""Messages to an identity provider and what its answers mean (OpenID Connect Core §3.1). Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from oauthlib.common import add_params_to_uri
from oauthlib.oauth2 import WebApplicationClient
from oauthlib.oauth2.rfc6749 import errors as standard

from proxy.connectors.oauth.messages import Outgoing, basic_credentials
from proxy.control.oidc.attempt import Attempt
from proxy.control.oidc.metadata import Metadata
from proxy.control.oidc.refusals import SignInRefused
from proxy.secret import Secret

_VSCHAR = re.compile(r"[ -~]{1,4096}", re.ASCII)  # RFC 6749 appendix A
_ERROR_CODE = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
_DECLINED = frozenset({"access_denied", "user_cancelled", "consent_required", "login_required"})
_CLIENT = frozenset({standard.InvalidClientError.error, standard.UnauthorizedClientError.error})
_JSON: Mapping[str, str] = {"Accept": "application/json"}
_OK, _UNAUTHORIZED, _TOO_MANY, _FIRST_SERVER_ERROR = 200, 401, 429, 500


@dataclass(frozen=True, slots=True)
class Client:
    """The app that is registered at the provider. Without a secret it is a public client."""

    client_id: str
    secret: Secret | None
    scopes: tuple[str, ...]
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Given:
    """What the token endpoint gave."""

    id_token: Secret
    access_token: Secret | None


def authorization_address(metadata: Metadata, client: Client, attempt: Attempt) -> str:
    """Where the browser is sent: a code is asked for, with PKCE S256, state and nonce."""
    challenge = WebApplicationClient("").create_code_challenge(attempt.verifier.reveal(), "S256")
    params = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "scope": " ".join(client.scopes),
        "state": attempt.state.reveal(),
        "nonce": attempt.nonce.reveal(),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return str(add_params_to_uri(metadata.authorization_endpoint, list(params.items())))


def code_of(query: Sequence[tuple[str, str]], metadata: Metadata) -> Secret:
    """The code of an answer whose state is right.

    Raises:
        SignInRefused: it is another provider's, an error, or no answer at all.
    """
    counted = [name for name, _ in query if name in {"code", "error", "iss"}]
    values = dict(query)
    if len(counted) != len(set(counted)) or {"code", "error"} <= set(counted):
        raise SignInRefused("malformed_answer")
    if ("iss" in values or metadata.iss_announced) and values.get("iss") != metadata.issuer:
        raise SignInRefused("wrong_issuer")
    error = values.get("error")
    if error is not None:
        known = error if _ERROR_CODE.fullmatch(error) is not None else "an error that is no code"
        reason = "denied" if known in _DECLINED else "provider_refused"
        raise SignInRefused(reason, f"It says: {known}.", why=known)
    if not values.get("code"):
        raise SignInRefused("malformed_answer")
    return Secret(values["code"])


def token_request(metadata: Metadata, client: Client, code: Secret, attempt: Attempt) -> Outgoing:
    """The code for tokens (§3.1.3.1)."""
    params = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": client.redirect_uri,
        "code_verifier": attempt.verifier.reveal(),
    }
    headers = {**_JSON, "Content-Type": "application/x-www-form-urlencoded"}
    if metadata.client_auth == "basic" and client.secret is not None:
        headers["Authorization"] = basic_credentials(client.client_id, client.secret)
    else:
        params["client_id"] = client.client_id
        if client.secret is not None:
            params["client_secret"] = client.secret.reveal()
    return Outgoing("POST", metadata.token_endpoint, headers, urlencode(params).encode())


def read_tokens(status: int, document: Mapping[str, Any]) -> Given:
    """What the token endpoint's answer gives.

    Raises:
        SignInRefused: the code or the app is refused, or there is no ID token in it.
    """
    error = document.get("error")
    if status != _OK or error is not None:
        known = error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else f"status {status}"
        reason = "provider_refused"
        if known == standard.InvalidGrantError.error:
            reason = "code_refused"
        elif known in _CLIENT or status == _UNAUTHORIZED:
            reason = "client_refused"
        elif is_for_now(status):
            reason = "provider_unreachable"
        raise SignInRefused(reason, f"It says: {known}.", why=known)
    id_token, access_token = document.get("id_token"), document.get("access_token")
    if not isinstance(id_token, str) or not id_token:
        text = "Its token endpoint gave no ID token: openid has to be a scope of the app."
        raise SignInRefused("provider_unreadable", text, why="no id_token")
    usable = isinstance(access_token, str) and _VSCHAR.fullmatch(access_token) is not None
    return Given(Secret(id_token), Secret(str(access_token)) if usable else None)


def is_for_now(status: int) -> bool:
    """Whether a refusal is one that may have passed in a moment."""
    return status >= _FIRST_SERVER_ERROR or status == _TOO_MANY


def get(address: str, access_token: Secret | None = None) -> Outgoing:
    """A plain request for a document, or one for the claims behind an access token (§5.3.1)."""
    headers = dict(_JSON)
    if access_token is not None:
        headers["Authorization"] = f"Bearer {access_token.reveal()}"
    return Outgoing("GET", address, headers, b"")


def leaving_address(metadata: Metadata, client: Client) -> str | None:
    """Where a person ends the provider's own session (RP-Initiated Logout 1.0 §2); None: not offered."""
    if metadata.end_session_endpoint is None:
        return None
    return str(add_params_to_uri(metadata.end_session_endpoint, [("client_id", client.client_id)]))
