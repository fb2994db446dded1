"""Signing in through an identity provider (OpenID Connect Core 1.0, authorization code with PKCE).

An :class:`~proxy.control.oidc.attempt.Attempt` lives in the browser's cookie; the provider's documents are
kept by :class:`~proxy.control.oidc.provider.IdentityProvider`; ``identity`` judges the ID token and
``admission`` the address in it; :class:`~proxy.control.oidc.pages.OidcPages` serves all of it.
"""

import time
from collections.abc import Callable

from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.vault import Vault
from proxy.control.attempts import Attempts
from proxy.control.browsers import Cookies
from proxy.control.html import Pages
from proxy.control.oidc.admission import Admission
from proxy.control.oidc.messages import Client
from proxy.control.oidc.pages import ALL_FAILURES, OidcPages
from proxy.control.oidc.provider import IdentityProvider
from proxy.control.signin import SignIn
from proxy.secret import Secret
from proxy.settings.accounts import OIDC_CALLBACK, Oidc


def oidc_pages(
    given: Oidc,
    secret: Secret | None,
    sign_in: SignIn,
    endpoint: TokenEndpoint,
    *,
    vault: Vault,
    pages: Pages,
    cookies: Cookies,
    clock: Callable[[], float] = time.time,
    attempts: Attempts | None = None,
) -> OidcPages:
    """The pages as ``[control.oidc]`` has it, with an issuer and a client id; ``secret``: the client's."""
    redirect_uri = f"{sign_in.ways.public_url}{OIDC_CALLBACK}"
    client = Client(given.client_id or "", secret, given.scopes, redirect_uri)
    admission = Admission(
        given.email_claim,
        given.require_verified_email,
        given.allowed_domains,
        provision=given.provision == "viewer",
    )
    provider = IdentityProvider(given.issuer or "", client, admission, endpoint, clock)
    return OidcPages(
        provider,
        admission,
        vault,
        pages,
        cookies,
        sign_in,
        Attempts(most=ALL_FAILURES) if attempts is None else attempts,
        clock,
    )


__all__ = ["OidcPages", "oidc_pages"]
