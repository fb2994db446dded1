"""The sections that name accounts: apps at providers, who signs people in, keys, who is told news."""
# ruff: noqa: RUF009  # setting() returns dataclass fields

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from proxy.catalog.model import Scheme
from proxy.keys import Network, Rate
from proxy.settings import kinds
from proxy.settings.kinds import SecretSource
from proxy.settings.spec import setting


@dataclass(frozen=True, slots=True)
class Registration:
    """``[registrations.ID]``: an app at a provider; ID is its family (google), a service, or any name."""

    family: str | None = setting(
        kinds.TEXT, None, "Whose app it is, where ID is neither a family nor a service.", example="google"
    )
    client_id: str | None = setting(kinds.TEXT, None, "Client id.", example="1234.apps.googleusercontent.com")
    client_secret: SecretSource | None = setting(
        kinds.SECRET_SOURCE, None, "Client secret.", example={"env": "GOOGLE_CLIENT_SECRET"}
    )


SourceKind = Literal["vault", "static", "command", "base44"]


@dataclass(frozen=True, slots=True)
class Source:
    """``[sources.SERVICE]``: where a service's tokens come from."""

    kind: SourceKind = setting(
        kinds.choice("vault", "static", "command", "base44"),
        "vault",
        "Where the service's tokens come from.",
        example="static",
    )
    token: SecretSource | None = setting(
        kinds.SECRET_SOURCE, None, "static: the access token.", example={"env": "SLACK_TOKEN"}
    )
    command: tuple[str, ...] = setting(
        kinds.TEXTS,
        [],
        "command: program and arguments; it prints JSON with access_token, expires_at, connection_config.",
        example=["/usr/local/bin/token", "slack"],
    )
    connection_config: Mapping[str, str] = setting(
        kinds.CONFIG, {}, "static: the connection's configuration.", example={"subdomain": "acme"}
    )
    scheme: Scheme | None = setting(
        kinds.choice("bearer", "bot", "token", "raw", "basic", "header"),
        None,
        "How the token is sent, when not as the service's file says.",
        example="bot",
    )


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """``[keys.NAME]``: a proxy key that needs no vault; ``hash`` is the SHA-256 or where the whole key is."""

    hash: bytes | SecretSource | None = setting(
        kinds.KEY_HASH,
        None,
        "As `keys generate` prints it, or where the whole key is.",
        example="sha256:" + "0" * 64,
    )
    allow: tuple[str, ...] = setting(
        kinds.TEXTS, [], "Permits: SERVICE[@CONNECTION][:METHODS[:PATH]].", example=["slack", "github:GET"]
    )
    root: str | None = setting(
        kinds.TEXT, None, "Service that addresses without a service go to.", example="slack"
    )
    read_only: bool = setting(
        kinds.FLAG, False, "Adds the word `read-only` to every permit: only what is reviewed as reading."
    )
    rate: Rate | None = setting(kinds.RATE, None, "At most so many requests.", example="10/s")
    concurrency: int = setting(kinds.integer(), 0, "At most so many requests at once; 0: no limit.")
    networks: tuple[Network, ...] = setting(
        kinds.KEY_NETWORKS, [], "Only callers from there.", example=["10.1.0.0/16", "unix"]
    )
    observe: bool = setting(
        kinds.FLAG,
        False,
        "Adds the word `observe` to every permit: all passes, and what they would refuse is noted.",
    )


@dataclass(frozen=True, slots=True)
class Base44:
    """``[base44]``: the remote token endpoint behind sources of kind base44; and ourselves as such a one."""

    app_id: str | None = setting(kinds.TEXT, None, "The app's id.", example="65f0c0ffee")
    url: str = setting(kinds.URL_ORIGIN, "https://base44.app", "The server.")
    token: SecretSource | None = setting(
        kinds.SECRET_SOURCE, None, "Service token.", example={"env": "BASE44_SERVICE_TOKEN"}
    )
    api_urls: tuple[str, ...] = setting(
        kinds.URL_ORIGINS,
        [],
        "Servers that `Base44-Api-Url` of a request may name besides `url`; none listed: a request's "
        "`Base44-*` headers are ignored.",
        example=["https://base44.app"],
    )
    serve_app_id: str | None = setting(
        kinds.TEXT,
        None,
        "The app whose connectors calls (`/api/apps/ID/...` of Base44's SDK and CLI) the control plane "
        "answers, with the accounts of this vault; unset: none.",
        example="65f0c0ffee",
    )


@dataclass(frozen=True, slots=True)
class Webhook:
    """``[webhook]``: where news of connections is sent, such as that a person has to connect one again."""

    url: str | None = setting(
        kinds.URL_ADDRESS,
        None,
        "Gets a signed POST for each piece of news; unset: none is sent.",
        example="https://ops.example.com/hooks/connector-proxy",
    )
    secret: SecretSource | None = setting(
        kinds.SECRET_SOURCE,
        None,
        "What it is signed with: `whsec_` and base64, or a text of 24 bytes or more.",
        example={"env": "WEBHOOK_SECRET"},
    )


OIDC_CALLBACK = "/oidc/callback"
"""Where the identity provider sends browsers back to, behind ``control.public_url``."""


@dataclass(frozen=True, slots=True)
class Oidc:
    """``[control.oidc]``: an identity provider (OpenID Connect) where users sign in to the control plane."""

    issuer: str | None = setting(
        kinds.URL_ADDRESS,
        None,
        "The provider, as its discovery document spells it; unset: none.",
        example="https://accounts.google.com",
    )
    client_id: str | None = setting(
        kinds.TEXT, None, "Client id of the app registered there.", example="1234.apps.googleusercontent.com"
    )
    client_secret: SecretSource | None = setting(
        kinds.SECRET_SOURCE,
        None,
        "Client secret; unset: the app is a public client.",
        example={"env": "OIDC_CLIENT_SECRET"},
    )
    scopes: tuple[str, ...] = setting(kinds.TEXTS, ["openid", "email", "profile"], "What is asked for.")
    label: str = setting(kinds.TEXT, "single sign-on", "What the button says behind `Sign in with`.")
    email_claim: str = setting(kinds.TEXT, "email", "The claim that is compared with users' mail addresses.")
    require_verified_email: bool = setting(
        kinds.FLAG,
        True,
        "Believe an address only with `email_verified`. Switch it off only for a provider where nobody "
        "chooses their own address.",
    )
    allowed_domains: tuple[str, ...] = setting(
        kinds.HOSTS, [], "Only addresses of these domains; none listed: all.", example=["example.com"]
    )
    provision: Literal["none", "viewer"] = setting(
        kinds.choice("none", "viewer"),
        "none",
        "viewer: whoever has an address of `allowed_domains` becomes a user at the first sign-in.",
    )
