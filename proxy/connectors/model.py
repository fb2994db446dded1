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
    provider told besides. ``generation`` grows with every change of the tokens. Times: epoch seconds.
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


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider gave: ``expires_at`` is absolute, in seconds since the epoch; None when unknown."""

    access_token: Secret
    refresh_token: Secret | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """What one request needs: handed out by a source, valid when handed out.

    Two credentials are the same only if they are the same object: caches key on identity.
    ``scheme`` overrides the service's own (bot tokens, personal tokens).
    """

    service: str
    connection_id: str
    connection: str
    access_token: Secret
    config: Mapping[str, str] | None = None
    scheme: Scheme | None = None
    expires_at: float | None = None
    generation: int = 1


@dataclass(frozen=True, slots=True)
class ConnectorConnection:
    """The contract's answer: ``access_token`` the bare string, ``connection_config`` a string map or None."""

    access_token: str = field(repr=False)
    connection_config: Mapping[str, str] | None
