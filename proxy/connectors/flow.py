"""A flow's values, and what is checked about them before anything is stored or sent."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yarl import URL

from proxy.catalog.grants import OAuth
from proxy.catalog.model import Service
from proxy.connectors.model import Connection
from proxy.connectors.oauth.registration import Registration
from proxy.connectors.outcomes import FlowRefused
from proxy.connectors.vault_flows import FlowRow
from proxy.errors import ConfigurationError, Fault
from proxy.secret import Secret

_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words, nothing that looks like a digit
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,500}", re.ASCII)  # RFC 6749 §3.3
_ERROR_CODE = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_SCOPES = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be connected. ``scopes`` None: those of the service's file, if they may be assumed.

    ``params``: values of connection_config and metadata, as a person gave them. ``return_to``: where the
    browser goes in the end, checked by whoever took it from outside (R104).
    """

    service: str
    name: str
    params: Mapping[str, str]
    scopes: tuple[str, ...] | None = None
    registration: str | None = None
    return_to: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A flow that waits for its browser. ``code``: shown by the terminal and by the page, to be compared."""

    flow_id: str
    link: Secret
    code: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow on its way. ``confirmed``: its scopes were chosen or are documented, not merely remembered."""

    row: FlowRow
    service: Service
    code: str
    scopes: tuple[str, ...]
    confirmed: bool
    params: Mapping[str, str]
    return_to: str | None
    actor: str
    redirect_uri: str = ""
    verifier: Secret | None = None

    @property
    def flow_id(self) -> str:
        """Names the flow; no secret."""
        return self.row.flow_id


@dataclass(frozen=True, slots=True)
class Arrived:
    """A callback that stands every check: its code may be exchanged, once.

    ``values``: the other parameters of the redirect, for services that tell something there.
    """

    flow: Flow
    registration: Registration
    code: Secret | None
    values: Mapping[str, str]


def oauth_of(service: Service) -> OAuth:
    """The service's ``[oauth]`` table.

    Raises:
        ConfigurationError: it has none, so only tokens from elsewhere can be stored.
    """
    if service.oauth is None:
        raise ConfigurationError(
            Fault(
                service.type_id,
                f"its file has no [oauth] table, so {service.title} is connected with a token: "
                f"connector-proxy connect {service.type_id} --access-token-stdin < token-file",
            )
        )
    return service.oauth


def redirect_address(public_url: str, registration_id: str) -> str:
    """Where the provider sends the browser back to; one for each registration (R96)."""
    return f"{public_url}/callback/{registration_id}"


def check_public_url(service: Service, public_url: str) -> None:
    """Say, before anybody registers an app, that the provider would not take our address.

    Raises:
        ConfigurationError: with what to do.
    """
    url = URL(public_url)
    if oauth_of(service).loopback_redirect or url.scheme != "http" or url.host not in _LOOPBACK:
        return
    raise ConfigurationError(
        Fault(
            "control.public_url",
            f"{service.title} takes only https redirect addresses, and this is {public_url}: put the control "
            "plane behind an https address and name it here, or connect with a token: "
            f"connector-proxy connect {service.type_id} --access-token-stdin < token-file",
        )
    )


def check_scopes(scopes: Sequence[str], place: str = "--scope") -> tuple[str, ...]:
    """Scopes as they may be sent, each once.

    Raises:
        ConfigurationError: one that no provider can have (RFC 6749 §3.3), or too many.
    """
    kept = tuple(dict.fromkeys(scopes))
    if len(kept) > _MAX_SCOPES or any(_SCOPE.fullmatch(scope) is None for scope in kept):
        raise ConfigurationError(Fault(place, "a scope is printable ASCII without spaces, quotes and \\"))
    return kept


def completed(wish: Wish, service: Service, before: Connection | None) -> Wish:
    """A wish to connect again: what it does not say stays as it was when the connection was made."""
    if before is None:
        return wish
    spellings = {
        name: param.name for param in service.params.values() for name in (param.name, *param.aliases)
    }
    said = {spellings.get(name, name) for name in wish.params}
    kept = {
        name: value
        for name, value in {**before.metadata, **(before.config or {})}.items()
        if name not in said and name in service.params and service.params[name].source == "user"
    }
    return replace(
        wish,
        params={**kept, **wish.params},
        scopes=wish.scopes if wish.scopes is not None else before.asked_scopes or None,
        registration=wish.registration or before.registration,
    )


def new_code() -> str:
    """A short text that two screens show, for a person to compare; no secret."""
    letters = "".join(secrets.choice(_CODE_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def remembered(flow: Flow) -> dict[str, Any]:
    """What a flow keeps sealed in its row."""
    return {
        "code": flow.code,
        "scopes": list(flow.scopes),
        "confirmed": flow.confirmed,
        "params": dict(flow.params),
        "return_to": flow.return_to,
        "actor": flow.actor,
    }


def check_issuer(oauth: OAuth, values: Mapping[str, str]) -> None:
    """RFC 9207 §2.4: where the provider announces it, ``iss`` is there and is the provider (R99).

    Compared as text (RFC 3986 §6.2.1) with the issuer of the service's file; where that names none, with the
    origin of the authorization endpoint.
    """
    told = values.get("iss")
    is_wanted = oauth.iss or (bool(oauth.issuer) and told is not None)
    if is_wanted and told != (oauth.issuer or str(URL(oauth.authorization_url).origin())):
        raise FlowRefused("wrong_issuer")


def check_answer(query: Sequence[tuple[str, str]]) -> None:
    """An error is told by its code alone; a code and an error, or anything twice, is no answer (R102)."""
    counted = [name for name, _ in query if name in {"code", "error", "iss"}]
    if len(counted) != len(set(counted)) or {"code", "error"} <= set(counted):
        raise FlowRefused("malformed_answer")
    error = dict(query).get("error")
    if error is None:
        return
    known = error if _ERROR_CODE.fullmatch(error) is not None else "an error that is no code"
    if known in {"access_denied", "user_cancelled_authorize", "user_cancelled_login", "consent_required"}:
        raise FlowRefused("denied", f"It says: {known}.")
    raise FlowRefused("provider_refused", f"It says: {known}.")
