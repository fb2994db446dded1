"""What an identity provider tells about itself (OpenID Connect Discovery 1.0), as far as it is used. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proxy.catalog.addresses import is_guarded
from proxy.control.oidc.refusals import SignInRefused

ALGORITHMS: Mapping[str, Mapping[str, str]] = {
    "RS256": {"kty": "RSA"},
    "PS256": {"kty": "RSA"},
    "ES256": {"kty": "EC", "crv": "P-256"},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519"},
}
"""Signatures that count, each with the keys it takes. Never ``none``, and never one with a shared secret."""

ClientAuth = Literal["basic", "post", "none"]
_ADDRESS = re.compile(r"https?://[!#-;=?-\[\]_a-z~]{1,2000}", re.ASCII | re.IGNORECASE)
_SHOWN = re.compile(r"[!-~]{1,300}", re.ASCII)  # Microsoft's for all tenants has {tenantid} in it


@dataclass(frozen=True, slots=True)
class Metadata:
    """A provider's addresses and ways. ``iss_announced``: its answers name it (RFC 9207)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    client_auth: ClientAuth
    iss_announced: bool


def discovery_address(issuer: str) -> str:
    """Where a provider's document is (OpenID Connect Discovery §4.1)."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def read_metadata(document: Mapping[str, Any], issuer: str, *, has_secret: bool) -> Metadata:
    """What the discovery document says.

    Raises:
        SignInRefused: it is another provider's (§4.3), or lacks what signing in takes.
    """
    told = document.get("issuer")
    if told != issuer:
        other = told if isinstance(told, str) and _SHOWN.fullmatch(told) else "nothing that is an address"
        raise _unusable(f"It calls itself {other}, and control.oidc.issuer is {issuer}.")
    return Metadata(
        issuer=issuer,
        authorization_endpoint=_needed(document, "authorization_endpoint"),
        token_endpoint=_needed(document, "token_endpoint"),
        jwks_uri=_needed(document, "jwks_uri"),
        userinfo_endpoint=_address(document, "userinfo_endpoint"),
        end_session_endpoint=_address(document, "end_session_endpoint"),
        client_auth=_client_auth(document, has_secret=has_secret),
        iss_announced=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _needed(document: Mapping[str, Any], name: str) -> str:
    found = _address(document, name)
    if found is None:
        raise _unusable(f"Its discovery document has no https address as {name}.")
    return found


def _address(document: Mapping[str, Any], name: str) -> str | None:
    """An address that may be used: https, or http on this machine."""
    found = document.get(name)
    if not isinstance(found, str) or _ADDRESS.fullmatch(found) is None or not is_guarded(found):
        return None
    return found


def _client_auth(document: Mapping[str, Any], *, has_secret: bool) -> ClientAuth:
    """How to say which app asks; HTTP Basic where the document does not say (OpenID Connect Core §9)."""
    if not has_secret:
        return "none"
    told = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    offered = told if isinstance(told, list) else []
    ways: tuple[tuple[str, ClientAuth], ...] = (
        ("client_secret_basic", "basic"),
        ("client_secret_post", "post"),
    )
    for name, way in ways:
        if name in offered:
            return way
    raise _unusable("It takes neither client_secret_basic nor client_secret_post at its token endpoint.")


def _unusable(detail: str) -> SignInRefused:
    return SignInRefused("provider_unreadable", detail, why=detail)
