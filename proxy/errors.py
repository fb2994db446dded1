"""Everything that can go wrong, as one tree. No status code lives here: see ``problems.py``.

::

    ConnectorProxyError
    ├── SetupError                     the operator's: told at start or by a command, never over HTTP
    │   ├── ConfigurationError         one or more faults in settings, catalog, environment or what was asked
    │   │   ├── MissingError           what it names is not there
    │   │   ├── ForbiddenError         whoever asks may not have that
    │   │   └── ConflictError          what is there does not allow it: a name is taken, a state is another
    │   ├── StateError                 data folder, lock, master key, schema
    │   └── StoreError                 the database failed: full, broken, busy, conflict; the process lives on
    └── RequestError                   has an answer in problems.PROBLEMS
        ├── CallerError                the caller can mend it
        │   ├── BadRequest  AmbiguousTarget  AmbiguousKey  InvalidKey  NotPermitted  CredentialPath
        │   ├── UnknownService  MethodNotAllowed  RequestTimeout  BodyTooLarge  TargetTooLong
        │   └── ExpectationFailed  HeadersTooLarge  UnsupportedTransferCoding  UpgradeUnsupported
        │       UnsupportedWebSocket
        ├── AccountError               a person has to connect or complete an account
        │   └── AmbiguousConnection  NotConnected  ReauthorizationRequired  ConnectionConfigMissing
        ├── UnavailableError           passes by itself; carries ``retry_after``
        │   └── RateLimited  UpstreamCoolingDown  RefreshFailed  RefreshInProgress  Overloaded
        └── UpstreamError              the service's side
            ├── UpstreamUnreachable  UpstreamTls  UpstreamProtocol
            └── AddressRefused  CredentialInvalid  UpstreamTimeout

``detail`` of a RequestError is shown to callers: no host behind the proxy, no token, no key in it.
"""

from dataclasses import dataclass
from typing import Literal


class ConnectorProxyError(Exception):
    """Root of the tree."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration: where, what, and what would be right."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class SetupError(ConnectorProxyError):
    """The operator has to change something before the program can go on."""


class ConfigurationError(SetupError):
    """All faults of a configuration at once; nothing of it has been applied."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class MissingError(ConfigurationError):
    """What was asked about is not there."""


class ForbiddenError(ConfigurationError):
    """Whoever asks may ask for other things, not for this."""


class ConflictError(ConfigurationError):
    """What is there does not allow what was asked: a name is taken, a state is another one."""


class StateError(SetupError):
    """The data folder, its lock, the master key or the schema does not allow to go on."""


StoreReason = Literal["full", "io", "readonly", "busy", "away", "unsure", "corrupt", "conflict", "other"]


class StoreError(SetupError):
    """The database did not do what it was asked; nothing of that transaction is kept.

    Args:
        detail: one sentence, without values of rows.
        reason: what kind of failure; all but ``corrupt`` and ``conflict`` may pass by themselves.
            ``away``: the database server does not answer. ``unsure``: the connection to it broke during the
            commit, so that the change may have been kept after all.
    """

    def __init__(self, detail: str, *, reason: StoreReason = "other") -> None:
        super().__init__(detail)
        self.reason: StoreReason = reason


class RequestError(ConnectorProxyError):
    """A request that gets an answer made by the proxy.

    Args:
        detail: one sentence for the caller.
        retry_after: seconds after which trying again makes sense, or None.
        service: the service's type id once it is known.
        connection: the connection's name once it is known.
    """

    def __init__(
        self,
        detail: str,
        *,
        retry_after: float | None = None,
        service: str | None = None,
        connection: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.service = service
        self.connection = connection


class CallerError(RequestError):
    """The caller can mend the request."""


class BadRequest(CallerError):
    """Not a well-formed HTTP request, or one with two readings (RFC 9112)."""


class AmbiguousTarget(CallerError):
    """The path has dot segments or says different things raw and decoded."""


class AmbiguousKey(CallerError):
    """Two different proxy keys in one request."""


class InvalidKey(CallerError):
    """No key, or one that is unknown, malformed, revoked, expired or from elsewhere."""


class NotPermitted(CallerError):
    """The key is good but has no permit for this call."""


class CredentialPath(CallerError):
    """The path makes, changes or revokes credentials, or takes requests that cannot be judged: for no key."""


class UnknownService(CallerError):
    """The first segment names no service."""


class MethodNotAllowed(CallerError):
    """CONNECT and TRACE are never forwarded."""


class RequestTimeout(CallerError):
    """The head or the body did not arrive in time."""


class BodyTooLarge(CallerError):
    """The request body is over ``limits.body_bytes``."""


class TargetTooLong(CallerError):
    """The request line is over ``limits.request_line``."""


class ExpectationFailed(CallerError):
    """``Expect`` holds something else than ``100-continue``."""


class HeadersTooLarge(CallerError):
    """The header section is over ``limits.header_bytes`` or ``limits.headers``."""


class UnsupportedTransferCoding(CallerError):
    """A transfer coding other than ``chunked``."""


class UpgradeUnsupported(CallerError):
    """A protocol upgrade other than WebSocket is asked for."""


class UnsupportedWebSocket(CallerError):
    """Another version of the WebSocket protocol than 13."""


class AccountError(RequestError):
    """A person has to do something about the account; the answer carries ``connect_url``."""


class AmbiguousConnection(AccountError):
    """Several connections, no default, none named."""


class NotConnected(AccountError):
    """No account is connected for the service."""


class ReauthorizationRequired(AccountError):
    """The stored grant is dead; a person has to connect again."""


class ConnectionConfigMissing(AccountError):
    """The connection lacks a value that the service's address needs."""


class UnavailableError(RequestError):
    """Passes by itself."""


class RateLimited(UnavailableError):
    """The key's own limit."""


class UpstreamCoolingDown(UnavailableError):
    """The service said 429 and its time has not passed."""


class RefreshFailed(UnavailableError):
    """The token could not be fetched or refreshed for now."""


class RefreshInProgress(UnavailableError):
    """The token is being refreshed and the wait was over."""


class Overloaded(UnavailableError):
    """A limit on connections or requests in flight is reached."""


class UpstreamError(RequestError):
    """The service's side failed."""


class UpstreamUnreachable(UpstreamError):
    """Name resolution or connecting failed, or the connection broke before an answer."""


class UpstreamTls(UpstreamError):
    """The service's certificate or TLS handshake is not good."""


class UpstreamProtocol(UpstreamError):
    """The answer is not well-formed HTTP/1.1 or has two readings."""


class AddressRefused(UpstreamError):
    """The name leads only to addresses that must not be dialled."""


class CredentialInvalid(UpstreamError):
    """The stored token or connection_config cannot be used in a request."""


class UpstreamTimeout(UpstreamError):
    """The service did not accept, answer or go on in time."""
