"""How a service grants access, says that it has ended, and proves whose it is: part of ``model``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verified = Literal["live", "documents", "memory"]


@dataclass(frozen=True, slots=True)
class OAuth:
    """Facts for connecting and refreshing; endpoints may hold ``{param}``. Times in seconds.

    ``refresh``: stable | rotating_strict | rotating_lenient | none | remint.
    ``refresh_grace_s``: how long a spent refresh token still works; None when unknown.
    ``answer``: our field name -> dotted path in the token answer, where it is not the standard name;
    ``refresh_answer``: those that the answer to a refresh has elsewhere. ``untold_expiry``: how long a token
    lives when the answer has no expires_in: ``access_lifetime_s``, or for ever.
    Endpoints and params may hold ``{param}`` of the service and ``{client_id}``, ``{redirect_uri}``,
    ``{state}``, ``{scope}`` of the flow. ``revoke_token``: which one is named (as bearer always the access
    token); ``revoke_hint``: with its token_type_hint (RFC 7009 §2.1). ``revoke_shared``: revoking one
    service's token ends the grant of all services of that registration. client_credentials without
    authorization_url: nobody is sent anywhere.
    """

    family: str
    authorization_url: str
    token_url: str
    refresh_url: str = ""
    grant: Literal["authorization_code", "client_credentials"] = "authorization_code"
    client_auth: Literal["basic", "body", "none"] = "body"
    client_id_param: str = "client_id"
    token_body: Literal["form", "json"] = "form"  # noqa: S105  # a choice, not a token
    pkce: Literal["required", "supported", "off"] = "supported"
    iss: bool = False
    issuer: str = ""
    scopes: tuple[str, ...] = ()
    scopes_verified: Verified = "memory"
    scope_param: str = "scope"
    scope_separator: str = " "
    authorization_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    refresh_params: Mapping[str, str] = field(default_factory=dict)
    answer: Mapping[str, str] = field(default_factory=dict)
    refresh_answer: Mapping[str, str] = field(default_factory=dict)
    untold_expiry: Literal["lifetime", "never"] = "lifetime"
    refresh: Literal["stable", "rotating_strict", "rotating_lenient", "none", "remint"] = "stable"
    refresh_grace_s: int | None = None
    access_lifetime_s: int | None = None
    refresh_lifetime_s: int | None = None
    revoke_url: str = ""
    revoke_method: str = "POST"
    revoke_auth: Literal["body", "basic", "bearer", "none"] = "body"
    revoke_body: Literal["form", "json", "none"] = "form"
    revoke_param: str = "token"
    revoke_token: Literal["refresh", "access", "both"] = "refresh"  # noqa: S105  # a choice, not a token
    revoke_hint: bool = False
    revoke_shared: bool = False
    introspect_url: str = ""
    login_hint: str = ""
    loopback_redirect: bool = True


@dataclass(frozen=True, slots=True)
class Dialect:
    """One answer that means something about the grant: a status, and optionally a code at a JSON path.

    ``codes`` empty: the status alone says it. ``path``: see ``jsonpath``.
    ``on`` tells which answers: of ``api`` calls or of the ``token`` endpoint.
    """

    status: int
    path: str = ""
    codes: tuple[str, ...] = ()
    on: Literal["api", "token"] = "api"


@dataclass(frozen=True, slots=True)
class Failure:
    """What means expired (refresh), dead (a person is needed), or neither (never refresh).

    Asked in the order never, dead, expired: the first table with a fitting entry decides.
    """

    expired: tuple[Dialect, ...] = ()
    dead: tuple[Dialect, ...] = ()
    never: tuple[Dialect, ...] = ()


@dataclass(frozen=True, slots=True)
class Verify:
    """A harmless call that proves a token and names the account.

    ``path`` is the upstream path and may have a query; ``host`` empty: the default host. ``*_path``: see
    ``jsonpath``; what ``ok_path`` leads to must be true.
    """

    method: str
    path: str
    host: str = ""
    body: str = ""
    content_type: str = ""
    id_path: str = ""
    name_path: str = ""
    ok_path: str = ""
