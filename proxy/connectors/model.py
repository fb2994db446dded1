"""Values of the connectors module: frozen, valid from birth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxy.catalog.model import Scheme
from proxy.secret import Secret

State = Literal["active", "refreshing", "reauthorization_required", "frozen", "disconnected"]


@dataclass(frozen=True, slots=True)
class Connection:
    """One account's stored authorization, without its tokens.

    ``config`` holds only values that requests use (None when the service needs none); ``metadata`` what the
    provider told besides. ``generation`` grows with every change of the tokens. ``scopes`` are those granted,
    ``asked_scopes`` those asked for, ``registration`` the id of the app that the grant was given to (both
    empty for tokens handed in). ``issued_at``: when the access token was given; ``refresh_expires_at``: when
    the refresh token runs out, where the provider tells or its file knows. Times: epoch seconds.
    """

    connection_id: str
    service: str
    name: str
    is_default: bool
    state: State = "active"
    cause: str | None = None
    account: str | None = None
    scopes: tuple[str, ...] = ()
    config: Mapping[str, str] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    scheme: Scheme | None = None
    expires_at: float | None = None
    generation: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0
    registration: str | None = None
    asked_scopes: tuple[str, ...] = ()
    issued_at: float | None = None
    refresh_expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider gave. Times are absolute, in seconds since the epoch; None when unknown.

    ``issued_at`` is when the request for them was begun, so that lifetimes are never counted too long (R125).
    """

    access_token: Secret
    refresh_token: Secret | None = None
    expires_at: float | None = None
    issued_at: float | None = None
    refresh_expires_at: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """What one request needs: handed out by a source, valid when handed out.

    Two credentials are the same only if they are the same object: caches key on identity.
    ``scheme`` overrides the service's own (bot tokens, personal tokens). From ``refresh_at`` (epoch seconds)
    on the source renews it in the background; None where nothing can be renewed. ``listed``: its connection
    is one of ours; not what a request's own headers name, of which there may be any number.
    """

    service: str
    connection_id: str
    connection: str
    access_token: Secret
    config: Mapping[str, str] | None = None
    scheme: Scheme | None = None
    expires_at: float | None = None
    generation: int = 1
    refresh_at: float | None = None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class ConnectorConnection:
    """The contract's answer: ``access_token`` the bare string, ``connection_config`` a string map or None."""

    access_token: str = field(repr=False)
    connection_config: Mapping[str, str] | None
